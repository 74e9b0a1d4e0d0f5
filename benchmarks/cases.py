"""Table 8: fourteen cases, each in a fresh process the organisers' way, against the baseline.

    python -m benchmarks.cases

The service runs as in its image, by `predict.sh` and without a cache of compiled models. The
baseline walks a few slices of each object; the others are added at the median time of one.
Measured cases are kept in the work folder and not measured again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from benchmarks.command import run_command
from benchmarks.methods import BASELINE_TITLE
from benchmarks.process import Finished, run_fresh, run_predict_script
from benchmarks.record import RESULTS_DIR, write_record
from benchmarks.table8 import SPECS, CaseSpec, build_case
from inference import __version__
from inference.cases import write_bytes
from inference.contract import MANIFEST_FILE
from inference.model import default_model_dir, file_sha256
from inference.progress import ProgressBar
from training.evaluate import positive

DEFAULT_DATA = Path("../shared/data")
WORK_DIR = Path("runs/cases")
MEMORY_LIMIT_BYTES = 8 << 30
DEFAULT_RECORD = RESULTS_DIR / "cases.json"


@dataclass(frozen=True)
class Measured:
    """One case by one method.

    Attributes:
        s: median seconds of the runs.
        peak_mb: largest resident memory of any run.
        visits: how many slices and boxes the baseline has to visit; 0 of the service.
        walked: how many it did visit; the time of the others is added.
        error: why a run failed; None when none did.
        parameters: what a run depends on beside the case.
    """

    s: float
    min_s: float
    max_s: float
    peak_mb: float
    runs: int
    visits: int
    walked: int
    error: str | None
    parameters: dict[str, str]


@dataclass(frozen=True)
class Run:
    """One run: its process, and what the baseline did not do of the work."""

    finished: Finished
    visits: int = 0
    walked: int = 0
    visit_s: float = 0.0

    @property
    def seconds(self) -> float:
        """Wall time, scaled to all visits."""
        return self.finished.wall_s + (self.visits - self.walked) * self.visit_s


def run_service(folder: Path, precision: str) -> Run:
    """Run the service once on the case in `folder`/in."""
    with tempfile.TemporaryDirectory() as outputs:
        return Run(
            run_predict_script(
                folder / "in",
                Path(outputs),
                options=["--precision", precision],
                limit_bytes=MEMORY_LIMIT_BYTES,
            )
        )


def run_baseline(folder: Path, most_slices: int) -> Run:
    """Run the baseline once on the case in `folder`/in, on a few slices of each object."""
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch) / "report.json"
        command = [sys.executable, "-m", "training.baseline", "-i", folder / "in", "-o", scratch]
        command += ["--most-slices", str(most_slices), "--report", report]
        finished = run_fresh(command, limit_bytes=MEMORY_LIMIT_BYTES)
        if finished.status:
            return Run(finished)
        entry = json.loads(report.read_text())[0]
    return Run(finished, entry["visits"], entry["walked"], entry["visit_s"] or 0.0)


def measure(
    kept: Path, run: Callable[[], Run], *, runs: int, budget_s: float, parameters: dict[str, str]
) -> Measured:
    """Return the median of several runs.

    Args:
        kept: JSON file of the result, which is read the next time if its parameters are the same.
        run: makes one.
        runs: most of them.
        budget_s: no further run begins after so long.
        parameters: what a run depends on beside the case.
    """
    parameters = {**parameters, "runs": str(runs), "budget_s": str(budget_s)}
    if kept.is_file():
        measured = Measured(**json.loads(kept.read_text()))
        if measured.parameters == parameters:
            return measured
    made: list[Run] = []
    began = time.perf_counter()
    while len(made) < runs and (not made or time.perf_counter() - began < budget_s):
        made.append(run())
    seconds = [one.seconds for one in made]
    failed = next((one.finished for one in made if one.finished.status), None)
    measured = Measured(
        s=statistics.median(seconds),
        min_s=min(seconds),
        max_s=max(seconds),
        peak_mb=max(one.finished.peak_bytes for one in made) / 1e6,
        runs=len(made),
        visits=made[-1].visits,
        walked=made[-1].walked,
        error=None if failed is None else f"status {failed.status}: {failed.output[-500:]}",
        parameters=parameters,
    )
    write_bytes(kept, (json.dumps(asdict(measured)) + "\n").encode())
    return measured


def measure_case(
    spec: CaseSpec, folder: Path, arguments: argparse.Namespace
) -> Iterator[tuple[str, Measured]]:
    """Build a case where it is missing, and yield what each method takes."""
    (folder / "in").mkdir(parents=True, exist_ok=True)
    path = folder / "in" / f"{spec.name}.npz"
    if not path.is_file():
        build_case(spec, arguments.data, path)
    methods: dict[str, Callable[[], Run]] = {
        f"service {precision}": partial(run_service, folder, precision)
        for precision in arguments.precision
    }
    methods[BASELINE_TITLE] = partial(run_baseline, folder, arguments.most_slices)
    parameters = {
        "version": __version__,
        "most_slices": str(arguments.most_slices),
        "case_sha256": file_sha256(path),
        "model_sha256": file_sha256(default_model_dir() / MANIFEST_FILE),
    }
    for name, run in methods.items():
        yield (
            name,
            measure(
                folder / f"{name.replace(' ', '-')}.json",
                run,
                runs=arguments.runs,
                budget_s=arguments.budget,
                parameters=parameters,
            ),
        )


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
        "--precision",
        nargs="+",
        choices=["f32", "bf16"],
        default=["f32", "bf16"],
        help="(default: both)",
    )
    parser.add_argument(
        "--runs",
        type=positive,
        default=3,
        help="most, of each case and method (default: %(default)s)",
    )
    parser.add_argument(
        "--budget",
        type=float,
        default=40,
        metavar="S",
        help="no further run of a case begins after so long (default: %(default)s s)",
    )
    parser.add_argument(
        "--most-slices",
        type=positive,
        default=6,
        help="of each object that the baseline walks (default: %(default)s)",
    )
    parser.add_argument(
        "--only",
        nargs="+",
        choices=[spec.name for spec in SPECS],
        metavar="CASE",
        help="measure these (default: all)",
    )
    parser.add_argument(
        "--work-dir",
        type=Path,
        default=WORK_DIR,
        help="cases and what was measured are kept here and not measured again; delete it after a "
        "change of code (default: %(default)s)",
    )
    parser.add_argument(
        "--json",
        type=Path,
        default=DEFAULT_RECORD,
        help="record of the run (default: %(default)s)",
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Measure every case, print a line each and write the record."""
    parser = build_parser()
    arguments = parser.parse_args(argv)
    specs = [spec for spec in SPECS if not arguments.only or spec.name in arguments.only]
    if arguments.only and arguments.json == DEFAULT_RECORD:
        parser.error("--only needs a --json of its own: the default is the record of all cases")
    return run_command(lambda: _measure_all(arguments, specs))


def _measure_all(arguments: argparse.Namespace, specs: list[CaseSpec]) -> int:
    bar = ProgressBar(len(specs) * (len(arguments.precision) + 1), sys.stderr)
    cases = []
    for spec in specs:
        methods = {}
        for name, measured in measure_case(spec, arguments.work_dir / spec.name, arguments):
            methods[name] = {
                key: value for key, value in asdict(measured).items() if key != "parameters"
            }
            bar.advance(f"{spec.name} {name}")
            outcome = measured.error or f"{measured.s:.2f} s, {measured.peak_mb:.0f} MB"
            print(f"{spec.name} {name}: {outcome}", flush=True)
        cases.append(
            {
                "case": spec.name,
                "shape": list(spec.shape),
                "objects": spec.objects,
                "paper_s": spec.paper_s,
                "methods": methods,
            }
        )
    bar.close()
    sampling = {"most_slices": arguments.most_slices, "budget_s": arguments.budget}
    write_record(arguments.json, {**sampling, "cases": cases})
    return 0


if __name__ == "__main__":
    sys.exit(main())
