"""In which region an object is looked for, on an image of 200 x 200."""

from __future__ import annotations

import numpy as np

from qmedsam.core.contract import grids_up_to
from qmedsam.core.encoding import Stop
from qmedsam.core.planning import Planner
from qmedsam.core.propagation import Visit
from qmedsam.core.region_rule import RULE
from qmedsam.core.regions import Region, RegionPlan
from qmedsam.core.whereabouts import Whereabouts

HW = (200, 200)
LEFT, RIGHT = Region(40, 0, (64, 64), (64, 64)), Region(40, 100, (64, 64), (64, 64))
PLANNER = Planner("auto", (256, 256), grids_up_to(256))
INSIDE = np.float32([20, 60, 39, 79])  # of LEFT, more than 5 pixels from its edges
AT_THE_EDGE = np.float32([40, 60, 59, 79])  # less than 5 pixels from them
AT_THE_BORDER = np.float32([0, 60, 19, 79])  # of the image, behind which there is nothing


def whereabouts() -> Whereabouts:
    return Whereabouts(RegionPlan((LEFT, RIGHT), (0, 1, 0)), PLANNER, HW)


def settled(found, visit, boxes):
    return found.settle(
        Stop(visit, found.region_of(visit.objects[0], visit.step)), np.float32(boxes)
    )


def test_objects_are_where_the_plan_has_them():
    found = whereabouts()
    assert [found.region_of(index, 0) for index in range(3)] == [
        LEFT,
        RIGHT,
        LEFT,
    ]


def test_an_object_stays_in_the_inner_part_of_its_region():
    found = whereabouts()
    for box in (INSIDE, AT_THE_BORDER):
        assert found.follow(0, 1, box) == LEFT
    assert found.region_of(0, 1) == LEFT


def test_an_object_that_leaves_moves_to_a_region_of_its_own_in_that_direction():
    found, own = whereabouts(), PLANNER.alone(AT_THE_EDGE, HW)
    assert found.follow(0, 1, AT_THE_EDGE) == own
    assert own.left > LEFT.left
    assert found.region_of(0, 1) == own
    assert found.region_of(0, -1) == LEFT
    assert found.region_of(2, 1) == LEFT


def test_an_object_that_leaves_again_moves_again():
    found = whereabouts()
    first = found.follow(0, 1, AT_THE_EDGE)
    second = found.follow(0, 1, AT_THE_EDGE + np.float32([90, 0, 90, 0]))
    assert second not in (LEFT, first)


def test_a_stop_is_parted_by_where_its_objects_are():
    found = whereabouts()
    visit = Visit(5, (0, 2), step=1)
    assert settled(found, visit, [INSIDE, INSIDE]) == [(Stop(visit, LEFT), [0, 1])]
    own = PLANNER.alone(AT_THE_EDGE, HW)
    assert settled(found, visit, [AT_THE_EDGE, INSIDE]) == [
        (Stop(Visit(5, (0,), step=1), own), [0]),
        (Stop(Visit(5, (2,), step=1), LEFT), [1]),
    ]


def test_without_a_neighbour_to_follow_nothing_moves():
    visit = Visit(5, (0, 2))
    assert settled(whereabouts(), visit, [AT_THE_EDGE] * 2) == [(Stop(visit, LEFT), [0, 1])]


def test_an_object_that_is_back_in_the_region_of_the_plan_is_looked_for_there():
    found = whereabouts()
    assert found.follow(0, 1, AT_THE_EDGE) != LEFT
    far_right = np.float32([160, 60, 179, 79])
    assert found.follow(0, 1, far_right) != LEFT
    assert found.follow(0, 1, INSIDE) == LEFT


def test_objects_that_move_take_no_more_grids_than_a_plan_may():
    hw = (1000, 1000)
    plan = RegionPlan((Region(0, 0, (64, 64), (64, 64)),), (0,) * 5)
    found = Whereabouts(plan, PLANNER, hw)
    boxes = np.float32(
        [[500, 500, 509, 509], [500, 500, 579, 579], [500, 500, 559, 559], [400, 300, 419, 449]]
    )
    assert len({PLANNER.alone(box, hw).grid_hw for box in boxes} | {(64, 64)}) > RULE.most_grids
    grids = {found.follow(index, 1, box).grid_hw for index, box in enumerate(boxes)} | {(64, 64)}
    assert len(grids) == RULE.most_grids


def test_an_object_that_comes_to_fill_the_slice_is_seen_whole_on_a_large_square():
    """None of the three grids in use will do: two are no squares, and the square is too small."""
    hw = (512, 512)
    grids = [(64, 64), (128, 256), (256, 128)]
    plan = RegionPlan(tuple(Region(0, 0, grid_hw, grid_hw) for grid_hw in grids), (0, 1, 2))
    found = Whereabouts(plan, PLANNER, hw).follow(0, 1, np.float32([20, 20, 490, 490]))
    assert found == Region(0, 0, hw, (256, 256))
    without_square = RegionPlan((*plan.regions[1:], Region(0, 0, (192, 256), (192, 256))), (0, 1))
    found = Whereabouts(without_square, PLANNER, hw).follow(0, 1, np.float32([20, 20, 490, 490]))
    assert found == Region(0, 0, hw, (256, 256))
