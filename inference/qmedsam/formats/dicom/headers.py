"""What files say of themselves, pixels left out: which are images, and of which series.

A slice that is left out shifts all boxes by one. So a file that is DICOM, or looks as if it were
one of the slices, and cannot be read is kept as broken; notes and the like are left out.
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import BinaryIO

import pydicom
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    EnhancedUSVolumeStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    ParametricMapStorage,
    RTDoseStorage,
    SegmentationStorage,
)
from pydicom.valuerep import VR

from ..scan import FormatError
from ..suffixes import DICOM_SUFFIXES
from .attributes import Attributes, Dataset, reason
from .sources import SourceFile

MAGIC, MAGIC_AT = b"DICM", 128
LONGEST_META = 4096  # bytes, of what is before the dataset
DEFLATED = b"\x02\0\x10\0UI\x16\0" + DeflatedExplicitVRLittleEndian.encode()  # transfer syntax
LAST_FIRST_ELEMENT = {2: 0x10, 8: 0x70}  # of a dataset without a preamble, by the group
LARGEST_FIRST = 256  # bytes of its first value
VALUE_REPRESENTATIONS = {each.encode() for each in VR}
PIXEL_KEYWORDS = ("FloatPixelData", "DoubleFloatPixelData", "PixelData")
PIXEL_TAGS = (b"\xe0\x7f\x08\0", b"\xe0\x7f\x09\0", b"\xe0\x7f\x10\0", b"\x7f\xe0\0\x10")
SEGMENTATIONS = (SegmentationStorage, UID("1.2.840.10008.5.1.4.1.1.66.7"))  # the second: label maps
IMAGE_STORAGE = "Image Storage"  # in the name of a kind
OTHERS_WITH_PIXELS = (EnhancedUSVolumeStorage, ParametricMapStorage, RTDoseStorage)


@dataclass(frozen=True)
class Header:
    """A file with an image.

    Attributes:
        file: of which it is.
        attributes: all before the pixels.
        series_uid: empty where it is not said.
    """

    file: SourceFile
    attributes: Attributes
    series_uid: str


@dataclass(frozen=True)
class BrokenFile:
    """A file that may be a slice, and cannot be read.

    Attributes:
        name: of the file.
        series_uid: empty where it is not known.
        problem: a sentence.
    """

    name: str
    series_uid: str
    problem: str


@dataclass(frozen=True)
class Headers:
    """What was found among files.

    Attributes:
        images: those that can be read.
        broken: those that cannot.
        others: what there is of DICOM beside images, by the names of its kinds.
    """

    images: list[Header]
    broken: list[BrokenFile]
    others: list[str]


def is_dicom(content: bytes) -> bool:
    """Whether a file says that it is DICOM, or begins as a dataset without a preamble does."""
    return content[MAGIC_AT : MAGIC_AT + len(MAGIC)] == MAGIC or _begins_as_dataset(content)


def read_headers(files: Sequence[SourceFile]) -> Headers:
    """Read what files say of themselves."""
    found = Headers([], [], [])
    unknown = []
    for file in files:
        try:
            with file.open() as stream:
                is_one = is_dicom(stream.read(LONGEST_META))
                if is_one:
                    _sort_in(file, stream, found)
        except OSError as error:
            problem = f"{file.name} cannot be read: {reason(error)}"
            found.broken.append(BrokenFile(file.name, "", problem))
            continue
        if is_one or not file.is_named:
            continue
        if file.name.lower().endswith(DICOM_SUFFIXES):
            problem = f"{file.name} must be DICOM, got something else"
            found.broken.append(BrokenFile(file.name, "", problem))
        else:
            unknown.append(file)
    patterns = {_pattern(header.file.name) for header in found.images}
    for file in unknown:
        if _pattern(file.name) in patterns:
            problem = f"{file.name} must be DICOM as files of such names beside it, got another"
            found.broken.append(BrokenFile(file.name, "", problem))
    return found


def read_dataset(file: SourceFile) -> Dataset:
    """Read a file whole.

    Raises:
        FormatError: it cannot be read.
    """
    try:
        with file.open() as stream:
            return _read(file.name, stream, stop_before_pixels=False)
    except OSError as error:
        raise FormatError(f"{file.name} cannot be read: {reason(error)}") from error


def drop_duplicates(images: Sequence[Header]) -> tuple[list[Header], list[str]]:
    """Leave out files that are equal byte by byte to one before; say so, a sentence each.

    Raises:
        OSError: a file cannot be read any more.
    """
    uids = Counter(header.attributes.lenient("SOPInstanceUID") for header in images)
    kept: list[Header] = []
    remarks: list[str] = []
    seen: dict[bytes, str] = {}
    for header in images:
        uid = header.attributes.lenient("SOPInstanceUID")
        if uid and uids[uid] > 1:  # only of such the whole file is read
            with header.file.open() as stream:
                digest = hashlib.sha256(stream.read()).digest()
            if digest in seen:
                remarks.append(f"{header.file.name} is the same as {seen[digest]} and is left out.")
                continue
            seen[digest] = header.file.name
        kept.append(header)
    return kept, remarks


def _sort_in(file: SourceFile, stream: BinaryIO, found: Headers) -> None:
    """Read the header of a file that is DICOM, and put it where it belongs.

    Raises:
        OSError: it cannot be read any more.
    """
    try:
        dataset = _read(file.name, stream, stop_before_pixels=True)
        has_pixels = stream.read(len(PIXEL_TAGS[0])) in PIXEL_TAGS
    except FormatError as error:
        found.broken.append(BrokenFile(file.name, "", str(error)))
        return
    attributes = Attributes(dataset, file.name)
    series_uid = attributes.lenient("SeriesInstanceUID")
    own_kind = attributes.lenient("SOPClassUID")
    media_kind = Attributes(dataset.file_meta, file.name).lenient("MediaStorageSOPClassUID")
    kind = UID(own_kind or media_kind)
    # A name that is cut off is in no dictionary, and not the same in both places.
    is_kind = kind.name != kind or own_kind == media_kind != ""
    if kind in SEGMENTATIONS:
        found.others.append(kind.name)
    elif has_pixels:
        found.images.append(Header(file, attributes, series_uid))
    elif is_kind and not (IMAGE_STORAGE in kind.name or kind in OTHERS_WITH_PIXELS):
        found.others.append(kind.name)
    else:
        problem = f"{file.name} must have pixels, it may have been cut off"
        found.broken.append(BrokenFile(file.name, series_uid, problem))


def _read(name: str, stream: BinaryIO, *, stop_before_pixels: bool) -> Dataset:
    """Read a file by pydicom, whole or up to its pixels.

    Raises:
        FormatError: it cannot be read.
    """
    try:
        stream.seek(0)
        start = stream.read(LONGEST_META)
        stream.seek(0)
        if DEFLATED in start:  # which pydicom inflates without a limit
            raise ValueError("it is deflated as a whole, which is not read")
        dataset: Dataset = pydicom.dcmread(
            stream, force=_begins_as_dataset(start), stop_before_pixels=stop_before_pixels
        )
        if "TransferSyntaxUID" not in dataset.file_meta:
            dataset.file_meta.TransferSyntaxUID = _encoding(dataset)
    except Exception as error:  # of a broken file, any
        raise FormatError(f"{name} must be readable DICOM, got: {reason(error)}") from error
    return dataset


def _encoding(dataset: Dataset) -> UID:
    """Return the transfer syntax of a file that does not say it, as pydicom found it."""
    is_implicit, is_little_endian = dataset.original_encoding
    if is_implicit:
        return ImplicitVRLittleEndian
    return ExplicitVRLittleEndian if is_little_endian else ExplicitVRBigEndian


def _begins_as_dataset(content: bytes) -> bool:
    """Whether a file begins with one of the elements that come first in a dataset."""
    group, element, length = struct.unpack("<HHI", content[:8].ljust(8, b"\xff"))
    if element > LAST_FIRST_ELEMENT.get(group, -1):
        return False
    if content[4:6] in VALUE_REPRESENTATIONS:
        length >>= 16
    return bool(length <= LARGEST_FIRST)


def _pattern(name: str) -> str:
    """Return the name of a file without its numbers, which slices have."""
    path = PurePath(name)
    return str(path.with_name(re.sub(r"[\d.]+", "#", path.name)))
