"""Many small cases in one process: seconds, memory, open files and threads as they go by.

    python -m benchmarks.soak

The process is looked at from outside while it runs.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness.command import add_record_option, keep_record, run_command
from benchmarks.harness.measured import RunError
from benchmarks.harness.process import ROOT
from benchmarks.harness.record import RESULTS_DIR, write_record
from qmedsam.batch.progress import ProgressBar
from qmedsam.options import at_least

DEFAULT_RECORD = RESULTS_DIR / "soak.json"
POINTS = 300
DIFFERENT = 50  # cases; the others are links to them


def write_cases(folder: Path, count: int) -> None:
    """Write small images of several sizes and a short volume among ten, with few boxes."""
    generator = np.random.default_rng(0)
    for number in range(count):
        path = folder / f"{number:05}.npz"
        if number >= DIFFERENT:
            os.link(folder / f"{number % DIFFERENT:05}.npz", path)
            continue
        height, width = generator.integers(40, 300, 2)
        corners = generator.integers(0, [width, height], (2, int(generator.integers(1, 6)), 2))
        boxes = np.concatenate([corners.min(0), corners.max(0)], axis=1)
        shape: tuple[int, ...] = (height, width, 3)
        if number % 10 == 9:
            shape = (3, height, width)
            zeros = np.zeros((len(boxes), 1), dtype=np.int64)
            boxes = np.hstack([boxes[:, :2], zeros, boxes[:, 2:], zeros + 2])
        pixels = generator.integers(0, 256, shape, dtype=np.uint8)
        np.savez_compressed(path, imgs=pixels, boxes=boxes)


def look_at(process: int) -> dict[str, float]:
    """Return resident memory, open files and threads of a process.

    Raises:
        OSError: it has ended.
    """
    folder = Path("/proc") / str(process)
    status = dict(
        line.split(":", 1) for line in (folder / "status").read_text().splitlines() if ":" in line
    )
    if "VmRSS" not in status:
        raise ProcessLookupError(f"Process {process} has ended")
    return {
        "resident_mb": int(status["VmRSS"].split()[0]) * 1024 / 1e6,
        "files": len(list((folder / "fd").iterdir())),
        "threads": int(status["Threads"]),
    }


def measure_soak(count: int) -> list[dict[str, float]]:
    """Run cases in one process and return how it stood whenever a further share was done.

    Raises:
        RunError: it failed, or some label maps are missing.
    """
    points = []
    with tempfile.TemporaryDirectory() as scratch:
        inputs, outputs = Path(scratch) / "in", Path(scratch) / "out"
        inputs.mkdir()
        write_cases(inputs, count)
        command = [sys.executable, "-m", "qmedsam", "-i", inputs, "-o", outputs, "--quiet"]
        begin = time.perf_counter()
        process = subprocess.Popen([str(part) for part in command], cwd=ROOT)
        bar = ProgressBar(POINTS, sys.stderr)
        step = max(1, count // POINTS)
        for done in range(step, count, step):
            while not (outputs / f"{done - 1:05}.npz").exists() and process.poll() is None:
                time.sleep(0.01)
            try:
                seen = look_at(process.pid)
            except OSError:  # it was quicker
                break
            points.append({"done": done, "s": time.perf_counter() - begin, **seen})
            bar.advance(f"{done} cases")
        bar.close()
        status, written = process.wait(), len(list(outputs.iterdir()))
    if status or written != count:
        raise RunError(f"{written} of {count} label maps were written, exit status {status}")
    return points


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of `python -m benchmarks.soak`."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.soak",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--cases", type=at_least(2), default=3000, help="(default: %(default)s)")
    add_record_option(parser, DEFAULT_RECORD)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Measure, print the beginning and the end, and write the record."""
    parser = build_parser()
    arguments = parser.parse_args(argv)
    keep_record(parser, arguments, ["cases"])

    def body() -> int:
        points = measure_soak(arguments.cases)
        results: dict[str, Any] = {"cases": arguments.cases, "points": points}
        for point in (points[0], points[len(points) // 2], points[-1]):
            print(", ".join(f"{name} {value:.0f}" for name, value in point.items()))
        write_record(arguments.json, results)
        return 0

    return run_command(body)


if __name__ == "__main__":
    sys.exit(main())
