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
# By precision: larger blocks are little quicker for their memory. A box takes in blocks of 1, 2, 4,
# 8 and 16 on two cores, with the smallest window and with the whole embedding:
#   f32   9.3, 6.9, 6.4, 6.4, 7.1 ms and 13.8, 11.8, 11.2, 11.4, 11.8 ms
#   bf16  6.8, 4.4, 3.5, 3.1, 3.1 ms and 8.8, 6.3, 5.3, 4.9, 5.1 ms
LARGEST_BLOCK = {"f32": 2, "bf16": 4}
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


def automatic_block_size(precision: str) -> int:
    """Return how many boxes to decode at once so that the memory limit is kept.

    Args:
        precision: of the decoder, f32 or bf16.
    """
    used = (_status_kib("VmRSS") or 0) * 1024
    free = max(0, memory_limit_bytes() - used)
    most = LARGEST_BLOCK[precision]
    return max(1, min(most, int(free * SHARE_OF_FREE_MEMORY) // DECODER_BYTES_PER_BOX))


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
