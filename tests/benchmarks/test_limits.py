"""Cases under limits that the kernel enforces."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from benchmarks import limits
from benchmarks.limits import control_groups


def test_groups_of_version_2_are_made_and_removed(tmp_path, monkeypatch):
    (tmp_path / "cgroup.controllers").write_text("cpu memory")
    monkeypatch.setattr(limits, "ROOT_OF_GROUPS", tmp_path)
    with control_groups(1 << 30, 1.5) as joins:
        (join,) = joins
        files = {path.name: path.read_text() for path in join.parent.iterdir()}
        assert files == {
            "memory.max": str(1 << 30),
            "memory.swap.max": "0",
            "cpu.max": "150000 100000",
        }
        for path in list(join.parent.iterdir()):
            path.unlink()  # the kernel's files are no obstacle to removing a group
    assert not join.parent.exists()


@pytest.fixture
def groups():
    try:
        with control_groups(256 << 20, 0.5) as joins:
            yield joins
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may make control groups")
def test_a_process_in_the_groups_is_limited(groups):
    code = (
        "from qmedsam.system.memory import memory_limit_bytes; "
        "from qmedsam.system.processor import available_cores; "
        "print(memory_limit_bytes() >> 20, available_cores())"
    )
    join = "".join(f"echo $$ > {path} && " for path in groups)
    command = ["sh", "-c", f'{join}exec {sys.executable} -c "{code}"']
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["256", "1"]
