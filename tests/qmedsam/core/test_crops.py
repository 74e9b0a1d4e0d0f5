"""Windows of the embedding, held to arithmetic by hand on its 64 pixels a side."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmedsam.core.crops import (
    MARGIN,
    SIDES,
    WHOLE,
    Window,
    decoding_blocks,
    window_around,
    window_pixels,
)

EXAMPLES = {
    # 4 model pixels are one of the embedding: 100 to 139 are its pixels 25 to 34. With a margin of
    # 2 on each side these are 14 pixels, and one of slack on each side makes 16.
    "middle": ([100, 100, 139, 139], Window(22, 22, 16)),
    "one pixel": ([128, 64, 128, 64], Window(8, 24, 16)),
    "corner": ([0, 0, 7, 7], Window(0, 0, 16)),
    "other corner": ([250, 250, 255, 255], Window(48, 48, 16)),
    "flat": ([0, 120, 255, 124], WHOLE),
    "everything": ([0, 0, 256, 256], WHOLE),
    "outside": ([-40, 300, -30, 310], Window(48, 0, 16)),
}


@pytest.mark.parametrize(("box", "expected"), EXAMPLES.values(), ids=EXAMPLES)
def test_a_window_lies_around_its_box(box, expected):
    assert window_around(np.array(box, dtype=np.float32), 256) == expected


def test_the_model_frame_decides_what_a_box_covers():
    box = np.array([400, 400, 559, 559], dtype=np.float32)
    assert window_around(box, 1024) == window_around(box / 4, 256)


@given(corners=st.lists(st.floats(0, 256), min_size=4, max_size=4))
def test_every_window_holds_its_box_and_the_margin_and_is_of_a_fixed_size(corners):
    x, y = sorted(corners[:2]), sorted(corners[2:])
    box = np.array([x[0], y[0], x[1], y[1]], dtype=np.float32)
    window = window_around(box, 256)
    assert window.side in SIDES
    for start, (low, high) in ((window.left, x), (window.top, y)):
        assert 0 <= start <= 64 - window.side
        assert start <= max(0, low // 4 - MARGIN)
        assert start + window.side >= min(64, high // 4 + 1 + MARGIN)


def test_blocks_hold_windows_of_one_size_in_order():
    sides = [16, 64, 16, 16, 64, 24]
    windows = [Window(0, 0, side) for side in sides]
    assert decoding_blocks(windows, 2) == [[0, 2], [3], [5], [1, 4]]
    assert decoding_blocks(windows, 100) == [[0, 2, 3], [5], [1, 4]]
    assert decoding_blocks([], 4) == []


def test_pixels_of_a_window_are_counted_row_by_row():
    first, second = window_pixels([Window(1, 2, 16), Window(0, 48, 16)])
    assert first.dtype == np.int64
    assert first[0, :3].tolist() == [66, 67, 68]
    assert first[2, 0] == 66 + 2 * 64
    assert second[15, 15] == 15 * 64 + 63
    assert window_pixels([WHOLE]).ravel().tolist() == list(range(4096))
