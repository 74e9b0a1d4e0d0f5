"""Boxes round labels that are there already."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.prompts import VOLUME_COLUMNS
from .boxes import NamedBox
from .label_grids import read_label_grids
from .label_placing import LabelGrid, on_slice
from .scan import FormatError, Scan

DECIMALS = 3  # of a coordinate, beyond which there is the rounding of what files say
MOST_LABELS = 10_000


def read_label_boxes(path: Path, scan: Scan) -> tuple[list[NamedBox], list[str]]:
    """Return the box of each label of a file, in coordinates of the file of an image.

    Args:
        path: as of `read_label_grids`. The axes of a label map must run along those of the image,
            in any order and direction, with voxels of any size. Of a volume of labels on an image,
            those count that cover its slice.
        scan: the image or volume that they are labels of.

    Returns:
        The boxes, and what a user should know of them, a sentence each.

    Raises:
        FormatError: the file cannot be read, has no labels, or is not of this image.
    """
    labels = read_label_grids(path, scan)
    found = []
    for whole in labels.grids:
        grid = whole if scan.is_volume else on_slice(whole)
        ends = _ends_of(path, grid.labels)
        for label in sorted(ends):
            name = grid.names.get(label) or f"Label {label}"
            found.append(NamedBox(_corners(ends[label], grid, scan), name))
    if not found:
        where = "it" if scan.is_volume else "it on this slice"
        raise FormatError(f"{path} must have labels, of which there are none in {where}")
    return found, labels.remarks


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


def _corners(ends: NDArray[np.float64], grid: LabelGrid, scan: Scan) -> tuple[float, ...]:
    """Return the first and last pixel or voxel of a box, in coordinates of the file of an image."""
    turn = scan.own_axes @ grid.turn
    outer = np.array([ends[0] - 0.5, ends[1] + 0.5]) @ turn[:3, :3].T + turn[:3, 3]
    low, high = outer.min(axis=0) + 0.5, outer.max(axis=0) - 0.5
    within = np.rint((low + high) / 2)  # the voxel of a label that is thinner than one
    corners = np.where(high < low, within, [low, high]).round(DECIMALS) + 0.0
    kept = corners if VOLUME_COLUMNS in scan.box_columns else corners[:, :2]
    return tuple(float(value) for value in kept.reshape(-1))
