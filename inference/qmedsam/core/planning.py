"""Which regions the checked prompts of an image or volume get; pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..config import Regions
from .contract import LITE_MEDSAM_IMAGE_SIZE, Grid, grids_up_to
from .geometry import Box, Boxes
from .prompts import Prompts
from .propagation import boxes_2d
from .region_groups import Chooser, Group, by_grid
from .region_rule import FOLLOWING_RULE, RULE, Prompted, RegionRule
from .regions import Region, RegionPlan

LARGEST_SIDE = LITE_MEDSAM_IMAGE_SIZE
# Of the grids that a network can encode those that regions are put on. Each that is used has to be
# compiled and takes memory: the squares, and the largest rectangles (docs/decisions.md).
REGION_GRIDS = tuple(
    (height, width)
    for height, width in grids_up_to(LARGEST_SIDE)
    if height == width
    or (max(height, width) == LARGEST_SIDE and 2 * min(height, width) >= LARGEST_SIDE)
)


@dataclass(frozen=True)
class Planner:
    """How regions are chosen with a network.

    Attributes:
        regions: `auto` looks where the boxes are, `whole` at the whole image.
        whole_grid: the square that a whole image is seen on.
        follows: whether boxes of a volume follow objects from slice to slice.
        grids: what the network can encode; with one alone everything is seen whole.
    """

    regions: Regions = "auto"
    whole_grid: Grid = (LARGEST_SIDE, LARGEST_SIDE)
    grids: tuple[Grid, ...] = grids_up_to(LARGEST_SIDE)
    follows: bool = False

    @property
    def is_whole(self) -> bool:
        """Whether every box is looked for in the whole image."""
        return self.regions == "whole" or len(self.grids) == 1

    def plan(
        self, prompts: Prompts, original_hw: tuple[int, int], *, follows: bool = False
    ) -> RegionPlan:
        """Choose the regions of checked prompts.

        Args:
            prompts: of an image or a volume.
            original_hw: of the image or of each slice.
            follows: whether objects are followed, whatever is the rule otherwise.
        """
        if self.is_whole or not prompts.objects:
            return self.whole_plan(prompts, original_hw)
        inside = list(prompts.objects)
        flat = boxes_2d(prompts.boxes) if prompts.is_volume else prompts.boxes
        boxes, slices = flat[inside], prompts.slices[inside]
        rule = FOLLOWING_RULE if prompts.is_volume and (follows or self.follows) else RULE
        plan = plan_regions(Prompted(boxes, slices, original_hw, self.region_grids), rule)
        of_object = [0] * len(prompts.boxes)  # boxes outside the image are not looked for
        for index, place in zip(inside, plan.of_object, strict=True):
            of_object[index] = place
        return RegionPlan(plan.regions, tuple(of_object))

    def whole_plan(self, prompts: Prompts, original_hw: tuple[int, int]) -> RegionPlan:
        """Return the plan by which every box is looked for in the whole image."""
        return RegionPlan((self.whole(original_hw),), (0,) * len(prompts.boxes))

    def whole(self, original_hw: tuple[int, int]) -> Region:
        """Return the region that is the whole image, on the square."""
        return Region(0, 0, original_hw, self.whole_grid)

    def alone(
        self, box: Box, original_hw: tuple[int, int], grids: tuple[Grid, ...] | None = None
    ) -> Region:
        """Return the region of one (4,) box that follows an object, on some grids or on any."""
        return self._plan(box[None], original_hw, FOLLOWING_RULE, grids).regions[0]

    def plan_image(self, boxes: Boxes, original_hw: tuple[int, int]) -> RegionPlan:
        """Choose the regions of (N, 4) boxes, N at least 1, that lie inside an image."""
        return self._plan(boxes, original_hw, RULE)

    def _plan(
        self,
        boxes: Boxes,
        original_hw: tuple[int, int],
        rule: RegionRule,
        grids: tuple[Grid, ...] | None = None,
    ) -> RegionPlan:
        if self.is_whole:
            return RegionPlan((self.whole(original_hw),), (0,) * len(boxes))
        one_slice = np.zeros((len(boxes), 2), dtype=np.int64)
        prompted = Prompted(boxes, one_slice, original_hw, self.region_grids)
        return plan_regions(prompted, rule, grids)

    @property
    def region_grids(self) -> tuple[Grid, ...]:
        """The grids that regions may be put on."""
        return tuple(grid_hw for grid_hw in REGION_GRIDS if grid_hw in self.grids)


def plan_regions(
    prompted: Prompted, rule: RegionRule = RULE, grids: tuple[Grid, ...] | None = None
) -> RegionPlan:
    """Choose regions for boxes, on any grids or, where these will do, on some."""
    count = len(prompted.boxes)
    if count == 0:
        return RegionPlan((), ())
    # Centres are often equal along an axis; sorted, boxes in any order are parted alike.
    order = np.lexsort((*prompted.slices.T, *prompted.boxes.T))
    in_order = replace(prompted, boxes=prompted.boxes[order], slices=prompted.slices[order])
    groups = _groups(in_order, rule, grids)
    if len(by_grid(groups)) > rule.most_grids:
        chooser = Chooser(in_order, rule, prompted.grids)
        kept = chooser.most_used(groups), tuple(by_grid(chooser.on_few_grids(groups)))
        groups = min((_groups(in_order, rule, few) for few in kept), key=_lack_and_gmacs)
    groups.sort(key=lambda group: int(group.rows[0]))
    of_object = np.empty(count, dtype=np.intp)
    for place, group in enumerate(groups):
        of_object[order[group.rows]] = place
    return RegionPlan(
        tuple(group.region for group in groups), tuple(int(place) for place in of_object)
    )


def _lack_and_gmacs(groups: list[Group]) -> tuple[float, float]:
    return sum(group.lack for group in groups), sum(group.gmacs for group in groups)


def _groups(
    prompted: Prompted, rule: RegionRule, grids: tuple[Grid, ...] | None = None
) -> list[Group]:
    """Return boxes by region, on all grids or on some."""
    chooser = Chooser(prompted, rule, grids or prompted.grids)
    most_gmacs = chooser.most_gmacs()
    groups = chooser.split(chooser.group(np.arange(len(prompted.boxes))), most_gmacs)
    return chooser.on_fewer_grids(groups, most_gmacs)
