"""Labels written in the geometry of their image, in a format that the name of the file says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from ..batch.case_file import SEGS_KEY
from ..batch.cases import CASE_SUFFIX, archive_with_info
from ..config import as_path
from ..core.postprocess import LabelMap
from ..system.files import write_bytes
from .dispatch import Name
from .label_notes import LabelNotes
from .scan import MOST_LABEL, FormatError, Scan
from .seal import seal
from .suffixes import SEG, SEG_SUFFIX


def check_labels_name(scan: Scan, name: str, kind: str = SEG) -> str:
    """Return how labels are to be written: the suffix of a name, or `rtstruct`.

    Args:
        scan: of which they are.
        name: of the file.
        kind: one of `DICOM_KINDS`, what a DICOM file of labels is.

    Raises:
        FormatError: it does not fit the scan, or labels of it cannot be written so.
    """
    suffixes = (*scan.refusals, *scan.label_suffixes, CASE_SUFFIX)
    suffix = next((each for each in suffixes[::-1] if name.lower().endswith(each)), None)
    if suffix is None:
        fitting = ", ".join((*scan.label_suffixes, CASE_SUFFIX))
        raise FormatError(f"{name} must end in {fitting}")
    if kind != SEG and suffix != SEG_SUFFIX:
        raise FormatError(f"{name} must end in {SEG_SUFFIX}, as an RTSTRUCT does")
    way = suffix if kind == SEG else kind
    try:
        scan.check(way)
    except FormatError as error:
        raise FormatError(f"{name} cannot be written. {error}") from error
    return way


def encode_labels(
    scan: Scan, label_map: ArrayLike, *, name: str, notes: LabelNotes, kind: str = SEG
) -> bytes:
    """Return the file of a label map in the geometry of a scan, or as the challenge's `.npz`.

    Args:
        scan: of which it is.
        label_map: of the scan's `label_shape`, integers from 0 to 65,535 or booleans.
        name: of the file, whose end says which format.
        notes: to go with it.
        kind: one of `DICOM_KINDS`, what a DICOM file is: `seg` or `rtstruct`.

    Raises:
        FormatError: the name or the label map does not fit the scan, or the labels cannot be
            encoded.
    """
    way = check_labels_name(scan, name, kind)
    label_map = checked_labels(scan, label_map)
    if way == CASE_SUFFIX:
        return archive_with_info({SEGS_KEY: label_map}, notes.as_json())
    return seal(scan.encode(label_map, way, replace(notes, has_seal=True)))


def write_labels(
    scan: Scan,
    label_map: ArrayLike,
    path: Name,
    *,
    notes: LabelNotes | None = None,
    kind: str = SEG,
) -> None:
    """Write what `encode_labels` returns; without notes, those of the scan's window.

    Raises:
        TypeError: the path is none.
        FormatError: the name or the label map does not fit the scan, or the file cannot be
            written.
    """
    path = as_path(path, "Path")
    notes = notes or scan.notes_of(())
    content = encode_labels(scan, label_map, name=str(path), notes=notes, kind=kind)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, content)
    except OSError as error:
        raise FormatError(f"{path} cannot be written: {error}") from error


def checked_labels(scan: Scan, labels: ArrayLike) -> LabelMap:
    """Return labels in the fewest bytes that hold them.

    Raises:
        FormatError: they are not of the scan's shape, or no labels.
    """
    label_map = np.asarray(labels)
    if label_map.shape != scan.label_shape:
        raise FormatError(
            f"Label map must have the image's shape {scan.label_shape}, got {label_map.shape}"
        )
    if label_map.dtype in (np.uint8, np.uint16):
        return label_map
    if label_map.dtype.kind not in "biu":
        raise FormatError(f"Label map must have integers, got {label_map.dtype}")
    low, high = int(label_map.min(initial=0)), int(label_map.max(initial=0))
    if low < 0 or high > MOST_LABEL:
        raise FormatError(f"Labels must be 0 to {MOST_LABEL}, got {low} to {high}")
    return label_map.astype(np.uint8 if high <= np.iinfo(np.uint8).max else np.uint16)
