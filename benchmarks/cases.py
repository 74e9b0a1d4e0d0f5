"""Table 8: fourteen cases, each in a fresh process the organisers' way, against the baseline.

The service runs as in its image, by `predict.sh` and without a cache of compiled models. The
baseline walks a few slices of each object; the others are added at the median time of one.
What was measured is kept in the work folder and read the next time if it was measured alike.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from benchmarks.harness.command import Command
from benchmarks.harness.measured import Measured, Run, measure
from benchmarks.harness.methods import BASELINE_TITLE
from benchmarks.harness.options import add_choices, add_count, add_path, add_seconds
from benchmarks.harness.process import SERVICES, run_fresh, run_predict_script
from benchmarks.harness.record import RESULTS_DIR, write_record
from benchmarks.harness.table8 import SPECS, CaseSpec, build_case
from qmedsam import __version__
from qmedsam.batch.progress import ProgressBar
from qmedsam.core.contract import MANIFEST_FILE
from qmedsam.model.manifest import file_sha256
from qmedsam.model.variant import default_model_dir
from training.published import SHA256 as CHECKPOINT_SHA256

DEFAULT_DATA = Path("../shared/data")
WORK_DIR = Path("runs/cases")
MEMORY_LIMIT_BYTES = 8 << 30


def run_service(folder: Path, options: Sequence[str]) -> Run:
    """Run the service once on the case in `folder`/in."""
    with tempfile.TemporaryDirectory() as outputs:
        return Run(
            run_predict_script(
                folder / "in", Path(outputs), options=options, limit_bytes=MEMORY_LIMIT_BYTES
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


def measure_case(
    spec: CaseSpec, folder: Path, arguments: argparse.Namespace
) -> Iterator[tuple[str, Measured]]:
    """Build a case where it is missing, and yield what each method takes."""
    (folder / "in").mkdir(parents=True, exist_ok=True)
    path = folder / "in" / f"{spec.name}.npz"
    if not path.is_file():
        build_case(spec, arguments.data, path)
    methods: dict[str, tuple[Callable[[], Run], dict[str, str]]] = {}
    for name in arguments.service:
        _, variant, *_ = options = SERVICES[name]
        weights = file_sha256(default_model_dir(variant) / MANIFEST_FILE)
        methods[f"service {name}"] = (partial(run_service, folder, options), {"weights": weights})
    sampling = {"weights": CHECKPOINT_SHA256, "most_slices": str(arguments.most_slices)}
    methods[BASELINE_TITLE] = (partial(run_baseline, folder, arguments.most_slices), sampling)
    for name, (run_once, parameters) in methods.items():
        kept = folder / f"{name.replace(' ', '-')}.json"
        measured = measure(
            kept,
            run_once,
            runs=arguments.runs,
            budget_s=arguments.budget,
            parameters={"case": file_sha256(path), "version": __version__, **parameters},
        )
        yield name, measured


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what is measured, and how often."""
    add_path(parser, "--data", DEFAULT_DATA, "of real images")
    add_choices(parser, "--service", SERVICES, "float in f32 or bf16, or the int8 model")
    add_count(parser, "--runs", 3, "most, of each case and method")
    add_seconds(parser, "--budget", 40, "no further run of a case begins after so long")
    add_count(parser, "--most-slices", 6, "of each object that the baseline walks")
    parser.add_argument(
        "--only",
        nargs="+",
        choices=[spec.name for spec in SPECS],
        metavar="CASE",
        help="measure these (default: all)",
    )
    add_path(
        parser,
        "--work-dir",
        WORK_DIR,
        "cases and what was measured are kept here; delete it after a change of code",
    )


def run(arguments: argparse.Namespace) -> int:
    """Measure every case, print a line each and write the record."""
    specs = [spec for spec in SPECS if not arguments.only or spec.name in arguments.only]
    bar = ProgressBar(len(specs) * (len(arguments.service) + 1), sys.stderr)
    cases = []
    for spec in specs:
        methods = {}
        for name, measured in measure_case(spec, arguments.work_dir / spec.name, arguments):
            methods[name] = {
                key: value for key, value in asdict(measured).items() if key != "parameters"
            }
            bar.advance(f"{spec.name} {name}")
            peak = "out of memory" if measured.is_out_of_memory else f"{measured.peak_mb:.0f} MB"
            print(f"{spec.name} {name}: {measured.s:.2f} s, {peak}", flush=True)
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


COMMAND = Command(
    "cases",
    __doc__,
    run,
    add_options,
    record=RESULTS_DIR / "cases.json",
    selecting=("only", "service"),
)
