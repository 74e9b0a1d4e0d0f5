"""Files that lie beside another one and are read with it, such as the values of a header."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path, PurePath

from .folder import read_file
from .scan import FormatError

Beside = Callable[[str], bytes]  # from the name of a file to its content


def files_beside(path: Path) -> Beside:
    """Return what reads files in the folder of another one."""
    return lambda name: read_file(path.parent / PurePath(name).name)


def read_beside(name: str, other: str, beside: Beside | None) -> bytes:
    """Read the other file that a file needs.

    Args:
        name: of the file, for messages.
        other: the name of the other one; of a path only its last part counts.
        beside: reads it; None where there is nothing but the file.

    Raises:
        FormatError: it is not there, or cannot be read.
    """
    other = PurePath(other).name
    if beside is None:
        raise FormatError(
            f"{name} must come with {other}, which cannot be sent with it: convert both to one file"
        )
    try:
        return beside(other)
    except OSError as error:
        raise FormatError(f"{name} must have {other} beside it, got: {error.strerror}") from error
