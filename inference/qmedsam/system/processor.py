"""What is known of the processor, and how much of it this process may use; Linux interfaces."""

from __future__ import annotations

import os
from math import ceil
from pathlib import Path

from . import cgroups

CPU_INFO = Path("/proc/cpuinfo")


def processor_flags(cpu_info: Path = CPU_INFO) -> frozenset[str]:
    """Return the extensions of the instruction set by the kernel's names; empty where unknown."""
    for line in cgroups.read_text(cpu_info).splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "flags":
            return frozenset(value.split())
    return frozenset()


def available_cores() -> int:
    """Return how many cores this process may keep busy, by where it may run and by its quota."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not on Linux
        cores = os.cpu_count() or 1
    for text in cgroups.read_limits("cpu", "cpu.max", "cpu.cfs_quota_us", "cpu.cfs_period_us"):
        quota, _, period = text.partition(" ")
        if quota.isdigit() and period.isdigit() and int(period) > 0:
            cores = min(cores, max(1, ceil(int(quota) / int(period))))
    return cores
