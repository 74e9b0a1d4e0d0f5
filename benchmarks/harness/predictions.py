"""The cases of a data folder `ROOT/<Modality>/*.npz`, and what a method makes of them on disk."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness.options import add_path
from qmedsam.batch.case_file import BOXES_KEY, open_case
from qmedsam.batch.cases import Case, read_case, write_label_map
from qmedsam.batch.progress import ProgressBar
from qmedsam.model.manifest import file_sha256
from qmedsam.system.files import write_bytes

DEFAULT_ROOT = Path("../shared/data/val")
DEFAULT_WORK_DIR = Path("runs/predictions")
WEIGHTS_MARK = "weights.sha256"

Predict = Callable[[Case], NDArray[np.unsignedinteger]]


@dataclass(frozen=True)
class Method:
    """One way to turn cases into label maps.

    Attributes:
        key: names its folder of predictions.
        title: heads its column.
        weights: file that tells one model from another, a manifest or a checkpoint.
        load: makes it ready; called only when something is to be predicted.
    """

    key: str
    title: str
    weights: Path
    load: Callable[[], Predict]


def case_paths(root: Path, kind: str = "all") -> list[Path]:
    """Return the cases in folders below `root` that are images (2D), volumes (3D) or all.

    The folder that a case lies in is its modality, or a data set of that.

    Raises:
        FileNotFoundError: there are none.
    """
    columns = {"2D": (4,), "3D": (6,), "all": (4, 6)}[kind]
    paths = []
    for path in sorted(root.glob("**/*/*.npz")):
        with open_case(path) as case:
            if case.header(BOXES_KEY).shape[-1] in columns:
                paths.append(path)
    if not paths:
        raise FileNotFoundError(f"{root} must hold <Modality>/*.npz of kind {kind}, got none")
    return paths


def predict_cases(method: Method, paths: Sequence[Path], work_dir: Path) -> Path:
    """Write the label map of every case to `work_dir`/<key>/<Modality>/, keeping what is there.

    Returns:
        The folder of the method.

    Raises:
        FileExistsError: what is there was made with other weights.
    """
    digest, folder = file_sha256(method.weights), work_dir / method.key
    mark = folder / WEIGHTS_MARK
    is_new = not any(folder.glob("*/*.npz"))
    if not is_new and not (mark.is_file() and mark.read_text() == digest):
        raise FileExistsError(f"{folder} holds label maps of other weights; delete it")
    folder.mkdir(parents=True, exist_ok=True)
    write_bytes(mark, digest.encode())
    missing = [path for path in paths if not (folder / path.parent.name / path.name).is_file()]
    if not missing:
        return folder
    predict = method.load()
    bar = ProgressBar(len(missing), sys.stderr)
    for path in missing:
        target = folder / path.parent.name / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        write_label_map(target, predict(read_case(path)))
        bar.advance(f"{method.title}: {path.name}")
    bar.close()
    return folder


def add_data_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that every scoring command has."""
    add_path(parser, "--data", DEFAULT_ROOT, "folder of modalities")
    add_work_dir(parser)


def add_work_dir(parser: argparse.ArgumentParser) -> None:
    """Add where label maps are kept."""
    add_path(
        parser,
        "--work-dir",
        DEFAULT_WORK_DIR,
        "label maps are kept here and not made again; delete it after a change of code or model",
    )
