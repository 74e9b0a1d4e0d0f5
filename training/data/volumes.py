"""Slices of cases on disk, of which nothing is unpacked to disk.

A case is an archive with the members `imgs`, `gts` and `boxes`; it is a volume because its boxes
have six columns. Volumes that were read stay in memory, the one used last the longest; of a volume
that does not fit, the archive is read from its beginning to the wanted slice.
"""

from __future__ import annotations

import math
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from qmedsam.batch.cases import BOXES_KEY, GTS_KEY, PIXELS_KEY, READ_ERRORS
from qmedsam.core.prompts import IMAGE_CHANNELS, IMAGE_COLUMNS, VOLUME_COLUMNS

SKIP_BYTES = 1 << 18
HEADER_READERS = {
    (1, 0): npy_format.read_array_header_1_0,
    (2, 0): npy_format.read_array_header_2_0,
}


class DataError(Exception):
    """A file of the training data cannot be used, or there is none."""


@dataclass(frozen=True)
class Member:
    """What the header of an array in an archive says."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    is_c_order: bool

    @property
    def size_bytes(self) -> int:
        """Size in memory."""
        return math.prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True)
class Layout:
    """A case of which only the boxes and the headers were read.

    Attributes:
        boxes: (N, 4) xyxy of an image or (N, 6) xyzxyz of a volume, minimum first.
    """

    image: Member
    labels: Member
    boxes: NDArray[np.float32]

    @property
    def is_volume(self) -> bool:
        """Whether the boxes have a z-range."""
        return int(self.boxes.shape[1]) == VOLUME_COLUMNS

    @property
    def depth(self) -> int:
        """Number of slices; an image has one."""
        return self.labels.shape[0] if self.is_volume else 1

    @property
    def size_bytes(self) -> int:
        """Size in memory."""
        return self.image.size_bytes + self.labels.size_bytes


@dataclass(frozen=True)
class SliceData:
    """One slice; its arrays may be parts of a volume in memory and must not be written.

    Attributes:
        image: (H, W) or (H, W, 3) uint8.
        labels: (H, W) integer, i is row i - 1 of the boxes.
        boxes: of the whole case, (N, 4) or (N, 6).
    """

    image: NDArray[np.uint8]
    labels: NDArray[np.integer[Any]]
    boxes: NDArray[np.float32]


@contextmanager
def open_case(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open the archive of a case; what goes wrong with it inside names the file.

    Raises:
        DataError: the file is broken, or is not a case.
    """
    try:
        if not zipfile.is_zipfile(path):
            raise ValueError("File must be a .npz archive, got none or a part of one")
        with zipfile.ZipFile(path) as archive:
            yield archive
    except READ_ERRORS as error:
        raise DataError(f"{path}: {str(error) or type(error).__name__}") from error


def read_member(archive: zipfile.ZipFile, key: str) -> NDArray[Any]:
    """Read one array of an archive.

    Raises:
        ValueError: there is none of that name.
    """
    with _open_member(archive, key) as stream:
        return npy_format.read_array(stream, allow_pickle=False)


def read_member_slice(archive: zipfile.ZipFile, key: str, z: int) -> NDArray[Any]:
    """Read one slice of an array (D, H, W), holding no more than that unless z varies fastest.

    Raises:
        ValueError: there is no such member, or less in it than its header says.
    """
    with _open_member(archive, key) as stream:
        member = _read_header(stream)
        if member.is_c_order:
            size_bytes = member.size_bytes // member.shape[0]
            _skip(stream, z * size_bytes)
            content = stream.read(size_bytes)
            if len(content) < size_bytes:
                raise ValueError(f"Member {key!r} must have {member.size_bytes} bytes, got fewer")
            return np.frombuffer(content, dtype=member.dtype).reshape(member.shape[1:])
    return np.ascontiguousarray(read_member(archive, key)[z])


def read_layout(archive: zipfile.ZipFile) -> Layout:
    """Read boxes and headers of a case and check that they fit each other.

    Raises:
        ValueError: a member is missing, or has another type or shape.
    """
    headers = []
    for key in (PIXELS_KEY, GTS_KEY):
        with _open_member(archive, key) as stream:
            headers.append(_read_header(stream))
    image, labels = headers
    layout = Layout(image, labels, _as_rows(read_member(archive, BOXES_KEY), labels))
    _check_layout(layout)
    return layout


