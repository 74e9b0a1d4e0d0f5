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
    assert ModelFrame.square(original_hw, 256).resized_hw == resized_hw


def test_boxes_map_the_edges_of_their_first_and_last_pixels():
    box = np.array([[3, 0, 3, 9]], dtype=np.float32)
    # Pixel 3 of an image enlarged eightfold is the model pixels 24 to 31, whose edges these are.
    enlarged = ModelFrame.square((32, 32), 256).boxes_to_model(box)
    np.testing.assert_array_equal(enlarged, [[23.5, -0.5, 31.5, 79.5]])
    same = ModelFrame.square((100, 256), 256).boxes_to_model(box)
    np.testing.assert_array_equal(same, [[2.5, -0.5, 3.5, 9.5]])
    reduced = ModelFrame.square((1024, 1024), 256).boxes_to_model(box)
    np.testing.assert_array_equal(reduced, [[0.25, -0.5, 0.5, 2.0]])


def test_the_box_of_a_whole_image_covers_the_resized_image():
    frame = ModelFrame.square((16, 64), 256)
    box = frame.boxes_to_model(np.array([0, 0, 63, 15], dtype=np.float32))
    np.testing.assert_array_equal(box, [-0.5, -0.5, 255.5, 63.5])


def test_clip_boxes_moves_coordinates_to_the_first_or_last_pixel():
    boxes = np.array([[-5, 3, 40, 99]], dtype=np.float32)
    np.testing.assert_array_equal(clip_boxes(boxes, (50, 30)), [[0, 3, 29, 49]])


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
    resized = ModelFrame.square((height, width), 256).resized_hw
    assert max(resized) == 256
    assert min(resized) >= 1
