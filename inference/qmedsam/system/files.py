"""Files that appear whole or not at all.

They are written under a temporary name in the same folder and renamed, so that no reader ever sees
half of one. Whoever writes one holds a lock on it: what a killed process left behind has none.
"""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from io import BufferedReader
from pathlib import Path

try:
    import fcntl
except ImportError:  # not on Linux
    fcntl = None  # type: ignore[assignment]

TEMPORARY_NAME = ".qmedsam-{}.tmp"
ALL_MAY_WRITE = 0o666


def printable(name: Path | str) -> str:
    """Return a name as it is, or escaped where it would end a line or steer a terminal."""
    text = str(name)
    return text if text.isprintable() else ascii(text)


def one_line(text: str) -> str:
    """Return a text with what would end a line or steer a terminal escaped."""
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )


def make_writable(folder: Path) -> Path:
    """Make a folder where there is none, check that files can be written there, and tidy it.

    What killed processes left there is removed; see `remove_leftovers`.

    Raises:
        OSError: files cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass
    remove_leftovers(folder)
    return folder


@contextmanager
def open_regular(path: Path) -> Iterator[BufferedReader]:
    """Open a regular file for reading; a pipe would be waited for.

    Raises:
        OSError: it is something else, or cannot be opened.
    """
    with open(path, "rb", opener=_without_waiting) as stream:
        if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            raise OSError(errno.EINVAL, "Not a regular file", str(path))
        yield stream


def write_bytes(path: Path, content: bytes, mode: int = ALL_MAY_WRITE) -> None:
    """Write a file so that it appears whole or not at all.

    Args:
        path: of the file.
        content: of it.
        mode: its permissions, of which the process's umask takes some away.

    Raises:
        OSError: it cannot be written; what was there before stays.
    """
    try:
        _write(path, content, mode)
    except FileNotFoundError:
        if not path.parent.is_dir():
            raise
        _write(path, content, mode)  # taken for a leftover before it was locked


def remove_leftovers(folder: Path) -> None:
    """Remove what killed processes left of files in a folder; what is being written stays."""
    if fcntl is None:
        return
    for path in folder.glob(TEMPORARY_NAME.format("*")):
        try:
            file = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW)
        except OSError:
            continue
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
        except OSError:  # it is being written, or there are no locks here
            continue
        finally:
            os.close(file)


def _write(path: Path, content: bytes, mode: int) -> None:
    # A name of any length fits; threads write side by side, and containers, whose numbers of
    # processes are the same.
    temporary = path.with_name(TEMPORARY_NAME.format(os.urandom(8).hex()))
    try:
        with open(temporary, "xb", opener=partial(os.open, mode=mode)) as stream:
            _lock(stream.fileno())
            stream.write(content)
            stream.flush()
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def _lock(file: int) -> None:
    if fcntl is not None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:  # a file system without locks
            return