class VolumeCache:
    """Reads slices and keeps volumes, so that not each slice costs a whole decompression.

    An image costs no more than a slice: it is kept where there is room and never at the cost of a
    volume. A copy in another process begins empty.

    Args:
        capacity_bytes: of the arrays kept; 0 keeps nothing.
    """

    def __init__(self, capacity_bytes: int) -> None:
        if capacity_bytes < 0:
            raise ValueError(f"Capacity must be 0 bytes or more, got {capacity_bytes}")
        self._capacity_bytes = capacity_bytes
        self._used_bytes = 0
        self._cases: OrderedDict[Path, _DecodedCase] = OrderedDict()

    def __reduce__(self) -> tuple[type[VolumeCache], tuple[int]]:
        return VolumeCache, (self._capacity_bytes,)

    def read_slice(self, path: Path, z: int) -> SliceData:
        """Read one slice of a volume, or an image, which is slice 0.

        Raises:
            DataError: the file is broken, is not a case, or has no such slice.
        """
        if path not in self._cases:
            with open_case(path) as archive:
                layout = read_layout(archive)
                _check_slice(path, z, layout)
                if layout.is_volume and layout.size_bytes > self._capacity_bytes:
                    image = read_member_slice(archive, PIXELS_KEY, z)
                    labels = read_member_slice(archive, GTS_KEY, z)
                    return SliceData(image, labels, layout.boxes)
                is_kept = self._make_room(layout)
                case = _read_decoded(archive, layout)
            if not is_kept:
                return case.slice(z)
            self._cases[path] = case
            self._used_bytes += layout.size_bytes
        case = self._cases[path]
        _check_slice(path, z, case.layout)
        self._cases.move_to_end(path)
        return case.slice(z)

    def _make_room(self, layout: Layout) -> bool:
        """Say whether a case is to be kept; where it is, drop others until it fits."""
        allowed = self._capacity_bytes - (0 if layout.is_volume else self._used_bytes)
        if layout.size_bytes > allowed:
            return False
        while self._used_bytes + layout.size_bytes > self._capacity_bytes:
            _, oldest = self._cases.popitem(last=False)
            self._used_bytes -= oldest.layout.size_bytes
        return True


@dataclass(frozen=True)
class _DecodedCase:
    layout: Layout
    image: NDArray[np.uint8]
    labels: NDArray[np.integer[Any]]

    def slice(self, z: int) -> SliceData:
        if not self.layout.is_volume:
            return SliceData(self.image, self.labels, self.layout.boxes)
        image, labels = np.ascontiguousarray(self.image[z]), np.ascontiguousarray(self.labels[z])
        return SliceData(image, labels, self.layout.boxes)


def _read_decoded(archive: zipfile.ZipFile, layout: Layout) -> _DecodedCase:
    image, labels = read_member(archive, PIXELS_KEY), read_member(archive, GTS_KEY)
    image.flags.writeable = labels.flags.writeable = False
    return _DecodedCase(layout, image, labels)


@contextmanager
def _open_member(archive: zipfile.ZipFile, key: str) -> Iterator[IO[bytes]]:
    name = f"{key}.npy"
    if name not in archive.NameToInfo:
        names = ", ".join(Path(other).stem for other in archive.namelist()) or "nothing"
        raise ValueError(f"File must have a member {key!r}, got {names}")
    with archive.open(name) as stream:
        yield stream


def _read_header(stream: IO[bytes]) -> Member:
    version = npy_format.read_magic(stream)
    if version not in HEADER_READERS:
        raise ValueError(f"Arrays must have format version 1.0 or 2.0, got {version}")
    shape, is_fortran_order, dtype = HEADER_READERS[version](stream)
    return Member(shape, dtype, not is_fortran_order)


def _skip(stream: IO[bytes], count: int) -> None:
    """Read past some bytes; `seek` of a compressed member would hold up to 16 MB of them."""
    while count > 0:
        passed = len(stream.read(min(count, SKIP_BYTES)))
        if passed == 0:
            return
        count -= passed


def _as_rows(boxes: NDArray[Any], labels: Member) -> NDArray[np.float32]:
    if boxes.size == 0:
        columns = VOLUME_COLUMNS if len(labels.shape) == 3 else IMAGE_COLUMNS
        return np.zeros((0, columns), dtype=np.float32)
    rows = boxes[None] if boxes.ndim == 1 else boxes
    if rows.ndim != 2 or rows.shape[1] not in (IMAGE_COLUMNS, VOLUME_COLUMNS):
        raise ValueError(f"Boxes must have shape (N, 4) or (N, 6), got {boxes.shape}")
    if rows.dtype.kind not in "iuf" or not np.all(np.isfinite(rows)):
        raise ValueError(f"Boxes must be finite numbers, got {rows.dtype}")
    low, high = np.split(rows.astype(np.float32), 2, axis=1)
    return np.concatenate([np.minimum(low, high), np.maximum(low, high)], axis=1)


def _check_layout(layout: Layout) -> None:
    image, labels = layout.image, layout.labels
    if image.dtype != np.uint8 or image.size_bytes == 0:
        raise ValueError(f"{PIXELS_KEY!r} must be uint8, got {image.dtype} {image.shape}")
    if labels.dtype.kind not in "iub":
        raise ValueError(f"{GTS_KEY!r} must be integers, got {labels.dtype}")
    axes = 3 if layout.is_volume else 2
    if len(labels.shape) != axes:
        columns = layout.boxes.shape[1]
        raise ValueError(
            f"{GTS_KEY!r} must have {axes} axes with boxes (N, {columns}), got {labels.shape}"
        )
    channels = image.shape[axes:]
    if image.shape[:axes] != labels.shape or not (
        channels == () or (not layout.is_volume and channels in {(n,) for n in IMAGE_CHANNELS})
    ):
        raise ValueError(f"{PIXELS_KEY!r} must fit {GTS_KEY!r} {labels.shape}, got {image.shape}")


def _check_slice(path: Path, z: int, layout: Layout) -> None:
    if not 0 <= z < layout.depth:
        raise DataError(f"{path}: Slice must be 0 to {layout.depth - 1}, got {z}")
