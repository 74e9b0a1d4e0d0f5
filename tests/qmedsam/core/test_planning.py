"""Regions of checked prompts."""

from __future__ import annotations

import numpy as np
import pytest

from qmedsam.core.contract import grids_up_to
from qmedsam.core.planning import Planner
from qmedsam.core.prompts import check_prompts
from qmedsam.core.regions import Region

HW = (400, 500)
IMAGE = np.zeros(HW, dtype=np.uint8)
VOLUME = np.zeros((9, *HW), dtype=np.uint8)
NEAR, FAR, OUTSIDE = [20, 30, 39, 49], [450, 350, 469, 369], [600, 600, 700, 700]
AUTO = Planner("auto", (256, 256), grids_up_to(256))
WHOLE = Region(0, 0, HW, (256, 256))


def regions_of(planner, pixels, boxes) -> list[Region]:
    """Return the region of each box."""
    plan = planner.plan(check_prompts(pixels, np.array(boxes)), HW)
    return [plan.regions[place] for place in plan.of_object]


@pytest.mark.parametrize(
    "planner",
    [Planner("whole"), Planner("auto", grids=((256, 256),))],
    ids=["asked-for", "no-other-grids"],
)
def test_everything_is_seen_whole(planner):
    assert regions_of(planner, IMAGE, [NEAR, FAR, OUTSIDE]) == [WHOLE] * 3
    assert planner.alone(np.float32(NEAR), HW) == WHOLE


def test_a_box_outside_the_image_has_no_influence_on_the_others():
    expected = regions_of(AUTO, IMAGE, [NEAR, FAR])
    near, _, far = regions_of(AUTO, IMAGE, [NEAR, OUTSIDE, FAR])
    assert [near, far] == expected
    assert near != far


@pytest.mark.parametrize("boxes", [np.zeros((0, 4)), [OUTSIDE]], ids=["no-boxes", "outside"])
def test_without_boxes_inside_the_image_would_be_seen_whole(boxes):
    assert regions_of(AUTO, IMAGE, boxes) == [WHOLE] * len(boxes)


def test_what_is_followed_gets_regions_that_are_not_enlarged():
    box = [*FAR[:2], 1, *FAR[2:], 5]
    follows = Planner("auto", (256, 256), grids_up_to(256), follows=True)
    alone = AUTO.alone(np.float32(FAR), HW)
    assert alone.frame.scale == 1
    assert regions_of(follows, VOLUME, [box]) == [alone]
    assert regions_of(follows, IMAGE, [FAR]) == regions_of(AUTO, VOLUME, [box])
    assert regions_of(AUTO, IMAGE, [FAR])[0].frame.scale == 2
    prompts = check_prompts(VOLUME, np.array([box]))
    assert AUTO.plan(prompts, HW, follows=True).regions == (alone,)


def test_boxes_of_a_volume_are_planned_by_their_place_and_slices():
    x0, y0, x1, y1 = NEAR
    u0, v0, u1, v1 = FAR
    found = regions_of(AUTO, VOLUME, [[x0, y0, 1, x1, y1, 5], [u0, v0, 4, u1, v1, 8]])
    assert found == regions_of(AUTO, IMAGE, [NEAR, FAR])


def test_the_whole_plan_has_a_place_for_each_box():
    plan = AUTO.whole_plan(check_prompts(IMAGE, np.array([NEAR, OUTSIDE])), HW)
    assert (plan.regions, plan.of_object) == ((WHOLE,), (0, 0))
