"""Time and memory against the number of boxes of an image and the number of slices of a volume.

Boxes tile a real mammogram, so that more of them are smaller; one object lies on all slices of a
real CT. Each run is a fresh process of `predict.sh`, as in the image and without a cache of
compiled models.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness.command import Command
from benchmarks.harness.measured import check_status
from benchmarks.harness.options import add_choices, add_count, add_path
from benchmarks.harness.process import run_predict_script
from benchmarks.harness.record import RESULTS_DIR, write_record
from benchmarks.harness.table8 import resample_volume
from qmedsam.batch.cases import read_case
from qmedsam.batch.progress import ProgressBar
from qmedsam.config import PRECISIONS

DEFAULT_DATA = Path("../shared/data/speed")
IMAGE, VOLUME = "2DBox_Mammography_demo.npz", "3DBox_CT_LIDC72.npz"
BOXES = (1, 3, 10, 30, 100, 300, 1000)
SLICES = (1, 3, 10, 30, 100, 300)
SLICE_HW = (512, 512)


def tile_boxes(height: int, width: int, count: int) -> NDArray[np.float32]:
    """Return boxes (N, 4) that cover an image without overlap, the last row perhaps in part."""
    columns = max(1, round((count * width / height) ** 0.5))
    rows = -(-count // columns)
    y, x = np.mgrid[:rows, :columns].reshape(2, -1)[:, :count]
    corners = np.stack([x, y, x + 1, y + 1], axis=1)
    return (corners * np.array([width / columns, height / rows] * 2)).astype(np.float32)


def image_case(folder: Path, count: int) -> dict[str, NDArray[Any]]:
    """Return the members of an image with `count` boxes."""
    image = read_case(folder / IMAGE).pixels
    return {"imgs": image, "boxes": tile_boxes(*image.shape[:2], count)}


def volume_case(folder: Path, count: int) -> dict[str, NDArray[Any]]:
    """Return the members of a volume with one object on all of its `count` slices."""
    volume = resample_volume(read_case(folder / VOLUME).pixels, (count, *SLICE_HW))
    return {"imgs": volume, "boxes": np.array([[150, 180, 0, 330, 340, count - 1]])}


def measure_case(members: dict[str, NDArray[Any]], precision: str, runs: int) -> dict[str, float]:
    """Return median seconds and largest memory of fresh processes on one case.

    Raises:
        RunError: a process failed.
    """
    with tempfile.TemporaryDirectory() as scratch:
        inputs, outputs = Path(scratch) / "in", Path(scratch) / "out"
        inputs.mkdir()
        np.savez_compressed(inputs / "case.npz", **members)
        options = ["--quiet", "--variant", "int8", "--precision", precision]
        made = [run_predict_script(inputs, outputs, options=options) for _ in range(runs)]
    for one in made:
        check_status(one)
    return {
        "s": statistics.median(one.wall_s for one in made),
        "peak_mb": max(one.peak_bytes for one in made) / 1e6,
    }


def measure_curves(
    folder: Path, precisions: Sequence[str], runs: int
) -> dict[str, dict[str, list[dict[str, float]]]]:
    """Return by what is counted and by precision the points of a curve."""
    kinds = {"boxes": (BOXES, image_case), "slices": (SLICES, volume_case)}
    bar = ProgressBar(
        len(precisions) * sum(len(counts) for counts, _ in kinds.values()), sys.stderr
    )
    curves: dict[str, dict[str, list[dict[str, float]]]] = {}
    for kind, (counts, case_of) in kinds.items():
        curves[kind] = {precision: [] for precision in precisions}
        for count in counts:
            members = case_of(folder, count)
            for precision in precisions:
                point = {"count": count, **measure_case(members, precision, runs)}
                curves[kind][precision].append(point)
                bar.advance(f"{count} {kind}, {precision}")
                print(f"{count} {kind}, {precision}: {point['s']:.2f} s, {point['peak_mb']:.0f} MB")
    bar.close()
    return curves


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the data, precisions and how often."""
    add_path(parser, "--data", DEFAULT_DATA, "of real cases")
    text = "of the layers that are not in int8"
    add_choices(parser, "--precision", PRECISIONS, text, default=("f32", "bf16"))
    add_count(parser, "--runs", 3)


def run(arguments: argparse.Namespace) -> int:
    """Measure both curves, print their points and write the record."""
    curves = measure_curves(arguments.data, arguments.precision, arguments.runs)
    write_record(arguments.json, {"runs": arguments.runs, "curves": curves})
    return 0


COMMAND = Command(
    "curves",
    __doc__,
    run,
    add_options,
    record=RESULTS_DIR / "curves.json",
    selecting=("precision",),
)
