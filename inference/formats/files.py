"""Which format a file has, by its name, and boxes from text."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np

from ..cases import CASE_SUFFIX, write_label_map
from ..geometry import Boxes
from ..postprocess import LabelMap
from . import dicom, nifti, picture
from .intensity import PERCENTILES, IntensityWindow
from .scan import FormatError, Scan

SUFFIXES = (*nifti.SUFFIXES, *dicom.SUFFIXES, *picture.SUFFIXES)


def open_scan(path: Path, window: str | IntensityWindow | None) -> Scan:
    """Read an image or volume.

    Args:
        path: of the file, whose name ends in one of `SUFFIXES`, or of a folder with the slices of a
            DICOM series.
        window: of its values; None is what suits the format: percentiles, soft tissue for CT in
            DICOM, and pictures of 8 bits as they are.

    Raises:
        FormatError: the name ends otherwise, or the file cannot be read.
        WindowError: the window does not fit its values.
    """
    name = path.name.lower()
    if name.endswith(nifti.SUFFIXES):
        return nifti.NiftiScan(path, window or PERCENTILES)
    if name.endswith(picture.SUFFIXES):
        return picture.PictureScan(path, window)
    if path.is_dir() or name.endswith(dicom.SUFFIXES):
        return dicom.DicomScan(path, window)
    raise FormatError(
        f"{path} must be the folder of a DICOM series, or end in {', '.join(SUFFIXES)}"
    )


def write_labels(scan: Scan, label_map: LabelMap, path: Path, note: str) -> None:
    """Write a label map in the geometry of a scan, or as the challenge's `.npz`.

    Raises:
        FormatError: the name does not fit the scan, or the file cannot be written.
    """
    suffixes = scan.label_suffixes
    name = path.name.lower()
    if not name.endswith((*suffixes, CASE_SUFFIX)):
        raise FormatError(f"{path} must end in {', '.join((*suffixes, CASE_SUFFIX))}")
    path.parent.mkdir(parents=True, exist_ok=True)
    if name.endswith(CASE_SUFFIX):
        try:
            write_label_map(path, label_map)
        except OSError as error:
            raise FormatError(f"{path} cannot be written: {error}") from error
    else:
        scan.write(label_map, path, note)


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
