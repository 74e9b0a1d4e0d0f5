"""Crops of the embedding, held to arithmetic by hand on its 64 pixels a side."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmedsam.core.contract import grids_up_to
from qmedsam.core.crops import (
    MARGIN,
    SIDES,
    WHOLE,
    Crop,
    box_batches,
    crop_around,
    crop_pixels,
    whole_crop,
)

WHOLE_GRID = (256, 256)

EXAMPLES = {
    # 4 model pixels are one of the embedding: 100 to 139 are its pixels 25 to 34. With a margin of
    # 2 on each side these are 14 pixels, and one of slack on each side makes 16.
    "middle": ([100, 100, 139, 139], Crop(22, 22, 16, 16)),
    "one pixel": ([128, 64, 128, 64], Crop(8, 24, 16, 16)),
    "corner": ([0, 0, 7, 7], Crop(0, 0, 16, 16)),
    "other corner": ([250, 250, 255, 255], Crop(48, 48, 16, 16)),
    "flat": ([0, 120, 255, 124], WHOLE),
    "everything": ([0, 0, 256, 256], WHOLE),
    "outside": ([-40, 300, -30, 310], Crop(48, 0, 16, 16)),
}


@pytest.mark.parametrize(("box", "expected"), EXAMPLES.values(), ids=EXAMPLES)
def test_a_crop_lies_around_its_box(box, expected):
    assert crop_around(np.array(box, dtype=np.float32), WHOLE_GRID, 4) == expected


def test_the_model_frame_decides_what_a_box_covers():
    box = np.array([400, 400, 559, 559], dtype=np.float32)
    assert crop_around(box, (1024, 1024), 16) == crop_around(box / 4, WHOLE_GRID, 4)


NARROW = {
    # 20 to 139 are the embedding's pixels 5 to 34, with a margin 34 rows, for which 48 are taken.
    "taller than the grid is wide": ([20, 20, 40, 139], (256, 64), Crop(0, 0, 48, 16)),
    "as wide as the grid": ([0, 30, 191, 40], (128, 192), Crop(0, 0, 32, 48)),
    "inside": ([100, 20, 110, 30], (64, 256), Crop(0, 18, 16, 16)),
    "all of the smallest": ([0, 0, 63, 63], (64, 64), Crop(0, 0, 16, 16)),
}


@pytest.mark.parametrize(("box", "grid_hw", "expected"), NARROW.values(), ids=NARROW)
def test_a_narrow_embedding_limits_the_crop(box, grid_hw, expected):
    assert crop_around(np.array(box, dtype=np.float32), grid_hw, 4) == expected


@given(
    corners=st.lists(st.floats(0, 256), min_size=4, max_size=4),
    grid_hw=st.sampled_from(grids_up_to(256)),
)
def test_every_crop_holds_its_box_and_the_margin_and_is_of_a_fixed_size(corners, grid_hw):
    x, y = sorted(corners[:2]), sorted(corners[2:])
    box = np.array([x[0], y[0], x[1], y[1]], dtype=np.float32)
    crop = crop_around(box, grid_hw, 4)
    for start, side, length, (low, high) in (
        (crop.left, crop.width, grid_hw[1] // 4, x),
        (crop.top, crop.height, grid_hw[0] // 4, y),
    ):
        assert side in SIDES
        assert 0 <= start <= length - side
        assert start <= max(0, low // 4 - MARGIN)
        assert start + side >= min(length, high // 4 + 1 + MARGIN)
    assert crop.height == crop.width or min(crop.height, crop.width) in (
        grid_hw[0] // 4,
        grid_hw[1] // 4,
    )


def test_batches_hold_crops_of_one_size_in_order():
    sizes = [(16, 16), (64, 64), (16, 16), (16, 16), (64, 64), (16, 24)]
    crops = [Crop(0, 0, *size) for size in sizes]
    assert box_batches(crops, 2) == [[0, 2], [3], [5], [1, 4]]
    assert box_batches(crops, 100) == [[0, 2, 3], [5], [1, 4]]
    assert box_batches([], 4) == []


def test_pixels_of_a_crop_are_counted_row_by_row():
    first, second = crop_pixels([Crop(1, 2, 16, 16), Crop(0, 48, 16, 16)], 64)
    assert first.dtype == np.int64
    assert first[0, :3].tolist() == [66, 67, 68]
    assert first[2, 0] == 66 + 2 * 64
    assert second[15, 15] == 15 * 64 + 63
    assert crop_pixels([WHOLE], 64).ravel().tolist() == list(range(4096))
    (narrow,) = crop_pixels([Crop(1, 2, 2, 3)], 16)
    assert narrow.tolist() == [[18, 19, 20], [34, 35, 36]]
    assert crop_pixels([whole_crop((16, 48))], 48).ravel().tolist() == list(range(16 * 48))
