"""The largest cases under a memory limit and a CPU quota, which a control group enforces.

Only root may make control groups. The limit is on all that the processes of a container hold,
files that they read included, as `docker run -m` sets it.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.harness.command import Command
from benchmarks.harness.measured import check_status
from benchmarks.harness.options import add_path
from benchmarks.harness.process import run_fresh
from benchmarks.harness.record import RESULTS_DIR, write_record
from benchmarks.harness.table8 import SPECS, build_case

DEFAULT_DATA = Path("../shared/data/speed")
ROOT_OF_GROUPS = Path("/sys/fs/cgroup")
CASES = ("2DBox_Microscope_0016", "3DBox_CT_0566")
GIB = 1 << 30
# Memory, and cores as a quota of time; the first is the challenge's.
LIMITS = ((8 * GIB, None), (GIB, None), (GIB, 1.0))
PERIOD_US = 100_000


@contextmanager
def control_groups(memory_bytes: int, cores: float | None) -> Iterator[list[Path]]:
    """Make groups that enforce limits.

    Yields:
        The files that take the number of a process that is to join.
    """
    name = f"qmedsam-{os.getpid()}"
    is_version_2 = (ROOT_OF_GROUPS / "cgroup.controllers").is_file()
    quota = None if cores is None else int(cores * PERIOD_US)
    if is_version_2:
        wanted = {ROOT_OF_GROUPS / name: {"memory.max": memory_bytes, "memory.swap.max": 0}}
        if quota is not None:
            wanted[ROOT_OF_GROUPS / name]["cpu.max"] = f"{quota} {PERIOD_US}"
    else:
        wanted = {ROOT_OF_GROUPS / "memory" / name: {"memory.limit_in_bytes": memory_bytes}}
        swap = "memory.memsw.limit_in_bytes"  # where the kernel counts it
        if (ROOT_OF_GROUPS / "memory" / swap).exists():
            wanted[ROOT_OF_GROUPS / "memory" / name][swap] = memory_bytes
        if quota is not None:
            wanted[ROOT_OF_GROUPS / "cpu" / name] = {
                "cpu.cfs_period_us": PERIOD_US,
                "cpu.cfs_quota_us": quota,
            }
    made = []
    try:
        for folder, values in wanted.items():
            folder.mkdir()
            made.append(folder)
            for file, value in values.items():
                (folder / file).write_text(str(value))
        yield [folder / "cgroup.procs" for folder in made]
    finally:
        for folder in made:
            folder.rmdir()


def run_limited(inputs: Path, memory_bytes: int, cores: float | None) -> dict[str, Any]:
    """Run `predict.sh` under limits and return what it took.

    Raises:
        OSError: no group can be made, or the run failed.
    """
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch) / "report.json"
        variables = {
            "INPUT_DIR": str(inputs.resolve()),
            "OUTPUT_DIR": str(Path(scratch) / "out"),
            "QMEDSAM_CACHE_DIR": "",
        }
        with control_groups(memory_bytes, cores) as joins:
            join = "".join(f"echo $$ > {path} && " for path in joins)
            command = ["sh", "-c", f'{join}exec sh predict.sh "$@"', "sh", "--report", report]
            finished = run_fresh(command, variables=variables)
        check_status(finished)
        document = json.loads(report.read_text())
    return {
        "s": finished.wall_s,
        "peak_mb": finished.peak_bytes / 1e6,
        "threads": document["model"]["threads"],
        "box_batch_size": document["model"]["box_batch_size"],
    }


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the data."""
    add_path(parser, "--data", DEFAULT_DATA, "of real images")


def run(arguments: argparse.Namespace) -> int:
    """Run each case under each limit, print a line each and write the record."""
    rows = []
    for spec in (spec for spec in SPECS if spec.name in CASES):
        with tempfile.TemporaryDirectory() as folder:
            build_case(spec, arguments.data, Path(folder) / f"{spec.name}.npz")
            for memory_bytes, cores in LIMITS:
                row = {
                    "case": spec.name,
                    "limit_mb": memory_bytes / 1e6,
                    "cores": cores,
                    **run_limited(Path(folder), memory_bytes, cores),
                }
                rows.append(row)
                print(row)
    write_record(arguments.json, {"rows": rows})
    return 0


COMMAND = Command("limits", __doc__, run, add_options, record=RESULTS_DIR / "limits.json")
