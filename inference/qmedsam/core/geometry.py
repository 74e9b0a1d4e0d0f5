"""Sizes and boxes between the original image and the model frame; pure arithmetic.

Sizes are (height, width). Boxes are xyxy and name their first and last pixel. Pixel i reaches from
i - 0.5 to i + 0.5, so that a box is the area from `low - 0.5` to `high + 0.5`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .contract import LOW_RES_SIZE, Grid

Boxes = NDArray[np.float32]  # one row a box
Box = NDArray[np.float32]  # one of them
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class ModelFrame:
    """How one original image lies on the grid that the network sees.

    It is scaled until it fills the grid along one axis; it lies at the top left, padding follows.

    Attributes:
        original_hw: size of the image as it came.
        grid_hw: size of the grid, which is a square where the image is seen whole.
    """

    original_hw: tuple[int, int]
    grid_hw: Grid

    @classmethod
    def square(cls, original_hw: tuple[int, int], image_size: int) -> ModelFrame:
        """Return the frame of an image that is seen whole, by the side of the square."""
        return cls(original_hw, (image_size, image_size))

    @property
    def logit_px(self) -> int:
        """Pixels of the grid for one low-resolution logit, along a side."""
        return max(1, max(self.grid_hw) // LOW_RES_SIZE)

    @property
    def scale(self) -> float:
        """Model pixels per original pixel."""
        height, width = self.original_hw
        return min(self.grid_hw[0] / height, self.grid_hw[1] / width)

    @property
    def resized_hw(self) -> tuple[int, int]:
        """Size of the image on the grid, rounded half up, at least one pixel."""
        height, width = (max(1, int(side * self.scale + 0.5)) for side in self.original_hw)
        return height, width

    def boxes_to_model(self, boxes: Boxes) -> Boxes:
        """Map (N, 4) boxes, or one (4,), of the original image to the model frame.

        The network takes corners, so that the edges of the area are mapped; where an image is
        enlarged they lie far from the centres of its pixels (docs/decisions.md).
        """
        scale, half = np.float32(self.scale), np.float32(0.5)
        low, high = boxes[..., :2], boxes[..., 2:] + np.float32(1)
        return (np.concatenate([low, high], axis=-1) * scale - half).astype(np.float32)


def clip_boxes(boxes: Boxes, hw: tuple[int, int]) -> Boxes:
    """Move coordinates that lie outside an image of size `hw` to its first or last pixel.

    Args:
        boxes: (N, 4), or one (4,).
        hw: of the image.
    """
    height, width = hw
    highest = np.array([width, height, width, height], dtype=np.float32) - np.float32(1)
    return np.clip(boxes, np.float32(0), highest)


def grow_box(box: Box, margin_px: float) -> Box:
    """Return a (4,) box moved outwards by `margin_px` on each side."""
    margin = np.float32(margin_px)
    return box + np.array([-margin, -margin, margin, margin], dtype=np.float32)


def mask_to_box(mask: Mask) -> Box | None:
    """Return the (4,) box of the first and last set pixels of (H, W); None of an empty mask."""
    rows = np.flatnonzero(mask.any(axis=1))
    if rows.size == 0:
        return None
    columns = np.flatnonzero(mask.any(axis=0))
    return np.array([columns[0], rows[0], columns[-1], rows[-1]], dtype=np.float32)
