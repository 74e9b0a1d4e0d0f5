"""How much memory this process may use, and how much it has used; Linux interfaces.

Where an interface is absent, the next one is asked, and physical memory last.
"""

from __future__ import annotations

import os
import resource
from pathlib import Path

CGROUP_ROOT = Path("/sys/fs/cgroup")
PROC_SELF = Path("/proc/self")

# Growth of resident memory per box in a block, measured on the exported decoder in f32.
DECODER_BYTES_PER_BOX = 40 << 20
# More boxes at once are no faster: 255 boxes decode in 7.6, 7.1, 6.9, 7.3 and 7.5 s in blocks of
# 1, 2, 4, 8 and 16 in f32 on two cores, and in 3.2, 3.0, 3.1, 3.1 and 3.2 s in bf16.
LARGEST_BLOCK = 4
SHARE_OF_FREE_MEMORY = 0.5


def memory_limit_bytes() -> int:
    """Return the smallest limit that applies: cgroup v2, cgroup v1 or physical memory."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([physical, *_cgroup_limits()])


def peak_memory_bytes() -> int:
    """Return the peak of resident memory since the start or the last reset."""
    peak = _status_kib("VmHWM")
    if peak is None:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * 1024


def reset_peak_memory() -> None:
    """Begin a new peak where the system allows it; otherwise the old one stays."""
    try:
        (PROC_SELF / "clear_refs").write_text("5")
    except OSError:
        return


def automatic_block_size() -> int:
    """Return how many boxes to decode at once so that the memory limit is kept."""
    used = (_status_kib("VmRSS") or 0) * 1024
    free = max(0, memory_limit_bytes() - used)
    return max(1, min(LARGEST_BLOCK, int(free * SHARE_OF_FREE_MEMORY) // DECODER_BYTES_PER_BOX))


def _cgroup_limits() -> list[int]:
    """Return the limits of this process's groups and of all groups above them."""
    limits = []
    for line in _read(PROC_SELF / "cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            root, name = CGROUP_ROOT, "memory.max"
        elif "memory" in controllers.split(","):
            root, name = CGROUP_ROOT / "memory", "memory.limit_in_bytes"
        else:
            continue
        group = root / path.lstrip("/")
        for folder in (group, *group.parents):
            text = _read(folder / name).strip()
            if text.isdigit():
                limits.append(int(text))
            if folder == root:
                break
    return limits


def _status_kib(field: str) -> int | None:
    for line in _read(PROC_SELF / "status").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1])
    return None


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
