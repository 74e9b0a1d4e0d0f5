"""Small series of CT, clean but for what a test changes."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import correct_ambiguous_vr, write_data_element, write_file_meta_info
from pydicom.tag import Tag
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    generate_uid,
)

from qmedsam.formats.dicom.headers import Header, read_headers
from qmedsam.formats.dicom.sources import files_of_path

HW = (8, 10)
STEP_MM = 2.0
LONG_KINDS = (b"OB", b"OD", b"OF", b"OL", b"OW", b"SQ", b"UC", b"UN", b"UR", b"UT")
SERIES_UID, STUDY_UID, REFERENCE_UID = "1.2.3.4.1", "1.2.3.4.2", "1.2.3.4.3"


def ct_slice(number: int = 0, **attributes: Any) -> Dataset:
    """Return a slice of CT, of which all values are -1000 HU + 100 times its number.

    Args:
        number: of the slice, from the bottom.
        attributes: that differ; None takes one away.
    """
    found = Dataset()
    found.SOPClassUID = CTImageStorage
    found.SOPInstanceUID = f"1.2.3.4.5.{number + 1}"
    found.StudyInstanceUID, found.SeriesInstanceUID = STUDY_UID, SERIES_UID
    found.FrameOfReferenceUID = REFERENCE_UID
    found.Modality, found.Manufacturer = "CT", "Maker"
    found.PatientName, found.PatientID = "Doe^Jane", "7"
    found.PatientSex, found.PatientBirthDate = "F", "19700102"
    found.StudyDate, found.StudyTime, found.StudyID = "20200304", "050607", "9"
    found.AccessionNumber, found.ReferringPhysicianName = "11", "Roe^Richard"
    found.SeriesNumber, found.InstanceNumber = 3, number + 1
    found.ImagePositionPatient = [1, 2, STEP_MM * number]
    found.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    found.PixelSpacing, found.SliceThickness = [0.7, 0.5], 2.5
    found.Rows, found.Columns = HW
    found.SamplesPerPixel, found.PhotometricInterpretation = 1, "MONOCHROME2"
    found.BitsAllocated = found.BitsStored = 16
    found.HighBit, found.PixelRepresentation = 15, 1
    found.RescaleSlope, found.RescaleIntercept = 1, -1024
    found.PixelData = np.full(HW, 24 + 100 * number, np.int16).tobytes()
    for keyword, value in attributes.items():
        if value is None:
            delattr(found, keyword)
        else:
            setattr(found, keyword, value)
    return found


def save(dataset: Dataset, path: Path, syntax: str = ExplicitVRLittleEndian) -> Path:
    """Write a file with a preamble."""
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.MediaStorageSOPClassUID = dataset.get("SOPClassUID", CTImageStorage)
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.get("SOPInstanceUID") or "1.2.3"
    dataset.save_as(path, enforce_file_format=True)
    return path


def save_jpeg_2000(dataset: Dataset, path: Path, *frames: bytes) -> Path:
    """Write a file whose values are packed by JPEG 2000."""
    dataset.PixelData = encapsulate(list(frames))
    dataset["PixelData"].is_undefined_length = True
    return save(dataset, path, JPEG2000Lossless)


def write_series(
    folder: Path, count: int = 5, change: Callable[[int, Dataset], object] | None = None
) -> Path:
    """Write slices as IM0000.dcm and so on, each changed as a test wants it."""
    for number in range(count):
        dataset = ct_slice(number)
        if change is not None:
            change(number, dataset)
        save(dataset, folder / f"IM{number:04}.dcm")
    return folder


def with_raw(dataset: Dataset, raw: dict[str, tuple[bytes, bytes]]) -> bytes:
    """Return a file some of whose elements are what no library writes.

    Args:
        dataset: of the others.
        raw: kind and value by keyword, in explicit VR.
    """
    elements: dict[int, bytes] = {}
    for element in correct_ambiguous_vr(dataset, is_little_endian=True):
        stream = DicomBytesIO()
        stream.is_implicit_VR, stream.is_little_endian = False, True
        write_data_element(stream, element)
        elements[int(element.tag)] = stream.getvalue()
    for keyword, (kind, value) in raw.items():
        elements[int(Tag(keyword))] = raw_element(keyword, kind, value)
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, "1.2.3"
    stream = DicomBytesIO()
    write_file_meta_info(stream, meta)
    content = b"".join(elements[tag] for tag in sorted(elements))
    return bytes(bytes(128) + b"DICM" + stream.getvalue() + content)


def raw_element(keyword: str, kind: bytes, value: bytes) -> bytes:
    """Return an element in explicit VR, whatever its kind and value."""
    tag = Tag(keyword)
    value += b" " * (len(value) % 2)
    is_long = kind in LONG_KINDS
    length = struct.pack("<HI" if is_long else "<H", *([0] if is_long else []), len(value))
    return struct.pack("<HH", tag.group, tag.element) + kind + length + value


def raw_item(*elements: bytes) -> bytes:
    """Return an item of a sequence."""
    content = b"".join(elements)
    return struct.pack("<HHI", 0xFFFE, 0xE000, len(content)) + content


def write_bare(dataset: Dataset, path: Path) -> Path:
    """Write a file without preamble and file meta information."""
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, implicit_vr=True, little_endian=True, enforce_file_format=False)
    return path


def headers(path: Path) -> list[Header]:
    """Return the headers of a folder's images."""
    return read_headers(files_of_path(path)).images


def header(dataset: Dataset, folder: Path) -> Header:
    """Return the header of a file with a dataset."""
    return headers(save(dataset, folder / f"{generate_uid()}.dcm"))[0]
