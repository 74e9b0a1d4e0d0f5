"""Which part of the embedding is decoded for a box; pure.

The decoder's last and dearest step works on each pixel of the 64 x 64 embedding alone, so that it
is limited to a square round the box; all outside is background. Squares have few sizes, since the
runtime prepares itself anew for each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .contract import EMBEDDING_SIZE
from .geometry import Box

# Pixels of the embedding; docs/decisions.md, "A crop has a margin of two and few sizes".
MARGIN = 2
SIDES = (16, 24, 32, 48, EMBEDDING_SIZE)


@dataclass(frozen=True)
class Crop:
    """A square of the embedding.

    Attributes:
        top: first row.
        left: first column.
        side: rows and columns.
    """

    top: int
    left: int
    side: int


WHOLE = Crop(0, 0, EMBEDDING_SIZE)


def crop_around(box: Box, image_size: int, margin: int = MARGIN) -> Crop:
    """Return the smallest crop that holds a (4,) box of the model frame and a margin.

    Args:
        box: xyxy, pixels of the model frame.
        image_size: side of the model frame.
        margin: pixels of the embedding on each side.
    """
    scale = EMBEDDING_SIZE / image_size
    left, top = (max(0, int(np.floor(value * scale)) - margin) for value in box[:2])
    right, bottom = (
        min(EMBEDDING_SIZE, int(np.floor(value * scale)) + 1 + margin) for value in box[2:]
    )
    extent = max(right - left, bottom - top, 1)
    side = next(side for side in SIDES if side >= extent)
    return Crop(_start(top, bottom, side), _start(left, right, side), side)


def box_batches(crops: Sequence[Crop], box_batch_size: int) -> list[list[int]]:
    """Group crops of one size into batches of at most `box_batch_size`, and return their places."""
    by_side: dict[int, list[int]] = {}
    for place, crop in enumerate(crops):
        by_side.setdefault(crop.side, []).append(place)
    return [
        places[start : start + box_batch_size]
        for _, places in sorted(by_side.items())
        for start in range(0, len(places), box_batch_size)
    ]


def crop_pixels(crops: Sequence[Crop]) -> NDArray[np.int64]:
    """Return the pixels of crops of one size, counted row by row, (N, side, side)."""
    along = np.arange(crops[0].side, dtype=np.int64)
    corner = along[:, None] * EMBEDDING_SIZE + along
    return np.stack([corner + crop.top * EMBEDDING_SIZE + crop.left for crop in crops])


def _start(first: int, stop: int, side: int) -> int:
    """Return where an axis of a crop begins, with the slack on both sides of what it holds."""
    return min(max(0, (first + stop - side) // 2), EMBEDDING_SIZE - side)
