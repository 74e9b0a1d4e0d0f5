from __future__ import annotations

import numpy as np
import pytest

from qmedsam.core.geometry import ModelFrame
from qmedsam.core.propagation import (
    Visit,
    fixed_visits,
    follow_mask,
    follow_mask_within_box,
    grown_box,
    image_visits,
    middle_slice,
    propagation_visits,
)


def box(z_min: int, z_max: int) -> list[float]:
    return [0, 0, z_min, 9, 9, z_max]


def boxes(*ranges: tuple[int, int]) -> np.ndarray:
    return np.array([box(*one) for one in ranges], dtype=np.float32)


def test_z_max_is_inclusive():
    assert [visit.z for visit in fixed_visits(boxes((2, 4)), [0])] == [2, 3, 4]


def test_a_box_of_one_slice_is_visited_once_in_both_rules():
    assert fixed_visits(boxes((3, 3)), [0]) == [Visit(3, (0,))]
    assert propagation_visits(boxes((3, 3)), [0]) == [Visit(3, (0,), step=1)]


def test_slices_between_boxes_are_not_visited():
    assert [visit.z for visit in fixed_visits(boxes((0, 1), (5, 6)), [0, 1])] == [0, 1, 5, 6]


def test_objects_of_one_slice_are_visited_together():
    assert fixed_visits(boxes((0, 1), (1, 2)), [0, 1]) == [
        Visit(0, (0,)),
        Visit(1, (0, 1)),
        Visit(2, (1,)),
    ]


def test_the_middle_is_the_lower_of_two():
    assert middle_slice(boxes((2, 5))[0]) == 3


def test_propagation_goes_up_from_the_middles_and_then_down():
    assert propagation_visits(boxes((0, 4), (2, 3)), [0, 1]) == [
        Visit(2, (0, 1), step=1),
        Visit(3, (0, 1), step=1),
        Visit(4, (0,), step=1),
        Visit(1, (0,), step=-1),
        Visit(0, (0,), step=-1),
    ]


def test_no_boxes_need_no_visit():
    none = np.zeros((0, 6), dtype=np.float32)
    assert fixed_visits(none, []) == propagation_visits(none, []) == image_visits([]) == []


@pytest.mark.parametrize("rule", [fixed_visits, propagation_visits])
def test_objects_that_are_left_out_are_not_visited(rule):
    assert {visit.objects for visit in rule(boxes((0, 4), (2, 3)), [1])} == {(1,)}
    assert image_visits([0, 2]) == [Visit(0, (0, 2))]


def as_box(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float32)


def test_the_box_of_a_mask_grows_by_the_margin_up_to_the_border():
    grown = grown_box(as_box(10, 1, 20, 255), 1.0, (256, 256))
    assert grown.tolist() == [7, 0, 23, 255]


def test_the_margin_is_in_pixels_of_the_model_frame():
    reduced = ModelFrame.square((512, 512), 256)
    grown = grown_box(as_box(100, 100, 200, 200), reduced.scale, (512, 512))
    assert grown.tolist() == [94, 94, 206, 206]


def test_a_mask_is_followed_wherever_that_leads():
    assert follow_mask(as_box(7, 0, 23, 255), as_box(0, 0, 5, 5)).tolist() == [7, 0, 23, 255]


def test_a_mask_of_one_pixel_on_the_edge_of_the_own_box_is_followed():
    narrow = as_box(13, 10, 13, 50)
    grown = grown_box(as_box(10, 20, 10, 20), 1.0, (256, 256))
    assert follow_mask_within_box(grown, narrow).tolist() == [13, 17, 13, 23]


@pytest.mark.parametrize(
    ("grown", "expected"),
    [
        pytest.param((17, 17, 33, 33), [17, 17, 33, 33], id="inside"),
        pytest.param((2, 17, 63, 33), [10, 17, 50, 33], id="too-wide"),
        pytest.param((57, 17, 73, 33), [10, 10, 50, 50], id="beside-it"),
    ],
)
def test_a_mask_followed_within_the_own_box_never_leaves_it(grown, expected):
    own = as_box(10, 10, 50, 50)
    assert follow_mask_within_box(as_box(*grown), own).tolist() == expected
