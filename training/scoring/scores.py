"""Scores of a folder of predictions: pairs of files, several processes, averages.

A case without a usable prediction scores 0, as a case that a run lost would.
"""

from __future__ import annotations

import math
import multiprocessing
import re
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qmedsam import InvalidCaseError
from qmedsam.batch.case_file import GTS_KEY, SEGS_KEY, SPACING_KEY, CaseFile, open_case
from qmedsam.batch.cases import CASE_SUFFIX
from qmedsam.batch.progress import ProgressBar
from training.scoring.metrics import CaseScore, Mode, score_case

LARGEST_LABEL = np.iinfo(np.uint16).max
# How the challenge's file names spell the modalities, as they begin, in lower case.
SPELLINGS = {
    "ct": "CT",
    "mr": "MR",
    "pet": "PET",
    "us": "US",
    "ultra": "US",
    "x-ray": "XRay",
    "xray": "XRay",
    "cxr": "XRay",
    "derm": "Dermoscopy",
    "endo": "Endoscopy",
    "fundus": "Fundus",
    "mamm": "Mammography",
    "micro": "Microscopy",
    "oct": "OCT",
}
UNKNOWN_MODALITY = "unknown"


class EvaluationError(Exception):
    """A folder cannot be scored at all, or a file of truth is broken."""


@dataclass(frozen=True)
class Pair:
    """The truth of one case and where its prediction should be."""

    modality: str
    truth: Path
    prediction: Path

    @property
    def name(self) -> str:
        """File name without its ending."""
        return self.truth.stem


@dataclass(frozen=True)
class ScoredCase:
    """Scores of one case by mode.

    Attributes:
        error: why the prediction could not be used; its scores are then 0, without labels.
    """

    modality: str
    name: str
    scores: dict[Mode, CaseScore]
    error: str | None = None


def modality_of(name: str) -> str:
    """Read the modality from a file name of the challenge, such as `2DBox_X-Ray_0053`."""
    stem = re.sub(r"^[23]d(box)?_", "", name.lower())
    for spelling, modality in SPELLINGS.items():
        if stem.startswith(spelling):
            return modality
    return UNKNOWN_MODALITY


def find_pairs(truth: Path, predictions: Path) -> list[Pair]:
    """Pair every file of truth with its prediction, at the same place or flat in the folder.

    Hidden files are left out.

    The modality is the first folder below `truth`, else what the file's name says.

    Raises:
        EvaluationError: a folder is missing, or there is no truth in it.
    """
    for folder in (truth, predictions):
        if not folder.is_dir():
            raise EvaluationError(f"{folder} must be a folder, got none")
    found = (path for path in truth.rglob(f"*{CASE_SUFFIX}") if not path.name.startswith("."))
    paths = sorted(path for path in found if path.is_file())
    if not paths:
        raise EvaluationError(f"{truth} must hold {CASE_SUFFIX} files, got none")
    pairs = []
    for path in paths:
        place = path.relative_to(truth)
        modality = place.parts[0] if len(place.parts) > 1 else modality_of(place.name)
        flat = predictions / place.name
        is_flat = flat.is_file() and not (predictions / place).is_file()
        pairs.append(Pair(modality, path, flat if is_flat else predictions / place))
    return pairs


def score_pair(pair: Pair, modes: Sequence[Mode]) -> ScoredCase:
    """Score one prediction.

    Raises:
        EvaluationError: the truth cannot be read.
    """
    truth, spacing_mm = read_truth(pair.truth)
    try:
        if not pair.prediction.is_file():
            raise InvalidCaseError("Prediction is missing")
        with open_case(pair.prediction) as opened:
            predicted = _label_map(opened, SEGS_KEY)
        if predicted.shape != truth.shape:
            raise InvalidCaseError(
                f"Prediction must have shape {truth.shape}, got {predicted.shape}"
            )
    except InvalidCaseError as error:
        lost = CaseScore(0.0, 0.0, ())
        message = f"{pair.prediction}: {error}"
        return ScoredCase(pair.modality, pair.name, dict.fromkeys(modes, lost), message)
    scores = {
        mode: score_case(truth, predicted, spacing_mm=spacing_mm, mode=mode) for mode in modes
    }
    return ScoredCase(pair.modality, pair.name, scores)


