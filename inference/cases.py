"""Cases on disk: `.npz` in, `.npz` out, and every other file that a run writes.

Files are written under a temporary name in the same folder and renamed, so that no reader ever
sees half of one.
"""

from __future__ import annotations

import io
import lzma
import os
import tempfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from .errors import InvalidCaseError
from .postprocess import LabelMap

CASE_SUFFIX = ".npz"
PIXELS_KEY, BOXES_KEY = "imgs", "boxes"
# What NumPy and zipfile raise on a file that is broken in one way or another.
READ_ERRORS = (
    OSError,
    ValueError,
    EOFError,
    KeyError,
    NotImplementedError,  # a compression method that zipfile does not know
    RuntimeError,  # an encrypted member
    MemoryError,  # a header that promises more than fits
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
)


@dataclass(frozen=True)
class Case:
    """What one input file holds, not yet checked.

    Attributes:
        pixels: the member `imgs`.
        boxes: the member `boxes`.
    """

    pixels: NDArray[np.uint8]
    boxes: NDArray[np.generic]


def list_cases(folder: Path) -> list[Path]:
    """Return everything in a folder that is named like a case, by name; hidden files are not."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() == CASE_SUFFIX and not path.name.startswith(".")
    )


def make_writable(folder: Path) -> Path:
    """Make a folder where there is none, and check that files can be written there.

    Raises:
        OSError: they cannot.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        return folder


def read_case(path: Path) -> Case:
    """Read the members of a case that inference needs; others stay compressed.

    Raises:
        InvalidCaseError: the file cannot be read or lacks a member; the message tells which.
    """
    if not path.is_file():  # a pipe would be waited for
        raise InvalidCaseError("File must be a regular file")
    try:
        # NumPy leaves a file that it opened itself open when it is no archive.
        with path.open("rb") as stream:
            if not zipfile.is_zipfile(stream):
                raise InvalidCaseError("File must be a .npz archive, got none or a part of one")
            stream.seek(0)
            return _members(np.load(stream, allow_pickle=False))
    except READ_ERRORS as error:
        raise InvalidCaseError(f"File must be a readable .npz archive, got: {error}") from error


def write_label_map(path: Path, label_map: LabelMap) -> None:
    """Write a label map as the member `segs` of a compressed archive."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, segs=label_map)
    write_bytes(path, buffer.getvalue())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file so that it appears whole or not at all."""
    temporary = path.with_name(f".{os.getpid()}.tmp")  # a name of any length fits
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _members(archive: NpzFile) -> Case:
    with archive:
        return Case(_member(archive, PIXELS_KEY), _member(archive, BOXES_KEY))


def _member(archive: NpzFile, key: str) -> NDArray[np.uint8]:
    if key not in archive.files:
        names = ", ".join(archive.files) or "nothing"
        raise InvalidCaseError(f"File must have a member {key!r}, got {names}")
    try:
        array = archive[key]
    except READ_ERRORS as error:
        raise InvalidCaseError(f"Member {key!r} cannot be read: {error}") from error
    if not isinstance(array, np.ndarray):
        raise InvalidCaseError(f"Member {key!r} must be an array, got {type(array).__name__}")
    return array
