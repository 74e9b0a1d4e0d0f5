"""Which part of the embedding is decoded for a box; pure.

The decoder's last and dearest step works on each pixel of the embedding alone, so that it is
limited to a square round the box; all outside is background. Squares have few sizes, since the
runtime prepares itself anew for each. Of a square an embedding that is narrower holds a rectangle.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .contract import EMBEDDING_SIZE, Grid, embedding_hw
from .geometry import Box

# Pixels of the embedding; docs/decisions.md, "A crop has a margin of two and few sizes".
MARGIN = 2
SIDES = (16, 24, 32, 48, EMBEDDING_SIZE)


@dataclass(frozen=True)
class Crop:
    """A part of the embedding.

    Attributes:
        top: first row.
        left: first column.
        height: rows.
        width: columns.
    """

    top: int
    left: int
    height: int
    width: int


def whole_crop(pixels_hw: tuple[int, int]) -> Crop:
    """Return the crop that is all of an embedding."""
    return Crop(0, 0, *pixels_hw)


WHOLE = whole_crop((EMBEDDING_SIZE, EMBEDDING_SIZE))


def crop_around(box: Box, grid_hw: Grid, stride: int, *, margin: int = MARGIN) -> Crop:
    """Return the smallest crop that holds a (4,) box and a margin.

    Args:
        box: xyxy, pixels of the model frame.
        grid_hw: height and width of what was encoded.
        stride: pixels of the model frame for one of the embedding, along a side.
        margin: pixels of the embedding on each side.
    """
    height, width = embedding_hw(grid_hw, stride)
    x0, y0, x1, y1 = (int(np.floor(value / stride)) for value in box)
    left, right = max(0, x0 - margin), min(width, x1 + 1 + margin)
    top, bottom = max(0, y0 - margin), min(height, y1 + 1 + margin)
    extent = max(right - left, bottom - top, 1)
    side = next(side for side in SIDES if side >= extent)
    rows, columns = _span(top, bottom, side, height), _span(left, right, side, width)
    return Crop(rows[0], columns[0], rows[1], columns[1])


def box_batches(crops: Sequence[Crop], box_batch_size: int) -> list[list[int]]:
    """Group crops of one size into batches of at most `box_batch_size`, and return their places."""
    by_size: dict[tuple[int, int], list[int]] = {}
    for place, crop in enumerate(crops):
        by_size.setdefault((crop.height, crop.width), []).append(place)
    return [
        places[start : start + box_batch_size]
        for _, places in sorted(by_size.items())
        for start in range(0, len(places), box_batch_size)
    ]


def crop_pixels(crops: Sequence[Crop], embedding_width: int) -> NDArray[np.int64]:
    """Return the pixels of crops of one size, counted row by row, (N, height, width)."""
    rows = np.arange(crops[0].height, dtype=np.int64)
    columns = np.arange(crops[0].width, dtype=np.int64)
    corner = rows[:, None] * embedding_width + columns
    return np.stack([corner + crop.top * embedding_width + crop.left for crop in crops])


def _span(first: int, stop: int, side: int, length: int) -> tuple[int, int]:
    """Return where an axis of a crop begins, the slack on both sides, and how long it is."""
    side = min(side, length)
    return min(max(0, (first + stop - side) // 2), length - side), side
