"""The size that compressed pixels say of themselves, read before they are decoded.

A decoder makes room for what the codestream says, not for what DICOM says of it, and may take the
first bytes of a larger picture for the picture.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pydicom.encaps import generate_frames, get_frame
from pydicom.uid import JPEG2000TransferSyntaxes, JPEGLSTransferSyntaxes, JPEGTransferSyntaxes

from ..scan import FormatError
from .attributes import Dataset
from .frames import Frame

WITH_SIZE = (*JPEGTransferSyntaxes, *JPEGLSTransferSyntaxes, *JPEG2000TransferSyntaxes)
# JPEG and JPEG-LS: markers, of which all but a few begin a segment that says its length.
JPEG_START = b"\xff\xd8"
FRAME_HEADERS = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}  # SOF; the last is of JPEG-LS
WITHOUT_LENGTH = {0x01, *range(0xD0, 0xD9)}
ENDS = {0xD9, 0xDA}  # of all, and of what comes before the values
FRAME_HEADER = struct.Struct(">BHHB")  # bits, rows, columns, samples; behind the length
# JPEG 2000: the size comes first, in the codestream or in a box of a file that is around it.
JPEG_2000_START = b"\xff\x4f\xff\x51"
JPEG_2000_SIZE = struct.Struct(">HHIIIIIIIIH")
BOXES_START = b"\0\0\0\x0cjP  "
CODESTREAM_BOX = b"jp2c"


@dataclass(frozen=True)
class Size:
    """What a codestream holds.

    Attributes:
        hw: rows and columns.
        samples: of a pixel.
    """

    hw: tuple[int, int]
    samples: int

    def __str__(self) -> str:
        return f"{self.hw[0]} x {self.hw[1]} of {self.samples}"


def check_codestreams(dataset: Dataset, frames: Sequence[Frame], indices: list[int] | None) -> None:
    """Check that compressed pixels are of the size that DICOM says, before they are decoded.

    Args:
        dataset: of the file.
        frames: that are decoded.
        indices: of these in the file; None is all in it.

    Raises:
        FormatError: they are of another one, or do not say it.
        Exception: what holds them is broken; what, the library decides.
    """
    if dataset.file_meta.TransferSyntaxUID not in WITH_SIZE:
        return
    attributes = frames[0].header.attributes
    expected = Size(frames[0].hw, attributes.count("SamplesPerPixel", 1))
    for codestream in _encoded(dataset, frames[0].count, indices):
        found = size_of(codestream)
        if found != expected:
            raise FormatError(
                f"{attributes.name} must have compressed pixels of the Rows, Columns and "
                f"SamplesPerPixel that it says, {expected}, got {found or 'none that say it'}"
            )


def size_of(codestream: bytes) -> Size | None:
    """Return what JPEG, JPEG-LS or JPEG 2000 says of its size; None of what does not say it."""
    try:
        if codestream.startswith(JPEG_START):
            return _size_of_jpeg(codestream)
        at = _place_in_boxes(codestream) if codestream.startswith(BOXES_START) else 0
        if codestream.startswith(JPEG_2000_START, at):
            return _size_of_jpeg_2000(codestream, at + len(JPEG_2000_START))
    except (IndexError, struct.error):  # it is cut off
        return None
    return None


def _encoded(dataset: Dataset, count: int, indices: list[int] | None) -> Iterable[bytes]:
    """Return the codestreams as pydicom finds them, of which there may be more than frames."""
    offsets = None
    if "ExtendedOffsetTable" in dataset:
        offsets = dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths
    if indices is None:
        return generate_frames(dataset.PixelData, number_of_frames=count, extended_offsets=offsets)
    return (
        get_frame(dataset.PixelData, each, number_of_frames=count, extended_offsets=offsets)
        for each in indices
    )


def _size_of_jpeg(codestream: bytes) -> Size | None:
    """Return the size in the first frame header.

    Raises:
        IndexError, struct.error: there is none.
    """
    at = len(JPEG_START)
    while (at := codestream.find(b"\xff", at)) >= 0:
        marker = codestream[at + 1]
        if marker in ENDS:
            return None
        if marker in (0, 0xFF):  # no marker, and what may be before one
            at += 1
        elif marker in WITHOUT_LENGTH:
            at += 2
        elif marker in FRAME_HEADERS:
            _, rows, columns, samples = FRAME_HEADER.unpack_from(codestream, at + 4)
            return Size((rows, columns), samples)
        else:
            at += 2 + struct.unpack_from(">H", codestream, at + 2)[0]
    return None


def _size_of_jpeg_2000(codestream: bytes, at: int) -> Size:
    """Return the size behind its marker.

    Raises:
        struct.error: it is cut off.
    """
    fields = JPEG_2000_SIZE.unpack_from(codestream, at)
    right, bottom, left, top = fields[2:6]
    return Size((bottom - top, right - left), fields[-1])


def _place_in_boxes(content: bytes) -> int:
    """Return where the codestream begins in a file of JPEG 2000, or its end.

    Raises:
        struct.error: it is cut off.
    """
    at = 0
    while at < len(content):
        length, kind = struct.unpack_from(">I4s", content, at)
        head = 8
        if length == 1:  # in 8 bytes, behind
            (length,), head = struct.unpack_from(">Q", content, at + 8), 16
        if kind == CODESTREAM_BOX:
            return at + head
        if length < head:
            break
        at += length
    return len(content)
