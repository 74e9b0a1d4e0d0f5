"""Cases on disk: `.npz` in, `.npz` out."""

from __future__ import annotations

import errno
import math
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ..core.postprocess import LabelMap
from ..core.prompts import LONGEST_SIDE, label_map_shape
from ..errors import InvalidCaseError
from ..system.files import write_bytes
from ..system.memory import largest_array_bytes, largest_label_map_bytes
from ..version import __version__
from .archive import OWN_COMMENT, archive_of
from .case_file import (
    BOXES_KEY,
    PIXELS_KEY,
    READ_ERRORS,
    SEGS_KEY,
    CaseFile,
    open_case,
    open_case_bytes,
    open_case_stream,
)

CASE_SUFFIX = ".npz"
MOST_BOX_BYTES = 1 << 24  # more than the most boxes take in any number type
# Errors that every reader of a file meets; None is of one that is no archive.
OF_THE_FILE = (None, errno.ENOENT, errno.EACCES, errno.EPERM, errno.EISDIR, errno.ELOOP)
LONGEST_INFO = 1 << 22  # bytes, of four a letter
INFO_KEY = "info"  # what a file of another format was, for people to read


@dataclass(frozen=True)
class Case:
    """What one input file holds, not yet checked.

    Attributes:
        pixels: the member `imgs`.
        boxes: the member `boxes`.
        info: the member `info`, what `convert` made the case of; None where there is none.
    """

    pixels: NDArray[np.uint8]
    boxes: NDArray[np.generic]
    info: NDArray[np.str_] | None = None


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


def is_among_cases(path: PurePath, inputs: PurePath) -> bool:
    """Say whether something in a folder of cases has a case's name, or lies in what has one.

    Args:
        path: of a file or folder, which need not be there.
        inputs: folder of the cases; both are absolute and without links.
    """
    return path.is_relative_to(inputs) and any(map(is_case_name, path.relative_to(inputs).parts))


def read_case(path: Path) -> Case:
    """Read the members of a case that inference needs; others stay compressed.

    Raises:
        InvalidCaseError: the file cannot be read or lacks a member; the message tells which.
    """
    with open_case(path) as opened:
        return case_of(opened)


def case_of(opened: CaseFile) -> Case:
    """Read the same of an open file.

    Raises:
        InvalidCaseError: it lacks a member, or that cannot be read; the message tells which.
    """
    boxes = opened.array(BOXES_KEY, MOST_BOX_BYTES)
    return Case(opened.array(PIXELS_KEY, largest_array_bytes()), boxes, _info(opened))


def read_case_bytes(content: bytes) -> Case:
    """Read a case from the content of its file; see `read_case`."""
    with open_case_bytes(content) as opened:
        return case_of(opened)


def read_label_map(path: Path) -> LabelMap:
    """Read what `write_label_map` wrote.

    Raises:
        InvalidCaseError: the file cannot be read, or holds no labels.
    """
    with open_case(path) as opened:
        label_map = opened.array(SEGS_KEY, 2 * largest_label_map_bytes())
    if label_map.dtype not in (np.uint8, np.uint16):
        raise InvalidCaseError(f"Labels must be uint8 or uint16, got {label_map.dtype}")
    return label_map


def write_case(
    path: Path, pixels: NDArray[np.uint8], boxes: NDArray[np.generic], info: str
) -> None:
    """Write an image or volume with its boxes as a case, and with a text on where it is from."""
    write_bytes(path, archive_with_info({PIXELS_KEY: pixels, BOXES_KEY: boxes}, info))


def archive_with_info(members: dict[str, NDArray[Any]], info: str) -> bytes:
    """Return a .npz archive of arrays and, as the member `info`, a text; its comment is a mark."""
    comment = OWN_COMMENT + __version__.encode()
    return archive_of({**members, INFO_KEY: np.array(info)}, comment)


def read_outline(path: Path) -> Outline | None:
    """Return the shape and the boxes of a case; None where they cannot be read.

    Raises:
        OSError: the file system fails: whoever deals out cases by this would do it otherwise than
            others.
    """
    try:
        with open_case(path) as opened:
            return _outline(opened)
    except (InvalidCaseError, *READ_ERRORS) as error:
        cause = error.__cause__ or error
        if isinstance(cause, OSError) and cause.errno not in OF_THE_FILE:
            raise cause from error
        return None


def read_outline_of(stream: IO[bytes]) -> Outline | None:
    """Return the shape and the boxes of the case in a stream; None where they cannot be read."""
    try:
        with open_case_stream(stream) as opened:
            return _outline(opened)
    except (InvalidCaseError, *READ_ERRORS):
        return None


def read_shape(path: Path) -> tuple[int, ...] | None:
    """Return the shape of a case's pixels by their header; None where it cannot be read."""
    try:
        with open_case(path) as opened:
            return opened.header(PIXELS_KEY).shape
    except InvalidCaseError:
        return None


def read_label_map_shape(path: Path) -> tuple[int, ...] | None:
    """Return the shape that the label map of a case must have, from the headers of its members.

    The case may be wrong in any other way; None where its headers do not tell, or tell of more
    than can be in the file, or than is segmented of pixels of 8 bits.
    """
    try:
        with open_case(path) as opened:
            shape = opened.header(PIXELS_KEY).shape
            try:
                columns = opened.header(BOXES_KEY).shape[-1:]
            except InvalidCaseError:
                columns = ()
    except InvalidCaseError:
        return None
    found = label_map_shape(shape, columns[0] if columns else None)
    if not found or max(found) > LONGEST_SIDE:
        return None
    return found if 0 < math.prod(shape) <= largest_array_bytes() else None


def write_label_map(
    path: Path, label_map: LabelMap, mark: bytes = b"", info: NDArray[np.str_] | None = None
) -> None:
    """Write a label map as the member `segs` of a compressed archive.

    Args:
        path: of the file.
        label_map: to write.
        mark: what it was made of (`batch.results`), as the archive's comment.
        info: of its case, where that has one: what it was, and the names of its objects.
    """
    arrays = {SEGS_KEY: label_map} if info is None else {SEGS_KEY: label_map, INFO_KEY: info}
    write_bytes(path, archive_of(arrays, mark))


def _info(opened: CaseFile) -> NDArray[np.str_] | None:
    """Return what is said of a case, if that is a text; what else may be there is nobody's."""
    if not opened.has(INFO_KEY):
        return None
    try:
        info = opened.array(INFO_KEY, LONGEST_INFO)
    except InvalidCaseError:
        return None
    return info if info.dtype.kind == "U" and info.ndim == 0 else None


def _outline(opened: CaseFile) -> Outline:
    header = opened.header(PIXELS_KEY)
    return Outline(header.shape, header.dtype, opened.array(BOXES_KEY, MOST_BOX_BYTES))
