"""The files of a folder, none of which is left out because it cannot be opened.

Names that begin with a dot are left out. Links to folders are followed, each folder once and none
to a folder that the link itself lies in.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import BinaryIO

from ..system.memory import memory_limit_bytes
from .scan import FormatError

FILE_SHARE = 0.5  # of memory that a file may take as it is, beside what is decoded of it


def visible_files(folder: Path) -> list[Path]:
    """Return all that is no folder, in a folder and those in it, whether it can be opened or not.

    Raises:
        OSError: a folder cannot be read.
    """
    found = []
    reached = {os.path.realpath(folder)}
    for at, folders, names in os.walk(folder, onerror=_raise, followlinks=True):
        visible = [Path(at, name) for name in sorted(folders) if not _is_hidden(name)]
        folders[:] = [each.name for each in visible if _is_new(each, folder, reached)]
        found += [Path(at, name) for name in sorted(names) if not _is_hidden(name)]
    return found


def open_file(path: Path) -> BinaryIO:
    """Open a file for reading; a pipe and the like, which might never end, is none.

    Raises:
        OSError: it cannot be opened.
    """
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "Not a regular file", str(path))
    return path.open("rb")


def read_file(path: Path) -> bytes:
    """Read a file whole.

    Raises:
        FormatError: it does not fit in memory.
        OSError: it cannot be read.
    """
    with open_file(path) as stream:
        size, most = os.fstat(stream.fileno()).st_size, int(memory_limit_bytes() * FILE_SHARE)
        if size > most:
            raise FormatError(f"{path} must have {most} bytes at most for this memory, got {size}")
        return stream.read()


def _is_hidden(name: str) -> bool:
    return name.startswith(".")


def _is_new(path: Path, top: Path, reached: set[str]) -> bool:
    """Whether a folder was not reached before, nor is a link to one on the way to it; note it."""
    target = os.path.realpath(path)
    if target in reached:
        return False
    if path.is_symlink():
        way = [each for each in path.parents if each.is_relative_to(top)]
        if any(Path(os.path.realpath(each)).is_relative_to(target) for each in way):
            return False
    reached.add(target)
    return True


def _raise(error: OSError) -> None:
    raise error
