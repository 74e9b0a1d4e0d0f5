"""What is known of the processor."""

from __future__ import annotations

from pathlib import Path

CPU_INFO = Path("/proc/cpuinfo")  # Linux; elsewhere nothing is known


def processor_flags(cpu_info: Path = CPU_INFO) -> frozenset[str]:
    """Return the extensions of the instruction set by the kernel's names; empty where unknown."""
    try:
        lines = cpu_info.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return frozenset()
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() == "flags":
            return frozenset(value.split())
    return frozenset()
