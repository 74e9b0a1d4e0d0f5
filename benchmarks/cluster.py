"""`qmedsam cluster` on one machine: one worker, two, and two of which one is killed.

Each worker has one thread. The label maps of all runs, and of the folder command, must be the same
byte by byte. The report of one worker gives what a slice, a box and a voxel take, to which the cost
model of docs/scaling.md is fitted.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import Any

import ray as ray_module

from benchmarks.harness.command import Command
from benchmarks.harness.measured import RunError, check_status
from benchmarks.harness.options import add_count, add_path
from benchmarks.harness.process import ROOT, run_predict_script
from benchmarks.harness.record import RESULTS_DIR, write_record
from qmedsam.batch.cases import CASE_SUFFIX, list_cases, read_outline
from qmedsam.batch.cost import Work, read_works
from qmedsam.batch.report import CaseRecord
from qmedsam.cluster.scheduler import Scheduler
from qmedsam.cluster.worker import LANES, Description
from qmedsam.core.planning import Planner

ray: Any = ray_module
DEFAULT_DATA = Path("../shared/data")
KILLED_AFTER = 0.25  # of the label maps
DISPATCHED = 5000
CACHE = "cache"  # of compiled models; the folder command fills it


@dataclass(frozen=True)
class Run:
    """One run of the command.

    Attributes:
        workers: that it kept.
        wall_s: of the whole command, Ray's start included.
        work_s: from the first worker that was ready to the end.
        lost_workers: that were killed.
        is_same: its label maps are those of the folder command.
    """

    workers: int
    wall_s: float
    work_s: float
    lost_workers: int
    is_same: bool


def link_cases(data: Path, folder: Path, count: int) -> None:
    """Link cases of all modalities into a folder, those of validation first.

    Raises:
        OSError: there are fewer.
    """
    paths = [path for part in ("val", "train") for path in sorted((data / part).rglob("*.npz"))]
    if len(paths) < count:
        raise FileNotFoundError(f"{data} must have {count} cases, got {len(paths)}")
    folder.mkdir()
    for number, path in enumerate(paths[:count]):
        (folder / f"{number:04}-{path.stem}{CASE_SUFFIX}").symlink_to(path.resolve())


def contents(folder: Path) -> dict[str, bytes]:
    """Return the files of a folder by name."""
    return {path.name: path.read_bytes() for path in list_cases(folder)}


def run_cluster(
    inputs: Path, scratch: Path, workers: int, expected: dict[str, bytes], *, kills: bool = False
) -> tuple[Run, dict[str, Any]]:
    """Run the command and return how it went, and its report.

    Raises:
        RunError: it failed.
    """
    name = f"{workers}{'-killed' if kills else ''}"
    output, report = scratch / f"out-{name}", scratch / f"report-{name}" / "report.json"
    words = ["cluster", "-i", inputs, "-o", output, "--workers", workers, "--report", report]
    command = [sys.executable, "-m", "qmedsam", *words, "--quiet"]
    begun = time.perf_counter()
    environment = {**os.environ, "QMEDSAM_CACHE_DIR": str(scratch / CACHE)}
    process = subprocess.Popen([str(word) for word in command], cwd=ROOT, env=environment)
    if kills:
        while process.poll() is None and _count(output) < KILLED_AFTER * len(expected):
            time.sleep(0.05)
        os.kill(_worker_processes(str(scratch))[0], signal.SIGKILL)
    if process.wait():
        raise RunError(f"The run of {name} workers ended with status {process.returncode}")
    wall_s = time.perf_counter() - begun
    document = json.loads(report.read_text())
    run = Run(
        workers=workers,
        wall_s=wall_s,
        work_s=document["wall_s"] - document["start_s"],
        lost_workers=document["lost_workers"],
        is_same=contents(output) == expected,
    )
    return run, document


def fit_costs(cases: list[dict[str, Any]], works: Sequence[Work]) -> dict[str, float]:
    """Return what a whole slice, a box on it and a voxel take, by the seconds of a report.

    Args:
        cases: of a report.
        works: of the same cases.
    """
    total = {
        step: sum(case["seconds"].get(step, 0.0) for case in cases)
        for step in ("read", "preprocess", "encode", "decode", "postprocess", "write")
    }
    slices = sum(work.slices for work in works)
    voxels = sum(prod(case["shape"]) for case in cases)
    boxes = sum(work.decodes for work in works)
    files_s = total["read"] + total["write"]
    return {
        "slice_s": (total["preprocess"] + total["encode"]) / slices,
        "box_s": (total["decode"] + total["postprocess"]) / boxes,
        "voxel_s": files_s / voxels,
        "slices": slices,
        "boxes": boxes,
        "voxels": voxels,
    }


class Idler:
    """A worker with nothing to do, to see what handing out a case takes."""

    def load(self) -> Description:
        """Say who this is."""
        return Description("", 0, "", {})

    def run(self, name: str) -> CaseRecord:
        """Do nothing."""
        return CaseRecord(name)


def measure_dispatch(cases: int, workers: int = 2) -> float:
    """Return the seconds that Ray and the scheduler take for a case, in workers with no work."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray.init(num_cpus=workers, log_to_driver=False, _node_ip_address="127.0.0.1")
    try:
        done: list[float] = []
        actor = ray.remote(Idler).options(num_cpus=1, max_concurrency=LANES)
        scheduler = Scheduler(
            {f"{number:06}": 0.0 for number in range(cases)},
            start_worker=lambda: actor.remote(),
            on_case=lambda record, worker: done.append(time.perf_counter()),
            on_worker=lambda worker: None,
        )
        asyncio.run(scheduler.run(workers))
        return (done[-1] - done[0]) / cases
    finally:
        ray.shutdown()


