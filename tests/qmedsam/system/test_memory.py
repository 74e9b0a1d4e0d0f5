"""Limits are read from files laid out as the kernel lays them out."""

from __future__ import annotations

import os

import numpy as np
import pytest

from qmedsam.errors import ModelError
from qmedsam.system import cgroups, memory

GIB = 1 << 30


@pytest.fixture
def system(tmp_path, monkeypatch):
    """A made-up /proc/self and /sys/fs/cgroup."""
    proc, groups = tmp_path / "proc", tmp_path / "cgroup"
    proc.mkdir()
    groups.mkdir()
    monkeypatch.setattr(cgroups, "PROC_SELF", proc)
    monkeypatch.setattr(cgroups, "ROOT", groups)
    (proc / "status").write_text("Name:\tpython\nVmHWM:\t  2048 kB\nVmRSS:\t  1024 kB\n")
    return proc, groups


def physical() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def test_without_groups_physical_memory_is_the_limit(system):
    assert memory.memory_limit_bytes() == physical()


def test_the_tightest_group_above_the_process_counts(system):
    proc, groups = system
    (proc / "cgroup").write_text("0::/outer/inner\n")
    (groups / "outer" / "inner").mkdir(parents=True)
    (groups / "outer" / "memory.max").write_text(f"{GIB}\n")
    (groups / "outer" / "inner" / "memory.max").write_text("max\n")
    assert memory.memory_limit_bytes() == GIB


def test_a_container_sees_its_limit_at_the_root_of_the_groups(system):
    proc, groups = system
    (proc / "cgroup").write_text("0::/\n")
    (groups / "memory.max").write_text(f"{GIB // 2}\n")
    assert memory.memory_limit_bytes() == GIB // 2


def test_version_1_groups_are_read(system):
    proc, groups = system
    (proc / "cgroup").write_text("3:cpu,cpuacct:/\n2:memory:/docker/abc\n")
    folder = groups / "memory" / "docker" / "abc"
    folder.mkdir(parents=True)
    (folder / "memory.limit_in_bytes").write_text(f"{GIB // 4}\n")
    assert memory.memory_limit_bytes() == GIB // 4


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        pytest.param(64 * GIB, memory.LARGEST_BOX_BATCH["bf16"], id="plenty"),
        pytest.param(GIB, memory.LARGEST_BOX_BATCH["bf16"], id="little"),
        pytest.param(
            memory.BASE_BYTES + 5 * memory.DECODER_BYTES_PER_BOX, 2, id="half-of-what-is-left"
        ),
        pytest.param(1 << 20, 1, id="nothing-left"),
    ],
)
def test_the_box_batch_size_follows_the_memory_limit(monkeypatch, limit, expected):
    monkeypatch.setattr(memory, "memory_limit_bytes", lambda: limit)
    assert memory.automatic_box_batch_size("bf16") == expected
    assert memory.automatic_box_batch_size("f32") == min(expected, memory.LARGEST_BOX_BATCH["f32"])


@pytest.mark.parametrize(("limit", "expected"), [(GIB // 4, 1), (GIB, 1), (4 * GIB, 3)])
def test_how_many_encoders_stay_ready_follows_the_memory_limit(monkeypatch, limit, expected):
    monkeypatch.setattr(memory, "memory_limit_bytes", lambda: limit)
    assert memory.automatic_encoders() == expected


@pytest.mark.parametrize(
    ("limit", "fits"), [(GIB, (287, 512, 512)), (8 * GIB, (2000, 800, 800)), (GIB // 4, (0,))]
)
def test_what_a_case_may_hold_follows_the_memory_limit(monkeypatch, limit, fits):
    monkeypatch.setattr(memory, "memory_limit_bytes", lambda: limit)
    assert np.prod(fits) <= memory.largest_array_bytes() < limit / 4


def test_a_limit_that_leaves_nothing_beside_the_model_is_said(monkeypatch):
    monkeypatch.setattr(memory, "memory_limit_bytes", lambda: 400 << 20)
    with pytest.raises(ModelError, match=r"takes 500 MB of memory .* the limit is 400 MB"):
        memory.check_memory()
    monkeypatch.setattr(memory, "memory_limit_bytes", lambda: 501 << 20)
    memory.check_memory()


@pytest.mark.parametrize("limit", [GIB, 3 * GIB // 2, 2 * GIB, 3 * GIB, 8 * GIB])
def test_cases_and_encoders_fit_into_what_the_model_leaves(monkeypatch, limit):
    """One case is read, one segmented and one written at once, with its label map."""
    monkeypatch.setattr(memory, "memory_limit_bytes", lambda: limit)
    encoders = (memory.automatic_encoders() - 1) * memory.ENCODER_BYTES
    assert 4 * memory.largest_array_bytes() + encoders < limit - memory.BASE_BYTES


def test_a_case_may_hold_more_where_there_is_more_memory(monkeypatch):
    allowed = []
    for limit in range(GIB // 2, 4 * GIB, GIB // 64):
        monkeypatch.setattr(memory, "memory_limit_bytes", lambda limit=limit: limit)
        allowed.append(memory.largest_array_bytes())
    assert allowed == sorted(allowed)


def test_the_peak_is_that_of_the_kernel(system):
    assert memory.peak_memory_bytes() == 2048 * 1024


@pytest.mark.skipif(
    not os.access("/proc/self/clear_refs", os.W_OK), reason="this system cannot reset the peak"
)
def test_a_new_peak_begins_after_a_reset():
    used = np.ones(32 << 20)  # 256 MB
    high = memory.peak_memory_bytes()
    del used
    memory.reset_peak_memory()
    assert memory.peak_memory_bytes() < high
