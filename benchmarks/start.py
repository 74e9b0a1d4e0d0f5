"""A process with one small image and one box, with a cache of compiled models and without.

    python -m benchmarks.start

What the challenge does with every case: a fresh process of `predict.sh`, whole wall time.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cases import SERVICES
from benchmarks.harness.command import add_record_option, run_command
from benchmarks.harness.measured import check_status
from benchmarks.harness.process import run_predict_script
from benchmarks.harness.record import RESULTS_DIR, write_record
from qmedsam.options import at_least
from training.run_time import runnable_precisions

DEFAULT_RECORD = RESULTS_DIR / "start.json"
SIDE = 256
BOX = [40, 60, 180, 200]


def measure_starts(runs: int) -> list[dict[str, Any]]:
    """Return median seconds of each service that this processor runs, in turn.

    Raises:
        RunError: a process failed.
    """
    services = {
        name: ["--quiet", "--variant", variant, "--precision", precision]
        for name, (variant, precision) in SERVICES.items()
        if precision == "auto" or precision in runnable_precisions()
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
                    run = run_predict_script(
                        inputs,
                        Path(scratch) / "out",
                        options=options,
                        cache=cache if is_cached else None,
                    )
                    check_status(run)
                    if turn:
                        seconds.setdefault((name, is_cached), []).append(run.wall_s)
    return [
        {
            "service": name,
            "cold_s": statistics.median(seconds[name, False]),
            "cached_s": statistics.median(seconds[name, True]),
        }
        for name in services
    ]


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of `python -m benchmarks.start`."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.start",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--runs", type=at_least(1), default=9, help="(default: %(default)s)")
    add_record_option(parser, DEFAULT_RECORD)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Measure, print a line each and write the record."""
    arguments = build_parser().parse_args(argv)

    def body() -> int:
        rows = measure_starts(arguments.runs)
        for row in rows:
            print(f"{row['service']}: {row['cold_s']:.2f} s, cached {row['cached_s']:.2f} s")
        write_record(arguments.json, {"runs": arguments.runs, "rows": rows})
        return 0

    return run_command(body)


if __name__ == "__main__":
    sys.exit(main())
