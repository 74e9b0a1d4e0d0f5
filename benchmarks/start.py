"""A process with one small image and one box, with a cache of compiled models and without.

What the challenge does with every case: a fresh process of `predict.sh`, whole wall time.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness.command import Command
from benchmarks.harness.measured import check_status
from benchmarks.harness.options import add_count
from benchmarks.harness.process import SERVICES, run_predict_script
from benchmarks.harness.record import RESULTS_DIR, write_record
from qmedsam.model.compiling import runnable_precisions

SIDE = 256
BOX = [40, 60, 180, 200]


def measure_starts(runs: int) -> list[dict[str, Any]]:
    """Return median seconds of each service that this processor runs, in turn.

    Raises:
        RunError: a process failed.
    """
    services = {
        name: ["--quiet", *options]
        for name, options in SERVICES.items()
        if options[-1] in ("auto", *runnable_precisions())
    }
    seconds: dict[tuple[str, bool], list[float]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        inputs, cache = Path(scratch) / "in", Path(scratch) / "cache"
        inputs.mkdir()
        image = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
        np.savez_compressed(inputs / "case.npz", imgs=image, boxes=[BOX])
        for turn in range(runs + 1):  # the first fills the cache
            for name, options in services.items():
                for is_cached in (False, True):
                    finished = run_predict_script(
                        inputs,
                        Path(scratch) / "out",
                        options=options,
                        cache=cache if is_cached else None,
                    )
                    check_status(finished)
                    if turn:
                        seconds.setdefault((name, is_cached), []).append(finished.wall_s)
    return [
        {
            "service": name,
            "cold_s": statistics.median(seconds[name, False]),
            "cached_s": statistics.median(seconds[name, True]),
        }
        for name in services
    ]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add how often."""
    add_count(parser, "--runs", 9)


def run(arguments: argparse.Namespace) -> int:
    """Measure, print a line each and write the record."""
    rows = measure_starts(arguments.runs)
    for row in rows:
        print(f"{row['service']}: {row['cold_s']:.2f} s, cached {row['cached_s']:.2f} s")
    write_record(arguments.json, {"runs": arguments.runs, "rows": rows})
    return 0


COMMAND = Command("start", __doc__, run, add_options, record=RESULTS_DIR / "start.json")
