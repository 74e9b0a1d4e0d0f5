"""A rectangle of an image on its grid, by hand."""

from __future__ import annotations

import numpy as np

from qmedsam.core.regions import Region, RegionPlan


def test_a_region_cuts_its_part_without_a_copy():
    image = np.arange(30).reshape(5, 6)
    part = Region(top=1, left=2, hw=(2, 3), grid_hw=(64, 64)).cut(image)
    np.testing.assert_array_equal(part, [[8, 9, 10], [14, 15, 16]])
    assert np.shares_memory(part, image)
    colour = np.zeros((5, 6, 3))
    assert Region(1, 2, (2, 3), (64, 64)).cut(colour).shape == (2, 3, 3)


def test_boxes_are_mapped_from_the_corner_of_the_region():
    """Pixel 12 is the third of the region, which lies twice as large on its grid."""
    region = Region(top=20, left=10, hw=(32, 32), grid_hw=(64, 64))
    boxes = np.array([[12, 20, 12, 51]], dtype=np.float32)
    np.testing.assert_array_equal(region.boxes_to_model(boxes), [[3.5, -0.5, 5.5, 63.5]])


def test_a_region_that_fills_its_grid_one_way_is_padded_the_other():
    frame = Region(0, 0, (32, 100), (64, 128)).frame
    assert frame.scale == 1.28
    assert frame.resized_hw == (41, 128)


def test_a_plan_tells_the_grids_of_some_objects_in_the_order_of_use():
    wide, small = (64, 128), (64, 64)
    regions = tuple(Region(0, left, (64, 64), grid) for left, grid in enumerate((wide, small)))
    plan = RegionPlan(regions, (1, 0, 1, 0))
    assert plan.grids([0, 1, 2, 3]) == [small, wide]
    assert plan.grids([1, 3]) == [wide]
    assert plan.grids([]) == []
