"""Which format a file has, by its name, and boxes from text."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np

from ..archive import archive_of
from ..cases import CASE_SUFFIX, LABELS_KEY
from ..files import write_bytes
from ..geometry import Boxes
from ..postprocess import LabelMap
from ..version import __version__
from . import case, dicom, nifti, picture
from .intensity import IntensityWindow, describe
from .scan import FormatError, Scan

SUFFIXES = (*nifti.SUFFIXES, *dicom.SUFFIXES, *picture.SUFFIXES, *case.SUFFIXES)


def open_scan(path: Path, window: str | IntensityWindow | None) -> Scan:
    """Read an image or volume from a file or the folder of a DICOM series; see `read_scan`."""
    try:
        if path.is_dir():
            files = sorted(file for file in path.iterdir() if file.is_file())
            visible = [file for file in files if not file.name.startswith(".")]
            return dicom.DicomScan(str(path), [file.read_bytes() for file in visible], window)
        if not path.name.lower().endswith(SUFFIXES):  # before it is read
            raise FormatError(
                f"{path} must be the folder of a DICOM series, or end in {', '.join(SUFFIXES)}"
            )
        return read_scan(str(path), path.read_bytes(), window)
    except OSError as error:
        raise FormatError(f"{path} cannot be read: {error}") from error


def read_scan(name: str, content: bytes, window: str | IntensityWindow | None = None) -> Scan:
    """Read an image or volume from the content of a file.

    Args:
        name: of the file, which ends in one of `SUFFIXES`.
        content: of the file.
        window: of its values; None is what suits the format: percentiles, soft tissue for CT in
            DICOM, and pictures of 8 bits as they are.

    Raises:
        FormatError: the name ends otherwise, or the file cannot be read.
        WindowError: the window does not fit its values.
    """
    lower = name.lower()
    if lower.endswith(nifti.SUFFIXES):
        return nifti.NiftiScan(name, content, window)
    if lower.endswith(picture.SUFFIXES):
        return picture.PictureScan(name, content, window)
    if lower.endswith(dicom.SUFFIXES):
        return dicom.DicomScan(name, [content], window)
    if lower.endswith(case.SUFFIXES):
        return case.CaseScan(name, content, window)
    raise FormatError(f"{name} must end in {', '.join(SUFFIXES)}")


def encode_labels(scan: Scan, label_map: LabelMap, name: str) -> bytes:
    """Return the file of a label map in the geometry of a scan, or as the challenge's `.npz`.

    Args:
        scan: of which it is.
        label_map: of the scan's `label_shape`.
        name: of the file, whose end says which format.

    Raises:
        FormatError: the name does not fit the scan, or the labels cannot be encoded.
    """
    suffixes = (*scan.label_suffixes, CASE_SUFFIX)
    suffix = next((each for each in suffixes[::-1] if name.lower().endswith(each)), None)
    if suffix is None:
        raise FormatError(f"{name} must end in {', '.join(suffixes)}")
    if suffix == CASE_SUFFIX:
        return archive_of(f"{LABELS_KEY}.npy", label_map)
    return scan.encode(label_map, suffix, f"qmedsam {__version__}, {describe(scan.window)}")


def write_labels(scan: Scan, label_map: LabelMap, path: Path) -> None:
    """Write what `encode_labels` returns.

    Raises:
        FormatError: the name does not fit the scan, or the file cannot be written.
    """
    content = encode_labels(scan, label_map, str(path))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, content)
    except OSError as error:
        raise FormatError(f"{path} cannot be written: {error}") from error


def parse_box(text: str) -> list[float]:
    """Read the coordinates of a box, four or six numbers with commas between.

    Raises:
        FormatError: they are not.
    """
    try:
        box = [float(value) for value in text.split(",")]
    except ValueError:
        box = []
    if len(box) not in (4, 6):
        raise FormatError(f"Box must be x0,y0,x1,y1 or x0,y0,z0,x1,y1,z1, got {text!r}")
    return box


def read_boxes(path: Path) -> list[list[float]]:
    """Read boxes from JSON, a list of lists or an object with `boxes`, or from CSV, a row a box.

    Raises:
        FormatError: the file cannot be read, or holds something else.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise FormatError(f"{path} cannot be read: {error}") from error
    if path.suffix.lower() == ".json":
        try:
            document = json.loads(text)
            rows = document["boxes"] if isinstance(document, dict) else document
            return [[float(value) for value in row] for row in rows]
        except (ValueError, KeyError, TypeError) as error:
            raise FormatError(f"{path} must be JSON with a list of boxes, got {error!r}") from error
    boxes = []
    for number, row in enumerate(csv.reader(text.splitlines()), 1):
        try:
            boxes.append([float(value) for value in row])
        except ValueError as error:
            if number > 1:  # the first may name the columns
                raise FormatError(f"{path}, line {number}: must be numbers, got {row}") from error
    return [box for box in boxes if box]


def stack_boxes(rows: list[list[float]], columns: int) -> Boxes:
    """Return boxes (N, columns).

    Raises:
        FormatError: a box has another number of coordinates.
    """
    for row in rows:
        if len(row) != columns:
            raise FormatError(f"Boxes must have {columns} coordinates for this file, got {row}")
    return np.array(rows, dtype=np.float32).reshape(len(rows), columns)
