"""Boxes from labels that are there already: around each label of a label map, or segment of a SEG.

Labels may be of another grid than the image, as long as its axes run along those of the image, in
any order and direction. Where both files say where they lie, that counts; else the label map must
have as many pixels as the image.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..batch.case_file import GTS_KEY, SEGS_KEY, open_case
from ..batch.cases import CASE_SUFFIX
from ..core.prompts import VOLUME_COLUMNS
from ..errors import InvalidCaseError
from ..system.memory import largest_label_map_bytes
from .boxes import NamedBox
from .dicom.scan import DicomScan
from .dicom.segmentation_file import read_segments
from .dispatch import begins_as_dicom, open_scan
from .scan import AUTOMATIC_PLANE, PLANES, FormatError, Scan
from .suffixes import DICOM_SUFFIXES, LABEL_PICTURE_SUFFIXES, VOLUME_SUFFIXES
from .volume import VolumeScan

ASIDE = 1e-2  # of a voxel a step, that an axis may lead away from those of the image
DECIMALS = 3  # of a coordinate, beyond which there is the rounding of what files say
MOST_LABELS = 10_000


def is_labels_name(path: Path) -> bool:
    """Say whether a file is one of labels, and not of boxes in words."""
    suffixes = (*VOLUME_SUFFIXES, *LABEL_PICTURE_SUFFIXES, CASE_SUFFIX)
    return path.name.lower().endswith(suffixes) or _is_dicom(path)


def read_label_boxes(path: Path, scan: Scan) -> list[NamedBox]:
    """Return the box of each label of a file, in coordinates of the file of an image.

    Args:
        path: of a label map, in a format of images that keeps values or in the challenge's `.npz`
            (`segs`, else `gts`), or of a DICOM SEG.
        scan: the image or volume that they are labels of.

    Raises:
        FormatError: the file cannot be read, has no labels, or is not of this image.
    """
    if _is_dicom(path):
        found = _of_segmentation(path, scan)
    elif path.name.lower().endswith(CASE_SUFFIX):
        found = _of_pixels(path, _read_archive(path), scan)
    else:
        is_placed = path.name.lower().endswith(VOLUME_SUFFIXES)
        plane = scan.plane if isinstance(scan, VolumeScan) else PLANES[0]
        labels = open_scan(path, plane=plane if is_placed else AUTOMATIC_PLANE)
        if scan.affine is None or labels.affine is None:
            found = _of_pixels(path, labels.values, scan)
        else:
            turn = np.linalg.inv(scan.affine) @ labels.affine @ labels.own_axes
            found = _boxes_of(path, labels.values, labels.is_volume, scan, turn)
    if not found:
        raise FormatError(f"{path} must have labels, of which there are none in it")
    return found


def _is_dicom(path: Path) -> bool:
    if path.name.lower().endswith(DICOM_SUFFIXES):
        return True
    try:
        return begins_as_dicom(path)
    except OSError:
        return False


def _of_segmentation(path: Path, scan: Scan) -> list[NamedBox]:
    """Return the boxes of a SEG."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise FormatError(f"{path} cannot be read: {error}") from error
    references = scan.references if isinstance(scan, DicomScan) else ()
    found = []
    for segment in read_segments(str(path), content, references):
        turn = scan.own_axes
        if segment.to_mm is not None:
            if scan.affine is None:
                raise FormatError(
                    f"{path} must refer to the slices of this image, which do not lie on a grid of "
                    "which the places in it could be found"
                )
            turn = np.linalg.inv(scan.affine) @ segment.to_mm
        ends = np.array([segment.first, segment.last], dtype=np.float64)
        found.append(NamedBox(_corners(path, ends, scan, turn), segment.name))
    return found


def _read_archive(path: Path) -> NDArray[Any]:
    try:
        with open_case(path) as opened:
            key = SEGS_KEY if opened.has(SEGS_KEY) else GTS_KEY
            return opened.array(key, 2 * largest_label_map_bytes())
    except InvalidCaseError as error:
        raise FormatError(f"{path}: {error}") from error


def _of_pixels(path: Path, labels: NDArray[Any], scan: Scan) -> list[NamedBox]:
    """Return the boxes of labels, a label a pixel.

    Raises:
        FormatError: they are more or fewer than pixels.
    """
    if labels.shape != scan.label_shape:
        raise FormatError(
            f"{path} must have shape {scan.label_shape}, as the image has, got {labels.shape}"
        )
    return _boxes_of(path, labels, scan.is_volume, scan, scan.own_axes)


def _boxes_of(
    path: Path, labels: NDArray[Any], is_volume: bool, scan: Scan, turn: NDArray[np.float64]
) -> list[NamedBox]:
    """Return the box of each label, by its number.

    Args:
        path: of the file, for messages.
        labels: (H, W) or (D, H, W).
        is_volume: whether they are of slices.
        scan: the image.
        turn: turns places (x, y, z, 1) among them into those in the file of the image, (4, 4).
    """
    slices = labels if is_volume else labels[None]
    if slices.ndim != 3:
        raise FormatError(f"{path} must have one channel, a label a pixel, got {labels.shape}")
    ends = _ends_of(path, slices)
    return [
        NamedBox(_corners(path, ends[label], scan, turn), f"Label {label}")
        for label in sorted(ends)
    ]


def _ends_of(path: Path, slices: NDArray[Any]) -> dict[int, NDArray[np.float64]]:
    """Return the lowest and highest (x, y, z) of each label above 0, (2, 3).

    Raises:
        FormatError: values are no labels, or there are too many.
    """
    found: dict[int, NDArray[np.float64]] = {}
    for z, values in enumerate(slices):
        rows, columns = np.nonzero(values)
        numbers = values[rows, columns]
        wrong = ~((numbers > 0) & (numbers == np.rint(numbers)))  # so of NaN, too
        if wrong.any():
            raise FormatError(f"{path} must have labels, whole from 0, got {numbers[wrong][0]:g}")
        for label in np.unique(numbers):
            own = numbers == label
            places = np.column_stack([columns[own], rows[own], np.full(int(own.sum()), z)])
            ends = np.array([places.min(axis=0), places.max(axis=0)], dtype=np.float64)
            if int(label) in found:
                earlier = found[int(label)]
                ends = np.array([np.minimum(earlier[0], ends[0]), np.maximum(earlier[1], ends[1])])
            found[int(label)] = ends
            if len(found) > MOST_LABELS:
                raise FormatError(f"{path} must have {MOST_LABELS} labels at most, got more")
    return found


def _corners(
    path: Path, ends: NDArray[np.float64], scan: Scan, turn: NDArray[np.float64]
) -> tuple[float, ...]:
    """Return the first and last pixel or voxel of a box, in coordinates of the file of an image.

    Raises:
        FormatError: the axes of the labels run aslant through the image.
    """
    axes = turn[:3, :3]
    along = np.abs(axes).argmax(axis=0)
    aside = axes.copy()
    aside[along, range(3)] = 0
    if len(set(along)) < 3 or np.abs(aside).max() > ASIDE:
        raise FormatError(
            f"{path} must have axes along those of the image, got others; resample it first"
        )
    outer = np.array([ends[0] - 0.5, ends[1] + 0.5]) @ axes.T + turn[:3, 3]
    corners = np.array([outer.min(axis=0) + 0.5, outer.max(axis=0) - 0.5]).round(DECIMALS) + 0.0
    corners[1] = np.maximum(*corners)  # of labels on a finer grid
    kept = corners if VOLUME_COLUMNS in scan.box_columns else corners[:, :2]
    return tuple(float(value) for value in kept.reshape(-1))
