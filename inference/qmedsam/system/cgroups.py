"""The limits that a container puts on this process, as Linux shows them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
PROC_SELF = Path("/proc/self")


def read_limits(controller: str, version_2: str, *version_1: str) -> Iterator[str]:
    """Yield what the files of this process's groups, and of all groups above them, hold.

    Args:
        controller: `memory` or `cpu`.
        version_2: name of the file in groups of version 2.
        version_1: names of the files in groups of version 1, joined by spaces here.
    """
    for line in read_text(PROC_SELF / "cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            root, names = ROOT, [version_2]
        elif controller in controllers.split(","):
            root, names = ROOT / controller, list(version_1)
        else:
            continue
        group = root / path.lstrip("/")
        for folder in (group, *group.parents):
            text = " ".join(read_text(folder / name).strip() for name in names).strip()
            if text:
                yield text
            if folder == root:
                break


def read_text(path: Path) -> str:
    """Return the content of a file of the kernel; nothing where there is none."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
