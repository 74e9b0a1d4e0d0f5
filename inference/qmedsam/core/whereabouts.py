"""In which region an object is looked for, slice after slice.

That is the region of the plan until the object, followed by its masks, leaves its inner part; then
it gets one of its own, and again when it leaves that. It is back in that of the plan when that
holds it again.
"""

from __future__ import annotations

import numpy as np

from .contract import Grid
from .encoding import Stop
from .geometry import Box, Boxes, clip_boxes, grow_box
from .planning import Planner
from .propagation import Visit
from .region_rule import RULE
from .regions import Region, RegionPlan

INNER_MARGIN = 0.25  # of the longer side of a box, which has at least three times that at first


class Whereabouts:
    """The regions of the objects of an image or volume.

    Args:
        plan: where they are at first.
        planner: chooses the region of a box that has left its own.
        original_hw: of the image or of each slice.
    """

    def __init__(self, plan: RegionPlan, planner: Planner, original_hw: tuple[int, int]) -> None:
        self._plan, self._planner, self._original_hw = plan, planner, original_hw
        self._moved: dict[tuple[int, int], Region] = {}  # by object and direction
        self._grids: dict[Grid, None] = dict.fromkeys(one.grid_hw for one in plan.regions)

    def region_of(self, index: int, step: int) -> Region:
        """Return the region in which an object is looked for now, followed in a direction."""
        return self._moved.get((index, step), self._planned(index))

    def follow(self, index: int, step: int, box: Box) -> Region:
        """Move an object to a region of its own where it leaves the one that it is in.

        Args:
            index: of the object.
            step: the direction in which it is followed.
            box: (4,), which prompts it next, pixels of the original image.

        Returns:
            The region in which it is looked for now.
        """
        region = self.region_of(index, step)
        if not self._holds(region, box):
            planned = self._planned(index)
            region = planned if self._holds(planned, box) else self._alone(box)
            self._moved[index, step] = region
        return region

    def settle(self, stop: Stop, boxes: Boxes) -> list[tuple[Stop, list[int]]]:
        """Part a stop by where its objects are, and move those that have left their regions.

        Args:
            stop: as it was expected.
            boxes: (N, 4), which prompt its objects, pixels of the original image.

        Returns:
            Stops, and which rows of the objects and boxes they are of.
        """
        visit = stop.visit
        rows_of: dict[Region, list[int]] = {}
        for row, (index, box) in enumerate(zip(visit.objects, boxes, strict=True)):
            if visit.step:
                region = self.follow(index, visit.step, box)
            else:
                region = self.region_of(index, visit.step)
            rows_of.setdefault(region, []).append(row)
        settled = []
        for region, rows in rows_of.items():
            objects = tuple(visit.objects[row] for row in rows)
            settled.append((Stop(Visit(visit.z, objects, visit.step), region), rows))
        return settled

    def _planned(self, index: int) -> Region:
        return self._plan.regions[self._plan.of_object[index]]

    def _alone(self, box: Box) -> Region:
        """Return a region of a box alone, on a grid that is used where these are many already.

        Unless it would be much smaller there.
        """
        region = self._planner.alone(box, self._original_hw)
        if region.grid_hw not in self._grids and len(self._grids) >= RULE.most_grids:
            other = self._planner.alone(box, self._original_hw, tuple(self._grids))
            if other.frame.scale >= RULE.shared_scale * region.frame.scale:
                region = other
        self._grids[region.grid_hw] = None
        return region

    def _holds(self, region: Region, box: Box) -> bool:
        """Say whether a box lies in the inner part of a region; the image's border is no bound."""
        longer = float((box[2:] - box[:2]).max()) + 1
        grown = grow_box(box, INNER_MARGIN * longer)
        left, top, right, bottom = clip_boxes(grown, self._original_hw)
        height, width = region.hw
        return bool(
            np.floor(left) >= region.left
            and np.floor(top) >= region.top
            and np.ceil(right) < region.left + width
            and np.ceil(bottom) < region.top + height
        )
