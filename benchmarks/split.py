"""The scored cases of a data folder, by modality, and tables of a score per modality."""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.metrics import case_dsc

DEFAULT_ROOT = Path("../shared/data/val")


@dataclass(frozen=True)
class ScoredCase:
    """A case with its truth.

    Attributes:
        pixels: image or volume, uint8.
        boxes: (N, 4) or (N, 6).
        truth: label map of the same extent.
    """

    modality: str
    name: str
    pixels: NDArray[np.uint8]
    boxes: NDArray[np.generic]
    truth: NDArray[np.integer]


Predict = Callable[[ScoredCase], NDArray[np.integer]]
Scores = dict[str, dict[str, list[float]]]


def scored_cases(root: Path, kind: str = "2D") -> Iterator[ScoredCase]:
    """Read every case of `root`/<Modality>/*.npz whose boxes are of the kind: 2D, 3D or all."""
    columns = {"2D": (4,), "3D": (6,), "all": (4, 6)}[kind]
    for path in sorted(root.glob("*/*.npz")):
        with np.load(path, allow_pickle=False) as archive:
            if archive["boxes"].shape[1] in columns:
                yield ScoredCase(
                    path.parent.name,
                    path.name,
                    archive["imgs"],
                    archive["boxes"],
                    archive["gts"],
                )


def add_data_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that every scoring command has."""
    parser.add_argument(
        "--data",
        type=Path,
        default=DEFAULT_ROOT,
        help="folder of modalities (default: %(default)s)",
    )
    parser.add_argument("--json", type=Path, help="also write the scores of each case here")


def score_methods(cases: Iterable[ScoredCase], methods: Mapping[str, Predict]) -> Scores:
    """Predict each case by each method, and say on standard error which case is done.

    Returns:
        DSC of each case by modality by method.
    """
    scores: Scores = {name: defaultdict(list) for name in methods}
    for case in cases:
        for name, predict in methods.items():
            scores[name][case.modality].append(case_dsc(case.truth, predict(case)))
        print(f"{case.modality}/{case.name}", file=sys.stderr)
    return scores


def markdown_table(scores: Scores) -> str:
    """Write mean DSC in percent by modality (rows) and method (columns).

    Args:
        scores: DSC of each case by modality by method.
    """
    methods = list(scores)
    modalities = sorted({modality for by_modality in scores.values() for modality in by_modality})
    lines = [
        "| modality | cases | " + " | ".join(methods) + " |",
        "|---" * (2 + len(methods)) + "|",
    ]
    means: dict[str, list[float]] = {method: [] for method in methods}
    for modality in modalities:
        cells = []
        for method in methods:
            value = 100 * float(np.mean(scores[method][modality]))
            means[method].append(value)
            cells.append(f"{value:.2f}")
        cases = len(scores[methods[0]][modality])
        lines.append(f"| {modality} | {cases} | " + " | ".join(cells) + " |")
    macro = " | ".join(f"{np.mean(means[method]):.2f}" for method in methods)
    lines.append(f"| mean of modalities | | {macro} |")
    return "\n".join(lines)
