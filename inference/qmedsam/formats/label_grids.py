"""Labels that are there already, of any program: label maps, DICOM SEG and RTSTRUCT.

A label map or a SEG may be of another grid than the image. Where both files say where they lie,
that counts; else labels must be as many as pixels. A SEG that refers to the slices of the image
goes by that. Contours of an RTSTRUCT are drawn on the slices of the image.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
from .dicom.segmentation_file import segments_of
from .dicom.sources import files_of_path
from .dicom.structure_set_file import draw_structures, structures_of
from .dispatch import begins_as_dicom, open_scan
from .scan import AUTOMATIC_PLANE, PLANES, FormatError, LabelNotes, Scan
from .suffixes import DICOM_SUFFIXES, LABEL_PICTURE_SUFFIXES, VOLUME_SUFFIXES
from .volume import VolumeScan

ASIDE = 1e-2  # of a voxel a step, that an axis may lead away from those of the image
ON_GRID = 0.05  # of a voxel, within which two grids are one


@dataclass(frozen=True)
class LabelGrid:
    """Labels on a grid of their own, whose axes run along those of an image.

    Attributes:
        labels: (D, H, W), numbers.
        names: of labels, as far as they have one.
        turn: turns places (x, y, z, 1) among them into those in the `pixels` of the image, (4, 4).
    """

    labels: NDArray[Any]
    names: Mapping[int, str]
    turn: NDArray[np.float64]


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
    is_placed = path.name.lower().endswith(VOLUME_SUFFIXES)
    if not is_placed and not path.name.lower().endswith(LABEL_PICTURE_SUFFIXES):
        raise FormatError(f"{path} must be a label map, a DICOM SEG or an RTSTRUCT by its name")
    plane = scan.plane if isinstance(scan, VolumeScan) else PLANES[0]
    labels = open_scan(path, plane=plane if is_placed else AUTOMATIC_PLANE)
    values = labels.values if labels.is_volume else _grey(labels.values)
    slices = values if labels.is_volume else values[None]
    if scan.affine is None or labels.affine is None:
        _check_shape(path, values.shape, scan)
        return LabelFile(iter([LabelGrid(slices, {}, np.eye(4))]), [])
    turn = np.linalg.inv(scan.affine @ scan.own_axes) @ labels.affine @ labels.own_axes
    _check_along(path, turn)
    return LabelFile(iter([LabelGrid(slices, {}, turn)]), [])


def on_pixels(path: Path, grid: LabelGrid, scan: Scan) -> NDArray[Any]:
    """Return labels (D, H, W) in the order of the pixels of an image that has the same grid.

    Raises:
        FormatError: it has another.
    """
    depth = len(scan.pixels) if scan.is_volume else 1
    shape = (depth, *scan.label_shape[-2:])
    axes, shift = grid.turn[:3, :3], grid.turn[:3, 3]
    along = np.abs(axes).argmax(axis=0)  # x, y, z of the image that x, y, z of the labels follow
    flips = [bool(axes[target, axis] < 0) for axis, target in enumerate(along)]
    sizes = grid.labels.shape[::-1]
    exact = np.zeros((3, 3))
    exact[along, range(3)] = np.where(flips, -1, 1)
    first = np.array([0 if not flip else size - 1 for flip, size in zip(flips, sizes, strict=True)])
    flipped = tuple(2 - axis for axis, flip in enumerate(flips) if flip)
    order = [2 - int(np.flatnonzero(along == 2 - axis)[0]) for axis in range(3)]
    found: NDArray[Any] = np.flip(grid.labels, flipped).transpose(order)
    spread = np.array(sizes) - 1.0
    is_same = (
        found.shape == shape
        and (np.abs(axes - exact) @ spread).max() <= ON_GRID
        and np.abs(shift - exact @ -first).max() <= ON_GRID
    )
    if not is_same:
        raise FormatError(
            f"{path} must have labels on the grid of the image, {shape}, got {found.shape} or "
            "another place; resample it first"
        )
    return found


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
    remarks: list[str] = []
    if kind == RTStructureSetStorage:
        structures = structures_of(attributes, remarks)
        drawn = draw_structures(str(path), structures, scan, remarks)
        return LabelFile(
            (_grid_of(mask, each.number, each.name, np.eye(4)) for each, mask in drawn), remarks
        )
    if kind not in SEGMENTATIONS:
        raise FormatError(f"{path} must be a DICOM SEG or RTSTRUCT, got another kind of DICOM")
    return LabelFile(_grids_of_segments(path, dataset, scan), remarks)


def _grids_of_segments(path: Path, dataset: Any, scan: Scan) -> Iterator[LabelGrid]:
    references = scan.references if isinstance(scan, DicomScan) else ()
    for segment in segments_of(dataset, str(path), references):
        turn = np.eye(4)
        if segment.to_mm is not None:
            if scan.affine is None:
                raise FormatError(
                    f"{path} must refer to the slices of this image, which do not lie on a grid of "
                    "which the places in it could be found"
                )
            turn = np.linalg.inv(scan.affine @ scan.own_axes) @ segment.to_mm
            _check_along(path, turn)
        yield _grid_of(segment.mask, segment.number, segment.name, turn)


def _grid_of(
    mask: NDArray[np.bool_], number: int, name: str, turn: NDArray[np.float64]
) -> LabelGrid:
    """Return a grid of one object."""
    return LabelGrid(mask * np.uint16(number), {number: name}, turn)


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
    names = dict(enumerate(notes.names, 1)) if notes else {}
    grid = LabelGrid(labels if scan.is_volume else labels[None], names, np.eye(4))
    return LabelFile(iter([grid]), [], notes)


def _grey(values: NDArray[Any]) -> NDArray[Any]:
    """Return labels of a picture whose colours are all grey, as GIF has them, as (H, W)."""
    return values[..., 0] if values.ndim == 3 and (values == values[..., :1]).all() else values


def _check_shape(path: Path, shape: tuple[int, ...], scan: Scan) -> None:
    """Check that there is a label for each pixel.

    Raises:
        FormatError: there are more or fewer.
    """
    if shape != scan.label_shape:
        raise FormatError(
            f"{path} must have shape {scan.label_shape}, as the image has, got {shape}"
        )


def _check_along(path: Path, turn: NDArray[np.float64]) -> None:
    """Check that the axes of labels run along those of the image.

    Raises:
        FormatError: they run aslant.
    """
    aside = turn[:3, :3].copy()
    along = np.abs(aside).argmax(axis=0)
    aside[along, range(3)] = 0
    if len(set(along.tolist())) < 3 or np.abs(aside).max() > ASIDE:
        raise FormatError(
            f"{path} must have axes along those of the image, got others; resample it first"
        )
