"""Cases on disk: `.npz` in, `.npz` out."""

from __future__ import annotations

import lzma
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from .archive import DeflateError, archive_of, read_array
from .errors import InvalidCaseError
from .files import write_bytes
from .postprocess import LabelMap

CASE_SUFFIX = ".npz"
PIXELS_KEY, BOXES_KEY, LABELS_KEY = "imgs", "boxes", "segs"
# What NumPy and zipfile raise on a file that is broken in one way or another.
READ_ERRORS = (
    OSError,
    ValueError,
    EOFError,
    KeyError,
    NotImplementedError,  # a compression method that zipfile does not know
    RuntimeError,  # an encrypted member
    MemoryError,  # a header that promises more than fits
    OverflowError,  # or more than can be counted
    zipfile.BadZipFile,
    zlib.error,
    DeflateError,
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


def read_case(path: Path) -> Case:
    """Read the members of a case that inference needs; others stay compressed.

    Raises:
        InvalidCaseError: the file cannot be read or lacks a member; the message tells which.
    """
    if not path.is_file():  # a pipe would be waited for
        raise InvalidCaseError("File must be a regular file")
    try:
        with path.open("rb") as stream:
            if not zipfile.is_zipfile(stream):
                raise InvalidCaseError("File must be a .npz archive, got none or a part of one")
            return _read_members(stream)
    except READ_ERRORS as error:
        raise InvalidCaseError(f"File must be a readable .npz archive, got: {error}") from error


def write_label_map(path: Path, label_map: LabelMap) -> None:
    """Write a label map as the member `segs` of a compressed archive."""
    write_bytes(path, archive_of(f"{LABELS_KEY}.npy", label_map))


def _read_members(stream: IO[bytes]) -> Case:
    with zipfile.ZipFile(stream) as archive:
        return Case(
            _member(stream, archive, PIXELS_KEY),
            _member(stream, archive, BOXES_KEY),
        )


def _member(stream: IO[bytes], archive: zipfile.ZipFile, key: str) -> NDArray[np.uint8]:
    members = archive.namelist()
    if f"{key}.npy" not in members:
        if key in members:
            raise InvalidCaseError(f"Member {key!r} must be an array, got bytes")
        names = ", ".join(member.removesuffix(".npy") for member in members) or "nothing"
        raise InvalidCaseError(f"File must have a member {key!r}, got {names}")
    try:
        return read_array(stream, archive, f"{key}.npy")
    except READ_ERRORS as error:
        raise InvalidCaseError(f"Member {key!r} cannot be read: {error}") from error
