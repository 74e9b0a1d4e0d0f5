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
from .dicom.segmentation_file import SlicesOf, segments_of
from .dicom.sources import files_of_path
from .dicom.structure_set_file import draw_structures, structures_of
from .dispatch import begins_as_dicom, open_scan
from .label_picture import read_label_picture
from .scan import PLANES, FormatError, LabelNotes, Scan, SeveralVolumesError
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
    if path.name.lower().endswith(LABEL_PICTURE_SUFFIXES):
        return _read_picture(path, scan)
    if not path.name.lower().endswith(VOLUME_SUFFIXES):
        raise FormatError(f"{path} must be a label map, a DICOM SEG or an RTSTRUCT by its name")
    plane = scan.plane if isinstance(scan, VolumeScan) else PLANES[0]
    try:
        labels = open_scan(path, plane=plane)
    except SeveralVolumesError as error:
        raise FormatError(f"{path} must hold one volume of labels, got several") from error
    slices = labels.values if labels.is_volume else labels.values[None]
    if labels.affine is None or not scan.is_placed:
        _check_shape(path, labels.values.shape, scan)
        return LabelFile(iter([LabelGrid(slices, {}, np.eye(4))]), [])
    if scan.affine is None:
        raise FormatError(
            f"{path} must be a label map without places, a DICOM SEG or an RTSTRUCT for this "
            "image, whose slices lie on no grid on which its labels could be found"
        )
    turn = np.linalg.inv(scan.affine @ scan.own_axes) @ labels.affine @ labels.own_axes
    _check_along(path, turn)
    return LabelFile(iter([LabelGrid(slices, {}, turn)]), [])


def on_slice(grid: LabelGrid) -> LabelGrid:
    """Return the labels of which the voxels cover the one slice of an image."""
    axes, shift = grid.turn[:3, :3], grid.turn[:3, 3]
    across = int(np.abs(axes[2]).argmax())  # x, y or z of the labels
    count = grid.labels.shape[2 - across]
    places = axes[2, across] * np.arange(count) + shift[2]
    covers = np.flatnonzero(np.abs(places) <= abs(axes[2, across]) / 2 + ON_GRID)
    first, behind = (int(covers[0]), int(covers[-1]) + 1) if len(covers) else (0, 0)
    kept = [slice(None)] * 3
    kept[2 - across] = slice(first, behind)
    turn = grid.turn.copy()
    turn[:3, 3] += axes[:, across] * first
    return LabelGrid(grid.labels[tuple(kept)], grid.names, turn)


def on_pixels(path: Path, grid: LabelGrid, scan: Scan) -> tuple[NDArray[Any], bool]:
    """Return labels (D, H, W) of the pixels of an image, and whether others lie beside it.

    The grid must be that of the image, but may be larger or smaller.

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
    first = np.array([size - 1 if flip else 0 for flip, size in zip(flips, sizes, strict=True)])
    place = axes @ first + shift  # in the image, of the voxel that comes first there
    begins = np.rint(place).astype(np.int64)
    spread = np.array(sizes) - 1.0
    is_same = (np.abs(axes - exact) @ spread).max() <= ON_GRID
    if not is_same or np.abs(place - begins).max() > ON_GRID:
        raise FormatError(
            f"{path} must have labels on the grid of the image, got voxels of another size or "
            "place; resample it first"
        )
    flipped = tuple(2 - axis for axis, flip in enumerate(flips) if flip)
    order = [2 - int(np.flatnonzero(along == 2 - axis)[0]) for axis in range(3)]
    found: NDArray[Any] = np.flip(grid.labels, flipped).transpose(order)
    if found.shape == shape and not begins.any():
        return found, False
    inside, of_image = [], []
    for begin, size, most in zip(begins[::-1].tolist(), found.shape, shape, strict=True):
        low, high = max(begin, 0), max(min(begin + size, most), max(begin, 0))
        inside.append(slice(low - begin, high - begin))
        of_image.append(slice(low, high))
    part = found[tuple(inside)]
    drawn = np.zeros(shape, found.dtype)
    drawn[tuple(of_image)] = part
    return drawn, bool(np.count_nonzero(found) > np.count_nonzero(part))


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
    if kind == RTStructureSetStorage:
        structures = structures_of(attributes, remarks)
        drawn = draw_structures(str(path), structures, scan, remarks)
        return LabelFile(
            (_grid_of(mask, each.label, each.name, np.eye(4)) for each, mask in drawn), remarks
        )
    if kind not in SEGMENTATIONS:
        raise FormatError(f"{path} must be a DICOM SEG or RTSTRUCT, got another kind of DICOM")
    return LabelFile(_grids_of_segments(path, dataset, scan), remarks)


def _remarks_of_coordinates(path: Path, attributes: Attributes, scan: Scan) -> list[str]:
    """Say where labels are in other coordinates of the patient than an image."""
    own = scan.frame_of_reference if isinstance(scan, DicomScan) else ""
    said = [
        each.lenient("FrameOfReferenceUID")
        for each in (attributes, *attributes.items("ReferencedFrameOfReferenceSequence"))
    ]
    others = {each for each in said if each}
    if not own or not others or own in others:
        return []
    return [f"{path.name} has another FrameOfReferenceUID than the image; look where labels lie."]


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
            _check_along(path, turn)
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
    _check_shape(path, labels.shape, scan)
    return LabelFile(
        iter([LabelGrid(labels if scan.is_volume else labels[None], {}, np.eye(4))]), []
    )


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
