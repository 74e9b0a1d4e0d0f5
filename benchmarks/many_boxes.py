"""Peak memory and seconds of one image with as many boxes as an 8-bit label map holds.

    python -m benchmarks.many_boxes

The image's area is tiled with boxes; each run is a fresh process of the command, and the figures
are those of its report. The model is compiled once before the runs that count.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from inference.cases import read_case
from inference.cli import at_least
from inference.config import PRECISIONS

DEFAULT_IMAGE = Path("../shared/data/speed/2DBox_Mammography_demo.npz")
ROWS, COLUMNS = 17, 15


def tile_boxes(height: int, width: int) -> NDArray[np.float32]:
    """Return 255 boxes (N, 4) that cover an image without overlap."""
    y, x = np.mgrid[:ROWS, :COLUMNS].reshape(2, -1)
    corners = np.stack([x, y, x + 1, y + 1], axis=1)
    extent = np.array([width / COLUMNS, height / ROWS] * 2)
    return (corners * extent).astype(np.float32)


def run_once(folder: Path, precision: str) -> dict[str, float]:
    """Run the command on `folder`/in and return seconds of start and case, and peak bytes."""
    report = folder / "report.json"
    command = [sys.executable, "-m", "inference", "--quiet", "--precision", precision]
    places = ["-i", folder / "in", "-o", folder / "out", "--cache-dir", folder / "cache"]
    subprocess.run([*command, *places, "--report", report], check=True)
    document = json.loads(report.read_text())
    return {
        "start_s": document["start_s"],
        "case_s": document["cases"][0]["total_s"],
        "decode_s": document["cases"][0]["seconds"]["decode"],
        "peak_mb": document["peak_memory_bytes"] / 1e6,
    }


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of `python -m benchmarks.many_boxes`."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.many_boxes", description=__doc__)
    parser.add_argument(
        "--image", type=Path, default=DEFAULT_IMAGE, help="case to take (default: %(default)s)"
    )
    parser.add_argument(
        "--precision",
        nargs="+",
        choices=PRECISIONS,
        default=["f32", "bf16"],
        help="(default: both)",
    )
    parser.add_argument(
        "--runs", type=at_least(1), default=5, help="that count (default: %(default)s)"
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Print the median of each figure by precision."""
    arguments = build_parser().parse_args(argv)
    image = read_case(arguments.image).pixels
    boxes = tile_boxes(*image.shape[:2])
    print(f"{len(boxes)} boxes, image {image.shape}, {arguments.runs} runs, medians (min-max)")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "in").mkdir()
        np.savez_compressed(folder / "in" / "case.npz", imgs=image, boxes=boxes)
        for precision in arguments.precision:
            run_once(folder, precision)
            runs = [run_once(folder, precision) for _ in range(arguments.runs)]
            for figure in runs[0]:
                values = [run[figure] for run in runs]
                spread = f"{min(values):.2f}-{max(values):.2f}"
                print(f"{precision} {figure}: {statistics.median(values):.2f} ({spread})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
