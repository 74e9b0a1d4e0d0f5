"""Outlines of masks as closed polygons, and masks of polygons.

An outline runs half-way between the pixels of a mask and those beside it, so that the mask is the
pixels whose centres lie inside. A hole is tied to the outline around it by a keyhole, a channel of
no width between two rows of pixels, as DICOM has it: whichever rule a reader fills polygons by, it
finds the hole.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import contourpy as contourpy_library
import numpy as np
from numpy.typing import NDArray

from ...core.geometry import Mask

contourpy: Any = contourpy_library
BETWEEN, ABOVE_ALL = 0.5, 2.0  # levels of a mask of 0 and 1
CROSSINGS = 1 << 20  # of edges and rows, that are looked for at once
Polygon = NDArray[np.float64]  # (N, 2), x and y in pixels; the last point leads to the first


def outlines_of(mask: Mask) -> list[Polygon]:
    """Return the outline of each part of a mask (H, W), with its holes tied to it."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return []
    cut = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    framed = np.pad(cut.astype(np.float64), 1)
    generator = contourpy.contour_generator(z=framed, fill_type=contourpy.FillType.OuterOffset)
    shift = np.array([columns[0] - 1, rows[0] - 1], dtype=np.float64)
    found = []
    for points, offsets in zip(*generator.filled(BETWEEN, ABOVE_ALL), strict=True):
        rings = [
            _corners(points[start : end - 1] + shift)  # each ends where it began
            for start, end in itertools.pairwise(offsets)
        ]
        found.append(_tied(rings))
    return found


def fill(polygons: Sequence[Polygon], hw: tuple[int, int]) -> Mask:
    """Return the pixels whose centres lie inside an odd number of polygons, (H, W).

    Args:
        polygons: in pixels; they may reach beyond the image.
        hw: height and width of the image.
    """
    height, width = hw
    # A step at each crossing of a row: beside it, the inside becomes the outside.
    steps = np.zeros((height, width + 1), dtype=np.int64)
    for polygon in polygons:
        _add_crossings(polygon, steps)
    return np.asarray(np.cumsum(steps[:, :width], axis=1) % 2, dtype=np.bool_)


def _add_crossings(polygon: Polygon, steps: NDArray[np.int64]) -> None:
    """Count where the edges of a polygon cross rows, at the first pixel behind each crossing.

    Args:
        polygon: in pixels.
        steps: (H, W + 1), counted up.
    """
    height, columns = steps.shape
    first, second = polygon, np.roll(polygon, -1, axis=0)
    is_upward = (first[:, 1] <= second[:, 1])[:, None]
    low, high = np.where(is_upward, first, second), np.where(is_upward, second, first)
    # Rows from the lower end on and before the upper: a corner between two edges counts once.
    start = np.clip(np.ceil(low[:, 1]), 0, height).astype(np.int64)
    stop = np.clip(np.ceil(high[:, 1]), 0, height).astype(np.int64)
    ends = np.cumsum(stop - start)
    # Some edges at once: a contour of many points may cross each row many times.
    parts = np.searchsorted(ends, np.arange(CROSSINGS, ends[-1], CROSSINGS))
    for part in np.split(np.arange(len(polygon)), parts):
        counts = (stop - start)[part]
        edges = np.repeat(part, counts)
        before = np.cumsum(counts) - counts
        rows = np.arange(counts.sum()) - np.repeat(before - start[part], counts)
        along = (rows - low[edges, 1]) / (high[edges, 1] - low[edges, 1])
        crossings = low[edges, 0] + along * (high[edges, 0] - low[edges, 0])
        behind = np.clip(np.ceil(crossings), 0, columns - 1).astype(np.int64)
        found = np.bincount(rows * columns + behind, minlength=steps.size)
        steps += found.reshape(steps.shape)


def _corners(ring: Polygon) -> Polygon:
    """Return the points at which a ring turns."""
    before, after = ring - np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0) - ring
    turns = before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]
    corners: Polygon = ring[turns]
    return corners


def _tied(rings: Sequence[Polygon]) -> Polygon:
    """Return one polygon of an outline and its holes.

    A hole's channel leads to the left from its topmost corner. There it meets the outline, or a
    hole that reaches higher or has its topmost corner further left, and is tied already.
    """
    polygon, *holes = rings
    begun = [np.roll(hole, -np.lexsort((hole[:, 0], hole[:, 1]))[0], axis=0) for hole in holes]
    for hole in sorted(begun, key=lambda ring: (ring[0, 1], ring[0, 0])):
        x, y = hole[0]
        first, second = polygon, np.roll(polygon, -1, axis=0)
        (crossed,) = np.nonzero((first[:, 1] <= y) != (second[:, 1] <= y))
        along = (y - first[crossed, 1]) / (second[crossed, 1] - first[crossed, 1])
        meets = first[crossed, 0] + along * (second[crossed, 0] - first[crossed, 0])
        is_left = meets < x
        nearest = int(np.argmax(np.where(is_left, meets, -np.inf)))
        place, end = int(crossed[nearest]) + 1, np.array([[meets[nearest], y]])
        polygon = np.concatenate([polygon[:place], end, hole, hole[:1], end, polygon[place:]])
    return polygon