def _count(folder: Path) -> int:
    return len(list_cases(folder)) if folder.is_dir() else 0


def _worker_processes(word: str) -> list[int]:
    """Return the workers that have a word in their environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            is_worker = (folder / "cmdline").read_bytes().startswith(b"ray::Worker")
            if is_worker and word.encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
        except OSError:  # it has ended
            continue
    return found


def measure(data: Path, count: int) -> dict[str, Any]:
    """Measure all runs.

    Raises:
        RunError: one failed.
    """
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        inputs, direct = scratch / "in", scratch / "direct"
        link_cases(data, inputs, count)
        paths = list_cases(inputs)
        begun = time.perf_counter()
        works = read_works(paths, Planner(), read_outline)
        headers_s = time.perf_counter() - begun
        folder = run_predict_script(inputs, direct, options=["--quiet"], cache=scratch / CACHE)
        check_status(folder)
        expected = contents(direct)
        one, report = run_cluster(inputs, scratch, 1, expected)
        two, _ = run_cluster(inputs, scratch, 2, expected)
        killed, _ = run_cluster(inputs, scratch, 2, expected, kills=True)
        return {
            "cases": count,
            "folder_s": folder.wall_s,
            "headers_s": headers_s,
            "input_bytes": sum(path.stat().st_size for path in paths),
            "output_bytes": sum(len(content) for content in expected.values()),
            "runs": [asdict(run) for run in (one, two, killed)],
            "costs": fit_costs(report["cases"], works),
            "expected_s": sum(work.seconds for work in works),
            "dispatch_s": measure_dispatch(DISPATCHED),
        }


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the data and how many cases."""
    add_path(parser, "--data", DEFAULT_DATA)
    add_count(parser, "--cases", 200, least=8)


def run(arguments: argparse.Namespace) -> int:
    """Measure, print all and write the record."""
    results = measure(arguments.data, arguments.cases)
    write_record(arguments.json, results)
    print(json.dumps(results, indent=1))
    return 0


COMMAND = Command(
    "cluster",
    __doc__,
    run,
    add_options,
    record=RESULTS_DIR / "cluster.json",
    selecting=("data", "cases"),
)
