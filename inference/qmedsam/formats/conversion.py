"""Cases made of files of other formats, and files of other formats made of cases."""

from __future__ import annotations

import json
from pathlib import Path

from ..batch.cases import CASE_SUFFIX, read_label_map, write_case
from ..system.files import write_bytes
from .boxed_scan import BoxedScan
from .dispatch import write_labels
from .npz import CaseScan
from .scan import FormatError, LabelNotes, Scan


def write_case_labels(scan: Scan, labels: Path, output: Path, notes: LabelNotes) -> None:
    """Write the label map of a case in the geometry of the image that the case was made of.

    Args:
        scan: the image.
        labels: the label map, as the folder command writes it.
        output: the file to write.
        notes: to go with it.

    Raises:
        InvalidCaseError: the label map cannot be read.
        FormatError: it is not of this image, or cannot be written.
    """
    label_map = read_label_map(labels)
    if label_map.shape != scan.label_shape:
        raise FormatError(f"{labels} must have shape {scan.label_shape}, got {label_map.shape}")
    write_labels(scan, label_map, output, notes)


def write_boxed_case(boxed: BoxedScan, output: Path) -> None:
    """Write an image with its boxes as a case.

    Raises:
        FormatError: the file is not named as a case, or the boxes are not of the image.
        OSError: it cannot be written.
    """
    if output.suffix.lower() != CASE_SUFFIX:
        raise FormatError(f"{output} must end in {CASE_SUFFIX}, as a case does")
    pixel_boxes = boxed.scan.boxes_to_pixels(boxed.own_boxes())
    output.parent.mkdir(parents=True, exist_ok=True)
    write_case(output, boxed.scan.pixels, pixel_boxes, boxed.notes.as_json())


def write_case_as_file(case: CaseScan, output: Path, *, boxes_file: Path | None) -> None:
    """Write the pixels of a case as PNG or NIfTI, and its boxes as JSON.

    Raises:
        FormatError: the file is not named as one of these.
        OSError: one cannot be written.
    """
    content = case.encode_pixels(str(output))
    output.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(output, content)
    if boxes_file is not None:
        boxes_file.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(boxes_file, json.dumps({"boxes": case.boxes.tolist()}).encode())
