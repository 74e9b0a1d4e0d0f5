"""Which parts of an image are encoded for its boxes, and on which grids; pure.

A region is a rectangle of the original image and the grid, rows and columns of the encoder's input,
that it is encoded on. Boxes near each other share one while none of them becomes too small in it.
Whatever is chosen follows from sizes alone: of boxes, image and grids (docs/decisions.md).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from .contract import Grid
from .geometry import Boxes, ModelFrame

Value = TypeVar("Value", bound=np.generic)


@dataclass(frozen=True)
class Region:
    """A rectangle of the original image and the grid that it is encoded on.

    Attributes:
        top: its first row.
        left: its first column.
        hw: its size, pixels of the original image.
        grid_hw: of the encoder's input.
    """

    top: int
    left: int
    hw: tuple[int, int]
    grid_hw: Grid

    @cached_property
    def frame(self) -> ModelFrame:
        """How it lies on its grid, in its own pixels."""
        return ModelFrame(self.hw, self.grid_hw)

    def cut(self, pixels: NDArray[Value]) -> NDArray[Value]:
        """Return its part of an image, (H, W) or (H, W, C), without a copy."""
        height, width = self.hw
        return pixels[self.top : self.top + height, self.left : self.left + width]

    def boxes_to_model(self, boxes: Boxes) -> Boxes:
        """Map (N, 4) boxes of the original image to the grid."""
        offset = np.array([self.left, self.top] * 2, dtype=np.float32)
        return self.frame.boxes_to_model(boxes - offset)


@dataclass(frozen=True)
class SliceRegion:
    """A region of one slice: what is encoded at once.

    Attributes:
        z: the slice; 0 of an image.
        region: of it.
    """

    z: int
    region: Region


@dataclass(frozen=True)
class RegionPlan:
    """The regions of an image or volume, the same on all slices.

    Attributes:
        regions: none where there are no boxes.
        of_object: for each box the place of its region.
    """

    regions: tuple[Region, ...]
    of_object: tuple[int, ...]

    def grids(self, objects: Iterable[int]) -> list[Grid]:
        """Return each grid that the regions of objects are on, in the order of their use."""
        return list(dict.fromkeys(self.regions[self.of_object[i]].grid_hw for i in objects))
