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

# Pixels of the embedding. Masks of the validation split never leave the windows, not even with a
# margin of 0, as sides are rounded up (`python -m benchmarks.ablations window`).
MARGIN = 2
SIDES = (16, 24, 32, 48, EMBEDDING_SIZE)


@dataclass(frozen=True)
class Window:
    """A square of the embedding.

    Attributes:
        top: first row.
        left: first column.
        side: rows and columns.
    """

    top: int
    left: int
    side: int


WHOLE = Window(0, 0, EMBEDDING_SIZE)


def window_around(box: Box, image_size: int, margin: int = MARGIN) -> Window:
    """Return the smallest window that holds a (4,) box of the model frame and a margin.

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
    return Window(_start(top, bottom, side), _start(left, right, side), side)


def decoding_blocks(windows: Sequence[Window], block_size: int) -> list[list[int]]:
    """Group windows of one size into blocks of at most `block_size`, and return their places."""
    by_side: dict[int, list[int]] = {}
    for place, window in enumerate(windows):
        by_side.setdefault(window.side, []).append(place)
    return [
        places[start : start + block_size]
        for _, places in sorted(by_side.items())
        for start in range(0, len(places), block_size)
    ]


def window_pixels(windows: Sequence[Window]) -> NDArray[np.int64]:
    """Return the pixels of windows of one size, counted row by row, (N, side, side)."""
    along = np.arange(windows[0].side, dtype=np.int64)
    corner = along[:, None] * EMBEDDING_SIZE + along
    return np.stack([corner + window.top * EMBEDDING_SIZE + window.left for window in windows])


def _start(first: int, stop: int, side: int) -> int:
    """Return where an axis of a window begins, with the slack on both sides of what it holds."""
    return min(max(0, (first + stop - side) // 2), EMBEDDING_SIZE - side)
