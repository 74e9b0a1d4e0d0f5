"""The cases of Table 8 by whole images and by regions, in turn, and a CT with one small lesion.

Each in a fresh process of `predict.sh`, whole wall time; compiled models are in the cache, as they
are in the image.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness.command import Command
from benchmarks.harness.measured import check_status
from benchmarks.harness.options import add_choices, add_count, add_path, add_seconds
from benchmarks.harness.predictions import DEFAULT_ROOT
from benchmarks.harness.process import SERVICES, Finished, run_predict_script
from benchmarks.harness.record import RESULTS_DIR, write_record
from benchmarks.harness.region_table import SETTINGS
from benchmarks.harness.table8 import CT, SPECS, CaseSpec, build_case
from qmedsam import segmenter
from qmedsam.batch.cases import read_case
from qmedsam.batch.progress import ProgressBar
from qmedsam.config import Regions
from qmedsam.options import add_model_options, read_settings

LESION = CaseSpec("3DBox_CT_lesion", (72, 512, 512), 1, CT, (None, 0.0))
LESION_BOX = [200, 240, 0, 239, 279, 71]  # 40 px on all slices
LEAST_RUNS = 3
ALL = (LESION, *SPECS)


def build(spec: CaseSpec, data: Path, path: Path) -> None:
    """Write a case."""
    build_case(spec, data, path)
    if spec is LESION:
        pixels = read_case(path).pixels
        np.savez_compressed(path, imgs=pixels, boxes=np.array([LESION_BOX], dtype=np.float32))


def fill_cache(cache: Path, service: str) -> None:
    """Compile what either setting may need, as the container's image does when it is built."""
    parser = argparse.ArgumentParser()
    add_model_options(parser)
    options = ["--cache-dir", str(cache), *SERVICES[service]]
    segmenter.fill_cache(read_settings(parser.parse_args(options)))


def time_case(
    spec: CaseSpec, scratch: Path, service: str, *, runs: int, budget_s: float
) -> dict[str, Any]:
    """Return what the case in `scratch`/<name> takes by each setting in turn."""

    def run_once(regions: Regions) -> Finished:
        finished = run_predict_script(
            scratch / spec.name,
            scratch / "out",
            options=["--quiet", *SERVICES[service], "--regions", regions],
            cache=scratch / "cache",
        )
        check_status(finished)
        return finished

    found: dict[str, list[Finished]] = {one: [] for one in SETTINGS}
    if not spec.is_volume:  # the first of a short run reads files from the disk
        for one in SETTINGS:
            run_once(one)
    began = time.perf_counter()
    for turn in range(runs):
        if turn >= LEAST_RUNS and time.perf_counter() - began >= budget_s:
            break
        for one in SETTINGS if turn % 2 == 0 else reversed(SETTINGS):
            found[one].append(run_once(one))
    return {
        "case": spec.name,
        "shape": list(spec.shape),
        "objects": spec.objects,
        "runs": len(found[SETTINGS[0]]),
        "s": {one: statistics.median(run.wall_s for run in found[one]) for one in SETTINGS},
        "peak_mb": {one: max(run.peak_bytes for run in found[one]) / 1e6 for one in SETTINGS},
    }


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what is timed, and how often."""
    add_path(parser, "--data", DEFAULT_ROOT.parent, "of real images")
    add_choices(parser, "--only", [spec.name for spec in ALL], "cases")
    parser.add_argument("--service", choices=SERVICES, default="int8", help="(default: int8)")
    add_count(parser, "--runs", 7, "most, of each case and setting")
    add_seconds(parser, "--budget", 60, "after three runs no further one begins after so long")


def run(arguments: argparse.Namespace) -> int:
    """Print a line for each case and write the record."""
    specs = [spec for spec in ALL if spec.name in arguments.only]
    bar = ProgressBar(len(specs), sys.stderr)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        fill_cache(scratch / "cache", arguments.service)
        for spec in specs:
            (scratch / spec.name).mkdir()
            build(spec, arguments.data, scratch / spec.name / f"{spec.name}.npz")
            row = time_case(
                spec, scratch, arguments.service, runs=arguments.runs, budget_s=arguments.budget
            )
            rows.append(row)
            whole, auto = (row["s"][one] for one in SETTINGS)
            print(f"{spec.name}: {whole:.2f} s, regions {auto:.2f} s, {auto / whole:.2f}x")
            bar.advance(spec.name)
    bar.close()
    write_record(arguments.json, {"service": arguments.service, "cases": rows})
    return 0


COMMAND = Command(
    "region-times",
    __doc__,
    run,
    add_options,
    record=RESULTS_DIR / "region-times.json",
    selecting=("only", "service"),
)
