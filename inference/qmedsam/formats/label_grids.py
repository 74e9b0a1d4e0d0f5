"""Labels that are there already, of any program: label maps, DICOM SEG and RTSTRUCT.

A label map or a SEG may be of another grid than the image. Where both files say where they lie,
that counts; else labels must be as many as pixels. A SEG that refers to the slices of the image
goes by that. Contours of an RTSTRUCT are drawn on the slices of the image.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.uid import RTStructureSetStorage

from ..batch.case_file import GTS_KEY, SEGS_KEY, open_case
from ..batch.cases import CASE_SUFFIX, INFO_KEY, LONGEST_INFO
from ..errors import InvalidCaseError
from ..system.memory import largest_label_map_bytes
from .dicom.attributes import Attributes
from .dicom.headers import SEGMENTATIONS, read_dataset
from .dicom.scan import DicomScan
from .dicom.segmentation_file import SlicesOf, segments_of
from .dicom.sources import files_of_path
from .dicom.structure_set_file import draw_structures, structures_of
from .dispatch import begins_as_dicom, open_scan
from .label_notes import LabelNotes, written_notes
from .label_picture import read_label_picture
from .label_placing import LabelGrid, check_along
from .scan import PLANES, FormatError, Scan, SeveralVolumesError
from .suffixes import DICOM_SUFFIXES, LABEL_PICTURE_SUFFIXES, VOLUME_SUFFIXES
from .volume import VolumeScan


@dataclass(frozen=True)
class LabelFile:
    """What a file of labels holds.

    Attributes:
        grids: one of a label map; of a SEG or an RTSTRUCT one for each object, as they may overlap,
            read one after another.
        remarks: what a user should know, a sentence each; whole when all grids have been read.
        notes: that this program wrote with a label map; None where there are none.
    """

    grids: Iterator[LabelGrid]
    remarks: list[str]
    notes: LabelNotes | None = None


def is_labels_name(path: Path) -> bool:
    """Say whether a file is one of labels, and not of boxes in words."""
    suffixes = (*VOLUME_SUFFIXES, *LABEL_PICTURE_SUFFIXES, CASE_SUFFIX)
    return path.name.lower().endswith(suffixes) or _is_dicom(path)


def read_label_grids(path: Path, scan: Scan) -> LabelFile:
    """Read a file of labels.

    Args:
        path: of a label map, in a format of images that keeps values or in the challenge's `.npz`
            (`segs`, else `gts`), or of a DICOM SEG or RTSTRUCT.
        scan: the image or volume that they are labels of.

    Raises:
        FormatError: the file cannot be read, or is not of this image; also while grids are read.
    """
    if _is_dicom(path):
        return _read_dicom(path, scan)
    if path.name.lower().endswith(CASE_SUFFIX):
        return _read_archive(path, scan)
    if path.name.lower().endswith(LABEL_PICTURE_SUFFIXES):
        return _read_picture(path, scan)
    if not path.name.lower().endswith(VOLUME_SUFFIXES):
        raise FormatError(f"{path} must be a label map, a DICOM SEG or an RTSTRUCT by its name")
    plane = scan.plane if isinstance(scan, VolumeScan) else PLANES[0]
    try:
        labels = open_scan(path, plane=plane)
    except SeveralVolumesError as error:
        raise FormatError(f"{path} must hold one volume of labels, got several") from error
    if labels.affine is None or not labels.is_placed or not scan.is_placed:
        return _of_each_pixel(path, labels.values, scan)
    if scan.affine is None:
        raise FormatError(
            f"{path} must be a label map without places, a DICOM SEG or an RTSTRUCT for this "
            "image, whose slices lie on no grid on which its labels could be found"
        )
    turn = np.linalg.inv(scan.affine @ scan.own_axes) @ labels.affine @ labels.own_axes
    check_along(path, turn)
    slices = labels.values if labels.is_volume else labels.values[None]
    return _with_notes(path, slices, turn)


def _of_each_pixel(path: Path, labels: NDArray[Any], scan: Scan) -> LabelFile:
    """Return labels that go by the order of pixels."""
    _check_shape(path, labels.shape, scan)
    return _with_notes(path, labels if scan.is_volume else labels[None], np.eye(4))


def _with_notes(path: Path, labels: NDArray[Any], turn: NDArray[np.float64]) -> LabelFile:
    """Return labels with the names and the window that this program wrote with them, if it did."""
    notes = written_notes(path)
    return LabelFile(iter([LabelGrid(labels, _named(notes), turn)]), [], notes)


def _named(notes: LabelNotes | None) -> dict[int, str]:
    return dict(enumerate(notes.names, 1)) if notes else {}


def _is_dicom(path: Path) -> bool:
    if path.name.lower().endswith(DICOM_SUFFIXES):
        return True
    try:
        return begins_as_dicom(path)
    except OSError:
        return False


def _read_dicom(path: Path, scan: Scan) -> LabelFile:
    """Read a SEG or an RTSTRUCT."""
    files = files_of_path(path)
    if len(files) != 1:
        raise FormatError(f"{path} must be one DICOM file with labels, got {len(files)} files")
    dataset = read_dataset(files[0])
    attributes = Attributes(dataset, str(path))
    kind = attributes.lenient("SOPClassUID")
    remarks = _remarks_of_coordinates(path, attributes, scan)
    notes = LabelNotes.from_line(attributes.lenient("SeriesDescription"))
    if kind == RTStructureSetStorage:
        structures = structures_of(attributes, remarks)
        drawn = draw_structures(str(path), structures, scan, remarks)
        grids = (_grid_of(mask, each.label, each.name, np.eye(4)) for each, mask in drawn)
        return LabelFile(grids, remarks, notes)
    if kind not in SEGMENTATIONS:
        raise FormatError(f"{path} must be a DICOM SEG or RTSTRUCT, got another kind of DICOM")
    return LabelFile(_grids_of_segments(path, dataset, scan), remarks, notes)


def _remarks_of_coordinates(path: Path, attributes: Attributes, scan: Scan) -> list[str]:
    """Say where labels are in other coordinates of the patient than an image."""
    own = scan.frame_of_reference if isinstance(scan, DicomScan) else ""
    said = [
        each.lenient("FrameOfReferenceUID")
        for each in attributes.items("ReferencedFrameOfReferenceSequence") or [attributes]
    ]
    others = {each for each in said if each}
    if not own or not others or own in others:
        return []
    return ["It has another FrameOfReferenceUID than the image; look where labels lie."]


def _grids_of_segments(path: Path, dataset: Any, scan: Scan) -> Iterator[LabelGrid]:
    in_pixels: NDArray[Any] | None = None
    if scan.affine is not None:
        in_pixels = np.linalg.inv(scan.affine @ scan.own_axes)
    hw: tuple[int, int] = (scan.label_shape[-2], scan.label_shape[-1])
    image = scan.slices if isinstance(scan, DicomScan) else SlicesOf((), hw, None, in_pixels)
    for segment in segments_of(dataset, str(path), image):
        turn = np.eye(4)
        if segment.to_mm is not None:
            if in_pixels is None:
                raise FormatError(
                    f"{path} must refer to the slices of this image, which do not lie on a grid of "
                    "which the places in it could be found, and have their pixels"
                )
            turn = in_pixels @ segment.to_mm
            check_along(path, turn)
        yield _grid_of(segment.mask, segment.number, segment.name, turn)


def _grid_of(
    mask: NDArray[np.bool_], number: int, name: str, turn: NDArray[np.float64]
) -> LabelGrid:
    """Return a grid of one object."""
    return LabelGrid(mask * np.uint16(number), {number: name}, turn)


def _read_picture(path: Path, scan: Scan) -> LabelFile:
    """Read a label map in a picture, or in a TIFF stack."""
    try:
        labels = read_label_picture(str(path), path.read_bytes())
    except OSError as error:
        raise FormatError(f"{path} cannot be read: {error}") from error
    return _of_each_pixel(path, labels, scan)


def _read_archive(path: Path, scan: Scan) -> LabelFile:
    """Read a label map in `.npz`."""
    try:
        with open_case(path) as opened:
            key = SEGS_KEY if opened.has(SEGS_KEY) else GTS_KEY
            labels = opened.array(key, 2 * largest_label_map_bytes())
            info = str(opened.array(INFO_KEY, LONGEST_INFO)) if opened.has(INFO_KEY) else ""
    except InvalidCaseError as error:
        raise FormatError(f"{path}: {error}") from error
    _check_shape(path, labels.shape, scan)
    notes = LabelNotes.from_json(info)
    grid = LabelGrid(labels if scan.is_volume else labels[None], _named(notes), np.eye(4))
    return LabelFile(iter([grid]), [], notes)


def _check_shape(path: Path, shape: tuple[int, ...], scan: Scan) -> None:
    """Check that there is a label for each pixel.

    Raises:
        FormatError: there are more or fewer.
    """
    if shape != scan.label_shape:
        raise FormatError(
            f"{path} must have shape {scan.label_shape}, as the image has, got {shape}"
        )
