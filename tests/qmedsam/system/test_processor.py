"""The flags of the processor and the cores of this process, from the kernel's files."""

from __future__ import annotations

import os

import pytest

from qmedsam.system import cgroups, processor
from qmedsam.system.processor import available_cores, processor_flags


def test_the_flags_are_those_of_the_first_processor(tmp_path):
    cpu_info = tmp_path / "cpuinfo"
    cpu_info.write_text("model name\t: avx2\nflags\t\t: fpu avx512_vnni\n\nflags\t\t: sse\n")
    assert processor_flags(cpu_info) == {"fpu", "avx512_vnni"}


def test_nothing_is_known_of_some_processors(tmp_path):
    assert processor_flags(tmp_path / "missing") == frozenset()
    (tmp_path / "arm").write_text("Features\t: fp asimd asimddp\n")
    assert processor_flags(tmp_path / "arm") == frozenset()


@pytest.fixture
def groups(tmp_path, monkeypatch):
    """A made-up /sys/fs/cgroup of a process in a container that may use eight cores."""
    (tmp_path / "proc").mkdir()
    monkeypatch.setattr(cgroups, "PROC_SELF", tmp_path / "proc")
    monkeypatch.setattr(cgroups, "ROOT", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)))
    return tmp_path


@pytest.mark.parametrize(
    ("cpu_max", "cores"),
    [("max 100000", 8), ("150000 100000", 2), ("50000 100000", 1), ("1600000 100000", 8), ("", 8)],
)
def test_a_quota_of_version_2_limits_the_cores(groups, cpu_max, cores):
    (groups / "proc" / "cgroup").write_text("0::/\n")
    (groups / "cpu.max").write_text(f"{cpu_max}\n")
    assert available_cores() == cores


@pytest.mark.parametrize(("quota", "cores"), [("-1", 8), ("300000", 3)])
def test_a_quota_of_version_1_limits_the_cores(groups, quota, cores):
    (groups / "proc" / "cgroup").write_text("3:cpu,cpuacct:/docker/abc\n")
    folder = groups / "cpu" / "docker" / "abc"
    folder.mkdir(parents=True)
    (folder / "cpu.cfs_quota_us").write_text(f"{quota}\n")
    (folder / "cpu.cfs_period_us").write_text("100000\n")
    assert available_cores() == cores


def test_without_affinity_all_cores_count(groups, monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(processor.os, "cpu_count", lambda: 3)
    assert available_cores() == 3
