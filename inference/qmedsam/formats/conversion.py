"""Cases made of files of other formats, and files of other formats made of cases."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..batch.cases import CASE_SUFFIX, write_case
from ..core.postprocess import LabelMap
from ..system.files import write_bytes
from .boxed_scan import BoxedScan
from .label_grids import read_label_grids
from .label_placing import on_pixels
from .npz import CaseScan
from .scan import MOST_LABEL, FormatError, Scan


@dataclass(frozen=True)
class ReadLabels:
    """A label map of an image.

    Attributes:
        label_map: of the image's `label_shape`.
        names: of its objects, empty where they have none.
        window: how values became 8 bits; None where the file does not say.
        remarks: what a user should know, a sentence each.
    """

    label_map: LabelMap
    names: tuple[str, ...]
    window: str | None
    remarks: tuple[str, ...]


def read_labels(path: Path, scan: Scan) -> ReadLabels:
    """Read labels that are there already as a label map of an image.

    Args:
        path: as of `read_label_grids`. A label map, and a SEG that does not refer to the slices of
            the image, must be on its grid, or a part of it, the axes in any order and direction.
        scan: the image. Where objects of a SEG or an RTSTRUCT overlap, the later one counts.

    Raises:
        FormatError: the file cannot be read, holds no labels, or is not of this image.
    """
    file = read_label_grids(path, scan)
    depth = len(scan.pixels) if scan.is_volume else 1
    label_map: LabelMap = np.zeros((depth, *scan.label_shape[-2:]), dtype=np.uint16)
    names: dict[int, str] = {}
    covered, is_beside = 0, False
    for grid in file.grids:
        names |= grid.names
        on_image, has_more = on_pixels(path, grid, scan)
        is_beside |= has_more
        for drawn, found in zip(label_map, on_image, strict=True):
            fits = (found >= 0) & (found <= MOST_LABEL) & (found == np.rint(found))
            if not fits.all():
                raise FormatError(
                    f"{path} must have labels, whole from 0 to {MOST_LABEL}, got "
                    f"{found[~fits][0]:g}"
                )
            is_label = found > 0
            covered += int((is_label & (drawn > 0)).sum())
            drawn[is_label] = found[is_label]
    remarks = [*file.remarks]
    if is_beside and not label_map.any():
        raise FormatError(f"{path} must have labels on the image, got all of them beside it")
    if is_beside:
        remarks.append("Labels beside the image are left out.")
    if covered:
        remarks.append(f"Objects overlap on {covered} voxels, where the later one counts.")
    if label_map.max(initial=0) <= np.iinfo(np.uint8).max:
        label_map = label_map.astype(np.uint8)
    return ReadLabels(
        label_map if scan.is_volume else label_map[0],
        tuple(names.get(label, "") for label in range(1, max(names, default=0) + 1)),
        file.notes.window if file.notes else None,
        tuple(remarks),
    )


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
