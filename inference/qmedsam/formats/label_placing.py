"""How labels on a grid of their own lie on an image: the axes in any order and direction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .scan import FormatError, Scan

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


def check_along(path: Path, turn: NDArray[np.float64]) -> None:
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

    The grid must be that of the image, but may be larger or smaller; one slice may be thicker.

    Raises:
        FormatError: it has another.
    """
    if not scan.is_volume and grid.labels.size:
        return _on_one_slice(path, grid, scan)
    return _on_slices(path, grid, scan)


def _on_one_slice(path: Path, grid: LabelGrid, scan: Scan) -> tuple[NDArray[Any], bool]:
    covering = on_slice(grid)
    turn = covering.turn.copy()
    across = int(np.abs(turn[2, :3]).argmax())
    if covering.labels.shape[2 - across] == 1:  # which is on the slice, wherever it is in it
        turn[2] = np.eye(4)[across]
    drawn, is_beside = _on_slices(path, LabelGrid(covering.labels, grid.names, turn), scan)
    has_more = np.count_nonzero(grid.labels) > np.count_nonzero(covering.labels)
    return drawn, is_beside or bool(has_more)


def _on_slices(path: Path, grid: LabelGrid, scan: Scan) -> tuple[NDArray[Any], bool]:
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
