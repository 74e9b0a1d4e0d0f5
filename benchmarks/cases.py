"""Table 8: fourteen cases, each in a fresh process the organisers' way, against the baseline.

    python -m benchmarks.cases

The service runs as in its image, by `predict.sh` and without a cache of compiled models. The
baseline walks a few slices of each object; its time for all of them is scaled from these, start,
reading and writing are not. Measured cases are kept in the work folder and not measured again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.process import Finished, run_fresh, run_predict_script
from benchmarks.record import RESULTS_DIR, write_record
from benchmarks.table8 import SPECS, CaseSpec, build_case
from inference.cases import write_bytes
from inference.progress import ProgressBar

DEFAULT_DATA = Path("../shared/data")
WORK_DIR = Path("runs/cases")
MEMORY_LIMIT_BYTES = 8 << 30
BASELINE = "PyTorch baseline f32"


def run_service(folder: Path, precision: str) -> dict[str, Any]:
    """Run the service once on the case in `folder`/in."""
    with tempfile.TemporaryDirectory() as outputs:
        finished = run_predict_script(
            folder / "in",
            Path(outputs),
            options=["--precision", precision],
            limit_bytes=MEMORY_LIMIT_BYTES,
        )
    return _result(finished, finished.wall_s)


def run_baseline(folder: Path, most_slices: int) -> dict[str, Any]:
    """Run the baseline once on the case in `folder`/in and scale what it left out."""
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch) / "report.json"
        command = [sys.executable, "-m", "training.baseline", "-i", folder / "in", "-o", scratch]
        command += ["--most-slices", str(most_slices), "--report", report]
        finished = run_fresh(command)
        if finished.status:
            return _result(finished, finished.wall_s)
        entry = json.loads(report.read_text())[0]
    factor = entry["visits"] / entry["walked"]
    result = _result(finished, finished.wall_s + entry["segment_s"] * (factor - 1))
    return {**result, "visits": entry["visits"], "walked": entry["walked"]}


def _result(finished: Finished, seconds: float) -> dict[str, Any]:
    if finished.status:
        raise RuntimeError(f"Run ended with status {finished.status}: {finished.output}")
    return {"s": seconds, "peak_mb": finished.peak_bytes / 1e6}


def measure(path: Path, runs: int, run: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return the median of several runs; kept in `path`, from where it is read the next time."""
    if path.is_file():
        return json.loads(path.read_text())
    results = [run() for _ in range(runs)]
    seconds = [result["s"] for result in results]
    document = {
        **results[-1],
        "s": statistics.median(seconds),
        "min_s": min(seconds),
        "max_s": max(seconds),
        "peak_mb": max(result["peak_mb"] for result in results),
        "runs": runs,
    }
    write_bytes(path, (json.dumps(document) + "\n").encode())
    return document


def measure_case(
    spec: CaseSpec, folder: Path, arguments: argparse.Namespace, bar: ProgressBar
) -> dict[str, Any]:
    """Build a case where it is missing, and measure it by every method."""
    (folder / "in").mkdir(parents=True, exist_ok=True)
    path = folder / "in" / f"{spec.name}.npz"
    if not path.is_file():
        build_case(spec, arguments.data, path)
    methods: dict[str, tuple[int, Callable[[], dict[str, Any]]]] = {}
    for precision in arguments.precision:
        methods[f"service {precision}"] = (
            arguments.runs,
            lambda precision=precision: run_service(folder, precision),
        )
    methods[BASELINE] = (
        arguments.baseline_runs,
        lambda: run_baseline(folder, arguments.most_slices),
    )
    measured = {}
    for name, (runs, run) in methods.items():
        measured[name] = measure(folder / f"{name.replace(' ', '-')}.json", runs, run)
        bar.advance(f"{spec.name} {name}")
    return {
        "case": spec.name,
        "shape": list(spec.shape),
        "objects": spec.objects,
        "paper_s": spec.paper_s,
        "methods": measured,
    }


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of `python -m benchmarks.cases`."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.cases",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--data", type=Path, default=DEFAULT_DATA, help="of real images (default: %(default)s)"
    )
    parser.add_argument(
        "--precision", nargs="+", choices=["f32", "bf16"], default=["f32", "bf16"], help="(both)"
    )
    parser.add_argument(
        "--runs", type=int, default=3, help="of the service on each case (default: %(default)s)"
    )
    parser.add_argument("--baseline-runs", type=int, default=1, help="(default: %(default)s)")
    parser.add_argument(
        "--most-slices",
        type=int,
        default=6,
        help="of each object that the baseline walks (default: %(default)s)",
    )
    parser.add_argument("--only", nargs="+", metavar="CASE", help="measure these (default: all)")
    parser.add_argument("--work-dir", type=Path, default=WORK_DIR, help="(default: %(default)s)")
    parser.add_argument(
        "--json",
        type=Path,
        default=RESULTS_DIR / "cases.json",
        help="record of the run (default: %(default)s)",
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Measure every case, print a line each and write the record."""
    arguments = build_parser().parse_args(argv)
    specs = [spec for spec in SPECS if not arguments.only or spec.name in arguments.only]
    bar = ProgressBar(len(specs) * (len(arguments.precision) + 1), sys.stderr)
    cases = []
    for spec in specs:
        case = measure_case(spec, arguments.work_dir / spec.name, arguments, bar)
        cases.append(case)
        print(
            f"{spec.name:24}"
            + "  ".join(
                f"{name} {found['s']:.2f} s, {found['peak_mb']:.0f} MB"
                for name, found in case["methods"].items()
            ),
            flush=True,
        )
    bar.close()
    write_record(arguments.json, {"most_slices": arguments.most_slices, "cases": cases})
    return 0


if __name__ == "__main__":
    sys.exit(main())
