"""The numbers that regions are chosen by; pure.

A box alone gets a region of a few times its side, near its own resolution, on the smallest grid
that holds it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .contract import Grid
from .geometry import Boxes


@dataclass(frozen=True)
class Prompted:
    """Boxes that want regions.

    Attributes:
        boxes: (N, 4), inside the image.
        slices: (N, 2), the first and the last slice of each, both inclusive; zeros of an image.
        original_hw: of the image, or of each slice.
        grids: to choose from; the largest is what a whole image is compared with.
    """

    boxes: Boxes
    slices: NDArray[np.int64]
    original_hw: tuple[int, int]
    grids: tuple[Grid, ...]


@dataclass(frozen=True)
class RegionRule:
    """The numbers that regions are chosen by; docs/decisions.md has the figures behind them.

    Attributes:
        context: sides of a box that its region has, at least.
        whole_share: of the image's longer side; round a longer box the whole image is seen, on a
            square as the network was trained to, near its own resolution.
        small_px: an image whose longer side is in this range is seen whole, on the largest square.
        wanted_px: a box is enlarged until it is so long on the grid,
        largest_enlargement: but by this factor at most,
        least_px: or by twice that until it is so long.
        largest_reduction: a region may be reduced to so much to fit a smaller grid.
        shared_scale: a box keeps so much of the scale that it would have alone.
        lost_scale: where the whole image leaves a box less of it, beside one that sees all, there
            may be more work.
        grid_gmacs: what one more grid must save, as an encoder of it has to be made ready first.
        most_grids: of an image or volume.
        few_boxes: an image of so many boxes takes no more work than whole;
        many_boxes: of so many or more it takes `most_work` times as much at most, in between less.
        most_work: see there, and of an image where boxes would be lost beside one that sees all;
            boxes on several slices take no more than whole.
    """

    context: float = 2.5
    whole_share: float = 0.3
    small_px: tuple[int, int] = (25, 56)
    wanted_px: float = 48.0
    largest_enlargement: float = 2.0
    least_px: float = 16.0
    largest_reduction: float = 0.85
    shared_scale: float = 0.6
    lost_scale: float = 0.45
    grid_gmacs: float = 20.0
    most_grids: int = 3
    few_boxes: int = 4
    many_boxes: int = 16
    most_work: float = 2.0

    def most_work_of(self, prompted: Prompted, *, loses_some: bool = False) -> float:
        """Return the bound on the GMACs of boxes, in multiples of what whole images take.

        Args:
            prompted: all boxes.
            loses_some: whether some would be lost beside one that sees all.
        """
        if np.ptp(prompted.slices) > 0:
            return 1.0
        if loses_some:
            return self.most_work
        share = (len(prompted.boxes) - self.few_boxes) / (self.many_boxes - self.few_boxes)
        return 1.0 + (self.most_work - 1.0) * min(1.0, max(0.0, share))


RULE = RegionRule()
# A box that follows an object from slice to slice is grown by pixels of the grid: enlarged, the
# object would not be found where it has moved to (docs/decisions.md).
FOLLOWING_RULE = replace(RULE, largest_enlargement=1.0, least_px=0.0)
