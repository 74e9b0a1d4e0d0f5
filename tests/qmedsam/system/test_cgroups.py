"""Limits that the kernel enforces, seen from inside; only root may make control groups."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT_OF_GROUPS = Path("/sys/fs/cgroup")
NAME = f"qmedsam-{os.getpid()}"
MEMORY_BYTES = 256 << 20
PERIOD_US, QUOTA_US = 100_000, 50_000  # half the time of a core
VERSION_1 = {
    ROOT_OF_GROUPS / "memory" / NAME: {"memory.limit_in_bytes": MEMORY_BYTES},
    ROOT_OF_GROUPS / "cpu" / NAME: {"cpu.cfs_period_us": PERIOD_US, "cpu.cfs_quota_us": QUOTA_US},
}
VERSION_2 = {
    ROOT_OF_GROUPS / NAME: {"memory.max": MEMORY_BYTES, "cpu.max": f"{QUOTA_US} {PERIOD_US}"}
}
SEEN = (
    "from qmedsam.system.memory import memory_limit_bytes; "
    "from qmedsam.system.processor import available_cores; "
    "print(memory_limit_bytes(), available_cores())"
)


@pytest.fixture
def groups() -> Iterator[list[Path]]:
    """Groups with both limits, gone in the end."""
    wanted = VERSION_2 if (ROOT_OF_GROUPS / "cgroup.controllers").is_file() else VERSION_1
    made = []
    try:
        try:
            for folder, values in wanted.items():
                folder.mkdir()
                made.append(folder)
                for file, value in values.items():
                    (folder / file).write_text(str(value))
        except OSError as error:
            pytest.skip(f"no control group can be made here: {error}")
        yield made
    finally:
        for folder in made:
            folder.rmdir()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may make control groups")
def test_a_process_in_control_groups_sees_their_limits(groups):
    join = "".join(f"echo $$ > {folder / 'cgroup.procs'} && " for folder in groups)
    command = ["sh", "-c", f'{join}exec {sys.executable} -c "{SEEN}"']
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert run.stdout.split() == [str(MEMORY_BYTES), "1"]
