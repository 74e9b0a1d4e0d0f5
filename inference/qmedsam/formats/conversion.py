"""Cases made of files of other formats, and files of other formats made of cases."""

from __future__ import annotations

import json
from pathlib import Path

from ..batch.case_file import open_case
from ..batch.cases import CASE_SUFFIX, INFO_KEY, LONGEST_INFO, read_label_map, write_case
from ..core.postprocess import LabelMap
from ..errors import InvalidCaseError
from ..system.files import write_bytes
from .boxed_scan import BoxedScan
from .dispatch import write_labels
from .npz import CaseScan
from .scan import FormatError, LabelNotes, Scan


def read_case_notes(path: Path) -> LabelNotes | None:
    """Return what an archive says of window and names; None where it says nothing.

    `segment` and `convert` write that, into label maps and cases, and `run` what the case has.

    Raises:
        FormatError: the archive cannot be read.
    """
    try:
        with open_case(path) as opened:
            if not opened.has(INFO_KEY):
                return None
            return LabelNotes.from_json(str(opened.array(INFO_KEY, LONGEST_INFO)))
    except InvalidCaseError as error:
        raise FormatError(f"{path}: {error}") from error


def write_case_labels(scan: Scan, labels: Path, output: Path, notes: LabelNotes) -> LabelMap:
    """Write the label map of a case in the geometry of the image that the case was made of.

    Args:
        scan: the image.
        labels: the label map, as the folder command writes it.
        output: the file to write.
        notes: to go with it.

    Returns:
        The label map.

    Raises:
        FormatError: the label map cannot be read, is not of this image, or cannot be written.
    """
    try:
        label_map = read_label_map(labels)
    except InvalidCaseError as error:
        raise FormatError(f"{labels}: {error}") from error
    if label_map.shape != scan.label_shape:
        raise FormatError(f"{labels} must have shape {scan.label_shape}, got {label_map.shape}")
    write_labels(scan, label_map, output, notes)
    return label_map


def write_boxed_case(boxed: BoxedScan, output: Path) -> tuple[str, ...]:
    """Write an image with its boxes as a case.

    Returns:
        What will be corrected of the boxes, a sentence each.

    Raises:
        FormatError: the file is not named as a case, or the boxes do not fit the image.
        InvalidCaseError: they are no boxes.
        OSError: it cannot be written.
    """
    if output.suffix.lower() != CASE_SUFFIX:
        raise FormatError(f"{output} must end in {CASE_SUFFIX}, as a case does")
    own = boxed.own_boxes()
    notes = boxed.prompts(own).notes
    pixel_boxes = boxed.scan.boxes_to_pixels(own)
    output.parent.mkdir(parents=True, exist_ok=True)
    write_case(output, boxed.scan.pixels, pixel_boxes, boxed.notes.as_json())
    return notes


def write_case_as_file(case: CaseScan, output: Path, *, boxes_file: Path | None) -> None:
    """Write the pixels of a case as PNG or NIfTI, and its boxes as JSON.

    Args:
        case: to write.
        output: the file of the pixels.
        boxes_file: the file of the boxes; None has none.

    Raises:
        FormatError: the file is not named as one of these.
        OSError: one cannot be written.
    """
    content = case.encode_pixels(str(output))
    output.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(output, content)
    if boxes_file is not None:
        boxes_file.parent.mkdir(parents=True, exist_ok=True)
        boxes = [
            {"box": box.corners, "name": box.name} if box.name else box.corners
            for box in case.named_boxes()
        ]
        write_bytes(boxes_file, json.dumps({"boxes": boxes}).encode())
