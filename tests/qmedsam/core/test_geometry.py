from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmedsam.core.geometry import ModelFrame, clip_boxes, grow_box, mask_to_box


@pytest.mark.parametrize(
    ("original_hw", "resized_hw"),
    [
        pytest.param((512, 512), (256, 256), id="square"),
        pytest.param((320, 640), (128, 256), id="wide"),
        pytest.param((640, 320), (256, 128), id="tall"),
        pytest.param((1, 1000), (1, 256), id="thin-keeps-one-pixel"),
        pytest.param((100, 50), (256, 128), id="enlarged"),
        pytest.param((3, 2), (256, 171), id="rounded-half-up"),
        pytest.param((1, 1), (256, 256), id="one-pixel"),
    ],
)
def test_the_long_side_fills_the_model_frame(original_hw, resized_hw):
    assert ModelFrame(original_hw, 256).resized_hw == resized_hw


def test_boxes_map_centres_of_pixels_to_centres():
    boxes = np.array([[0, 10, 511, 21]], dtype=np.float32)
    halved = ModelFrame((100, 512), 256).boxes_to_model(boxes)
    np.testing.assert_array_equal(halved, [[-0.25, 4.75, 255.25, 10.25]])
    doubled = ModelFrame((100, 128), 256).boxes_to_model(boxes)
    np.testing.assert_array_equal(doubled, [[0.5, 20.5, 1022.5, 42.5]])


def test_boxes_stay_where_the_image_keeps_its_size():
    boxes = np.array([[3, 10, 200, 21]], dtype=np.float32)
    np.testing.assert_array_equal(ModelFrame((100, 256), 256).boxes_to_model(boxes), boxes)


def test_the_box_of_a_mask_covers_its_pixels():
    box = np.array([3, 0, 3, 9], dtype=np.float32)
    # Pixel 3 of an image enlarged eightfold is the model pixels 24 to 31.
    enlarged = ModelFrame((32, 32), 256).mask_box_to_model(box)
    np.testing.assert_array_equal(enlarged, [24, 0, 31, 79])
    reduced = ModelFrame((1024, 1024), 256).mask_box_to_model(box)
    np.testing.assert_array_equal(reduced, [0.75, 0, 0.75, 1.5])


def test_clip_boxes_moves_coordinates_to_the_border():
    boxes = np.array([[-5, 3, 40, 99]], dtype=np.float32)
    np.testing.assert_array_equal(clip_boxes(boxes, (50, 30)), [[0, 3, 30, 50]])


def test_grow_box_moves_each_side_outwards():
    box = np.array([10, 20, 30, 40], dtype=np.float32)
    np.testing.assert_array_equal(grow_box(box, 3), [7, 17, 33, 43])


def test_mask_to_box_of_an_empty_mask_is_none():
    assert mask_to_box(np.zeros((4, 5), dtype=bool)) is None


def test_mask_to_box_names_the_first_and_last_pixel():
    mask = np.zeros((4, 5), dtype=bool)
    mask[1, 2] = mask[3, 4] = True
    np.testing.assert_array_equal(mask_to_box(mask), [2, 1, 4, 3])


@given(st.integers(1, 5000), st.integers(1, 5000))
def test_the_resized_image_always_fits_the_square(height, width):
    resized = ModelFrame((height, width), 256).resized_hw
    assert max(resized) == 256
    assert min(resized) >= 1