def score_pairs(
    pairs: Sequence[Pair], modes: Sequence[Mode], *, workers: int, title: str = ""
) -> list[ScoredCase]:
    """Score predictions in several processes, largest first; the result is in the pairs' order.

    Raises:
        EvaluationError: a file of truth cannot be read.
    """
    bar = ProgressBar(len(pairs), sys.stderr)
    by_size = sorted(range(len(pairs)), key=lambda i: -pairs[i].truth.stat().st_size)
    scored: dict[int, ScoredCase] = {}
    # Not forked: the caller may run a network, and a fork inherits its locks but not its threads.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=workers, mp_context=context) as pool:
        futures = {pool.submit(score_pair, pairs[i], modes): i for i in by_size}
        try:
            for future in as_completed(futures):
                scored[futures[future]] = future.result()
                bar.advance(f"{title} {pairs[futures[future]].name}".strip())
        finally:
            pool.shutdown(cancel_futures=True)
            bar.close()
    return [scored[i] for i in range(len(pairs))]


def mean_of_cases(cases: Sequence[ScoredCase], mode: Mode, metric: str) -> float:
    """Return the mean of `dsc` or `nsd` over the cases that have a value; NaN without any."""
    values = [getattr(case.scores[mode], metric) for case in cases]
    defined = [value for value in values if not math.isnan(value)]
    return float(np.mean(defined)) if defined else float("nan")


def by_modality(cases: Sequence[ScoredCase]) -> dict[str, list[ScoredCase]]:
    """Group cases, modalities in the order of the alphabet."""
    modalities = sorted({case.modality for case in cases})
    return {name: [case for case in cases if case.modality == name] for name in modalities}


def mean_of_modalities(cases: Sequence[ScoredCase], mode: Mode, metric: str) -> float:
    """Return the mean over modalities of their means over cases, as the leaderboard averages."""
    means = [mean_of_cases(group, mode, metric) for group in by_modality(cases).values()]
    defined = [value for value in means if not math.isnan(value)]
    return float(np.mean(defined)) if defined else float("nan")


def read_truth(path: Path) -> tuple[NDArray[np.integer], list[float] | None]:
    """Return the label map of truth and its spacing (z, y, x); files have (x, y, z).

    Raises:
        EvaluationError: it cannot be read; the message names the file.
    """
    try:
        return _read_truth(path)
    except InvalidCaseError as error:
        raise EvaluationError(f"{path}: {error}") from error


def _read_truth(path: Path) -> tuple[NDArray[np.integer], list[float] | None]:
    with open_case(path) as opened:
        truth = _label_map(opened, GTS_KEY)
        if not opened.has(SPACING_KEY):
            return truth, None
        spacing = opened.array(SPACING_KEY).ravel()
    if spacing.dtype.kind not in "iuf":
        raise InvalidCaseError(f"Spacing must be three positive numbers, got {spacing.dtype}")
    spacing_mm = spacing.astype(np.float64)
    if spacing_mm.size != 3 or not np.all(np.isfinite(spacing_mm) & (spacing_mm > 0)):
        raise InvalidCaseError(f"Spacing must be three positive numbers, got {spacing_mm.tolist()}")
    return truth, spacing_mm[::-1].tolist()


def _label_map(opened: CaseFile, key: str) -> NDArray[np.integer]:
    label_map = opened.array(key)
    if label_map.dtype.kind not in "iub":
        raise InvalidCaseError(f"{key!r} must be integers, got {label_map.dtype}")
    if label_map.ndim not in (2, 3) or label_map.size == 0:
        raise InvalidCaseError(f"{key!r} must be (H, W) or (D, H, W), got {label_map.shape}")
    low, high = int(label_map.min()), int(label_map.max())
    if low < 0 or high > LARGEST_LABEL:
        raise InvalidCaseError(
            f"{key!r} must have labels 0 to {LARGEST_LABEL}, got {low} to {high}"
        )
    return label_map.astype(np.uint8) if label_map.dtype == bool else label_map
