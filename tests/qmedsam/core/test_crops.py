"""Crops of the embedding, held to arithmetic by hand on its 64 pixels a side."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmedsam.core.crops import (
    MARGIN,
    SIDES,
    WHOLE,
    Crop,
    box_batches,
    crop_around,
    crop_pixels,
)

EXAMPLES = {
    # 4 model pixels are one of the embedding: 100 to 139 are its pixels 25 to 34. With a margin of
    # 2 on each side these are 14 pixels, and one of slack on each side makes 16.
    "middle": ([100, 100, 139, 139], Crop(22, 22, 16)),
    "one pixel": ([128, 64, 128, 64], Crop(8, 24, 16)),
    "corner": ([0, 0, 7, 7], Crop(0, 0, 16)),
    "other corner": ([250, 250, 255, 255], Crop(48, 48, 16)),
    "flat": ([0, 120, 255, 124], WHOLE),
    "everything": ([0, 0, 256, 256], WHOLE),
    "outside": ([-40, 300, -30, 310], Crop(48, 0, 16)),
}


@pytest.mark.parametrize(("box", "expected"), EXAMPLES.values(), ids=EXAMPLES)
def test_a_crop_lies_around_its_box(box, expected):
    assert crop_around(np.array(box, dtype=np.float32), 256) == expected


def test_the_model_frame_decides_what_a_box_covers():
    box = np.array([400, 400, 559, 559], dtype=np.float32)
    assert crop_around(box, 1024) == crop_around(box / 4, 256)


@given(corners=st.lists(st.floats(0, 256), min_size=4, max_size=4))
def test_every_crop_holds_its_box_and_the_margin_and_is_of_a_fixed_size(corners):
    x, y = sorted(corners[:2]), sorted(corners[2:])
    box = np.array([x[0], y[0], x[1], y[1]], dtype=np.float32)
    crop = crop_around(box, 256)
    assert crop.side in SIDES
    for start, (low, high) in ((crop.left, x), (crop.top, y)):
        assert 0 <= start <= 64 - crop.side
        assert start <= max(0, low // 4 - MARGIN)
        assert start + crop.side >= min(64, high // 4 + 1 + MARGIN)


def test_batches_hold_crops_of_one_size_in_order():
    sides = [16, 64, 16, 16, 64, 24]
    crops = [Crop(0, 0, side) for side in sides]
    assert box_batches(crops, 2) == [[0, 2], [3], [5], [1, 4]]
    assert box_batches(crops, 100) == [[0, 2, 3], [5], [1, 4]]
    assert box_batches([], 4) == []


def test_pixels_of_a_crop_are_counted_row_by_row():
    first, second = crop_pixels([Crop(1, 2, 16), Crop(0, 48, 16)])
    assert first.dtype == np.int64
    assert first[0, :3].tolist() == [66, 67, 68]
    assert first[2, 0] == 66 + 2 * 64
    assert second[15, 15] == 15 * 64 + 63
    assert crop_pixels([WHOLE]).ravel().tolist() == list(range(4096))
