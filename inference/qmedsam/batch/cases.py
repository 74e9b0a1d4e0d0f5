"""Cases on disk: `.npz` in, `.npz` out."""

from __future__ import annotations

import errno
import io
import math
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ..core.postprocess import LabelMap
from ..core.prompts import label_map_shape
from ..errors import InvalidCaseError
from ..system.deflate import DeflateError
from ..system.files import printable, write_bytes
from ..system.memory import largest_array_bytes, largest_label_map_bytes
from .archive import archive_of, check_directory, read_array, read_header

CASE_SUFFIX = ".npz"
MOST_BOX_BYTES = 1 << 24  # more than the most boxes take in any number type
NAMED_MEMBERS = 10  # of an archive, in a message
PIXELS_KEY, BOXES_KEY, SEGS_KEY = "imgs", "boxes", "segs"
GTS_KEY = "gts"  # the truth, of training and scoring
SPACING_KEY = "spacing"
INFO_KEY = "info"  # what a file of another format was, for people to read
# Errors that every reader of a file meets; None is of one that is no archive.
OF_THE_FILE = (None, errno.ENOENT, errno.EACCES, errno.EPERM, errno.EISDIR, errno.ELOOP)
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
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
    DeflateError,
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


@dataclass(frozen=True)
class Outline:
    """What a case says of itself without its pixels.

    Attributes:
        shape: of the pixels.
        dtype: of the pixels.
        boxes: as of `Case`.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    boxes: NDArray[np.generic]


def list_cases(folder: Path) -> list[Path]:
    """Return everything in a folder that is named like a case, by name; hidden files are not."""
    return sorted(path for path in folder.iterdir() if is_case_name(path.name))


def is_case_name(name: str) -> bool:
    """Say whether a file is named like a case; hidden ones are not."""
    return name.lower().endswith(CASE_SUFFIX) and not name.startswith(".")


def read_case(path: Path) -> Case:
    """Read the members of a case that inference needs; others stay compressed.

    Raises:
        InvalidCaseError: the file cannot be read or lacks a member; the message tells which.
    """
    with _opened(path) as (stream, archive):
        return _case(stream, archive)


def read_case_bytes(content: bytes) -> Case:
    """Read a case from the content of its file; see `read_case`."""
    try:
        with _archive_in(io.BytesIO(content)) as (stream, archive):
            return _case(stream, archive)
    except READ_ERRORS as error:
        raise InvalidCaseError(f"File must be a readable .npz archive, got: {error}") from error


def read_label_map(path: Path) -> LabelMap:
    """Read what `write_label_map` wrote.

    Raises:
        InvalidCaseError: the file cannot be read, or holds no labels.
    """
    with _opened(path) as (stream, archive):
        label_map = _member(stream, archive, SEGS_KEY, 2 * largest_label_map_bytes())
    if label_map.dtype not in (np.uint8, np.uint16):
        raise InvalidCaseError(f"Labels must be uint8 or uint16, got {label_map.dtype}")
    return label_map


def write_case(
    path: Path, pixels: NDArray[np.uint8], boxes: NDArray[np.generic], info: str
) -> None:
    """Write an image or volume with its boxes as a case, and with a text on where it is from."""
    write_bytes(path, archive_with_info({PIXELS_KEY: pixels, BOXES_KEY: boxes}, info))


def archive_with_info(members: dict[str, NDArray[Any]], info: str) -> bytes:
    """Return a .npz archive of arrays and, as the member `info`, a text."""
    content = io.BytesIO()
    arrays: dict[str, Any] = {**members, INFO_KEY: np.array(info)}
    np.savez_compressed(content, **arrays)
    return content.getvalue()


def read_outline(path: Path) -> Outline | None:
    """Return the shape and the boxes of a case; None where they cannot be read.

    Raises:
        OSError: the file system fails: whoever deals out cases by this would do it otherwise than
            others.
    """
    try:
        with _opened(path) as opened:
            return _outline(*opened)
    except (InvalidCaseError, *READ_ERRORS) as error:
        cause = error.__cause__ or error
        if isinstance(cause, OSError) and cause.errno not in OF_THE_FILE:
            raise cause from error
        return None


def read_outline_of(stream: IO[bytes]) -> Outline | None:
    """Return the shape and the boxes of the case in a stream; None where they cannot be read."""
    try:
        with _archive_in(stream) as opened:
            return _outline(*opened)
    except (InvalidCaseError, *READ_ERRORS):
        return None


def read_label_map_shape(path: Path) -> tuple[int, ...] | None:
    """Return the shape that the label map of a case must have, from the headers of its members.

    The case may be wrong in any other way; None where its headers do not tell, or tell of more
    than fits in memory.
    """
    try:
        with _opened(path) as (stream, archive):
            shape = read_header(stream, archive, f"{PIXELS_KEY}.npy").shape
            try:
                columns = read_header(stream, archive, f"{BOXES_KEY}.npy").shape[-1:]
            except READ_ERRORS:
                columns = ()
    except (InvalidCaseError, *READ_ERRORS):
        return None
    found = label_map_shape(shape, columns[0] if columns else None)
    return found if found and 0 < math.prod(found) <= largest_label_map_bytes() else None


def is_label_map_of(path: Path, case: Path) -> bool:
    """Say whether a file holds a whole label map of a case, and one that is not empty.

    One that is empty may stand in place of a case that failed.
    """
    try:
        label_map = read_label_map(path)
    except InvalidCaseError:
        return False
    return bool(label_map.any()) and label_map.shape == read_label_map_shape(case)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[IO[bytes], zipfile.ZipFile]]:
    """Open an archive; what goes wrong with it is an InvalidCaseError."""
    try:
        if not path.is_file():  # a pipe would be waited for
            found = "something else" if path.exists() else "nothing"
            raise InvalidCaseError(f"File must be a regular file, got {found}")
        with path.open("rb") as stream, _archive_in(stream) as opened:
            yield opened
    except READ_ERRORS as error:
        raise InvalidCaseError(f"File must be a readable .npz archive, got: {error}") from error


def write_label_map(path: Path, label_map: LabelMap) -> None:
    """Write a label map as the member `segs` of a compressed archive."""
    write_bytes(path, archive_of(f"{SEGS_KEY}.npy", label_map))


@contextmanager
def _archive_in(stream: IO[bytes]) -> Iterator[tuple[IO[bytes], zipfile.ZipFile]]:
    if not zipfile.is_zipfile(stream):
        raise InvalidCaseError("File must be a .npz archive, got none or a part of one")
    check_directory(stream)
    with zipfile.ZipFile(stream) as archive:
        yield stream, archive


def _case(stream: IO[bytes], archive: zipfile.ZipFile) -> Case:
    boxes = _member(stream, archive, BOXES_KEY, MOST_BOX_BYTES)
    return Case(_member(stream, archive, PIXELS_KEY, largest_array_bytes()), boxes)


def _outline(stream: IO[bytes], archive: zipfile.ZipFile) -> Outline:
    header = read_header(stream, archive, f"{PIXELS_KEY}.npy")
    return Outline(header.shape, header.dtype, _member(stream, archive, BOXES_KEY, MOST_BOX_BYTES))


def _member(
    stream: IO[bytes], archive: zipfile.ZipFile, key: str, most_bytes: int
) -> NDArray[np.uint8]:
    members = archive.namelist()
    if f"{key}.npy" not in members:
        if key in members:
            raise InvalidCaseError(f"Member {key!r} must be an array, got bytes")
        named = [printable(member.removesuffix(".npy")) for member in members[:NAMED_MEMBERS]]
        more = f" and {len(members) - NAMED_MEMBERS} more" if len(members) > NAMED_MEMBERS else ""
        names = (", ".join(named) or "nothing") + more
        raise InvalidCaseError(f"File must have a member {key!r}, got {names}")
    try:
        return read_array(stream, archive, f"{key}.npy", most_bytes=most_bytes)
    except READ_ERRORS as error:
        raise InvalidCaseError(f"Member {key!r} cannot be read: {error}") from error
