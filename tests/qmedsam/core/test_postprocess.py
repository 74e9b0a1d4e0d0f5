"""The upsampling of a patch is held to the full-frame bilinear interpolation it stands for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qmedsam.core.crops import SIDES, Crop
from qmedsam.core.geometry import ModelFrame
from qmedsam.core.postprocess import (
    EMPTY_PATCH,
    LabelCanvas,
    MaskPatch,
    cut_far_islands,
    logits_to_patch,
)
from tests.conftest import mask_of

# Values this close to the threshold may fall on either side in another order of operations.
ROUNDING = 1e-4


def full_frame_logits(logits: np.ndarray, frame: ModelFrame) -> np.ndarray:
    """Upsample pixel by pixel as `interpolate(mode="bilinear", align_corners=False)` defines."""
    stride = 1 / frame.logit_px
    valid = [int(np.ceil(side * stride)) for side in frame.resized_hw]
    axes = []
    for length, resized, count in zip(frame.original_hw, frame.resized_hw, valid, strict=True):
        position = np.maximum((np.arange(length) + 0.5) * resized * stride / length - 0.5, 0)
        low = np.minimum(np.floor(position).astype(int), count - 1)
        axes.append((low, np.minimum(low + 1, count - 1), position - low))
    (y0, y1, fy), (x0, x1, fx) = axes
    upper = logits[np.ix_(y0, x0)] * (1 - fx) + logits[np.ix_(y0, x1)] * fx
    lower = logits[np.ix_(y1, x0)] * (1 - fx) + logits[np.ix_(y1, x1)] * fx
    return upper * (1 - fy[:, None]) + lower * fy[:, None]


def assert_same_mask(logits: np.ndarray, frame: ModelFrame) -> None:
    drawn = logits_to_patch(logits, frame).whole(frame.original_hw)
    expected = full_frame_logits(logits.astype(np.float64), frame)
    clear = np.abs(expected) > ROUNDING
    np.testing.assert_array_equal(drawn[clear], (expected > 0)[clear])


def blob(seed: int, spread: float, size: int = 256) -> np.ndarray:
    """One object: a smooth bump with noise, in -10 to 10."""
    generator = np.random.default_rng(seed)
    x, y = generator.uniform(0, size, 2)
    rows, columns = np.mgrid[:size, :size]
    distance = np.hypot(rows - y, columns - x) / spread
    noise = generator.normal(0, 0.5, (size, size))
    return (10 * (1 - distance) + noise).clip(-10, 10).astype(np.float32)


@pytest.mark.parametrize(
    "original_hw",
    [(512, 512), (100, 256), (256, 100), (37, 61), (1, 1000), (1000, 1), (1, 1), (600, 2000)],
    ids=str,
)
@pytest.mark.parametrize("spread", [3, 40, 400], ids=["small", "medium", "everywhere"])
def test_a_patch_equals_full_frame_interpolation(original_hw, spread):
    frame = ModelFrame.square(original_hw, 256)
    for seed in range(3):
        assert_same_mask(blob(seed, spread), frame)


def test_a_larger_model_frame_reads_the_same_logits():
    assert_same_mask(blob(1, 60), ModelFrame.square((300, 500), 1024))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 400), st.integers(1, 400), st.integers(0, 255), st.integers(0, 255))
def test_a_single_positive_pixel_is_drawn_where_it_lies(height, width, row, column):
    logits = np.full((256, 256), -1, dtype=np.float32)
    logits[row, column] = 3
    assert_same_mask(logits, ModelFrame.square((height, width), 256))


def test_no_positive_logit_gives_an_empty_patch():
    crop = logits_to_patch(np.zeros((256, 256), dtype=np.float32), ModelFrame.square((99, 99), 256))
    assert crop is EMPTY_PATCH
    assert crop.box() is None


@pytest.mark.parametrize("original_hw", [(512, 400), (60, 256), (256, 37), (24, 24)], ids=str)
@pytest.mark.parametrize("spread", [3, 60, 400], ids=["small", "cut by the crop", "everywhere"])
def test_a_decoded_crop_is_drawn_as_the_whole_would_be_without_what_is_outside(original_hw, spread):
    frame = ModelFrame.square(original_hw, 256)
    for seed, side in enumerate(SIDES):
        logits = blob(seed, spread)
        crop = Crop(7 * (64 - side) // 13, 5 * (64 - side) // 13, side, side)
        rows, columns = (slice(4 * start, 4 * (start + side)) for start in (crop.top, crop.left))
        found = logits_to_patch(logits[rows, columns], frame, crop).whole(original_hw)
        expected = full_frame_logits(logits.astype(np.float64), frame)
        # Which logit a pixel is nearest to decides whether it is inside.
        axes = []
        for axis, part in enumerate((rows, columns)):
            ratio = frame.resized_hw[axis] / original_hw[axis]
            nearest = (np.arange(original_hw[axis]) + 0.5) * ratio
            axes.append((nearest > part.start + 0.5) & (nearest < part.stop - 0.5))
        inside = np.outer(*axes)
        clear = inside & (np.abs(expected) > ROUNDING)
        np.testing.assert_array_equal(found[clear], (expected > 0)[clear])
        beyond = ~np.outer(*(_reached(axis, original_hw, frame, crop) for axis in (0, 1)))
        assert not found[beyond].any()


def _reached(axis, original_hw, frame, crop):
    """Which pixels of an axis lie above the values of a crop."""
    start, stop = 4 * (crop.top, crop.left)[axis], 4 * ((crop.top, crop.left)[axis])
    stop += 4 * (crop.height, crop.width)[axis]
    ratio = frame.resized_hw[axis] / original_hw[axis]
    position = (np.arange(original_hw[axis]) + 0.5) * ratio
    return (position > start - 1e-6) & (position < stop + 1e-6)


def test_logits_in_the_padding_are_ignored():
    logits = np.full((256, 256), -1, dtype=np.float32)
    logits[200:, :] = 5
    assert logits_to_patch(logits, ModelFrame.square((100, 256), 256)) is EMPTY_PATCH


def test_a_patch_lies_in_its_image():
    patch = MaskPatch(mask_of([".#", "##"]), top=1, left=2)
    expected = mask_of(["....", "...#", "..##"])
    np.testing.assert_array_equal(patch.whole((3, 4)), expected)
    image = np.arange(12).reshape(3, 4)
    np.testing.assert_array_equal(image[patch.place()], [[6, 7], [10, 11]])


def test_the_box_of_a_patch_is_in_the_original_frame():
    mask = np.array([[False, True], [True, True]])
    np.testing.assert_array_equal(MaskPatch(mask, top=10, left=20).box(), [20, 10, 21, 11])


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        pytest.param((13, 21, 14, 22), (20, 12, 4, 4), id="a-pixel-is-kept-on-each-side"),
        pytest.param((20, 10, 39, 29), (10, 18, 22, 12), id="a-tenth-of-the-longer-side"),
        pytest.param((0, 0, 99, 99), (10, 10, 30, 20), id="all-is-near"),
        pytest.param((13.5, 21.5, 14, 22), (21, 13, 3, 3), id="between-pixels"),
        pytest.param((29, 10, 29, 10), (10, 28, 2, 2), id="one-pixel-in-a-corner"),
    ],
)
def test_what_is_far_from_the_box_is_cut_off(box, expected):
    """The patch has the rows 10 to 39 and the columns 10 to 29."""
    patch = MaskPatch(np.ones((30, 20), dtype=bool), 10, 10)
    kept = cut_far_islands(patch, np.float32(box))
    assert (kept.top, kept.left, *kept.mask.shape) == expected
    assert kept.mask.all()


def test_a_mask_that_is_all_far_from_its_box_is_empty():
    patch = MaskPatch(np.ones((3, 3), dtype=bool), 10, 10)
    for box in ([14, 10, 15, 12], [10, 14, 12, 15], [0, 0, 7, 7]):
        assert cut_far_islands(patch, np.float32(box)) is EMPTY_PATCH
    assert cut_far_islands(EMPTY_PATCH, np.float32([1, 2, 3, 4])) is EMPTY_PATCH
    assert cut_far_islands(patch, np.float32([13, 10, 15, 12])).mask.shape == (3, 1)


@pytest.mark.parametrize("order", [(1, 2), (2, 1)], ids=["ascending", "descending"])
def test_the_higher_label_wins_in_any_order(order):
    crops = {
        1: MaskPatch(np.ones((2, 2), dtype=bool), 0, 0),
        2: MaskPatch(np.ones((2, 2), dtype=bool), 1, 1),
    }
    canvas = LabelCanvas((1, 3, 3), 2)
    for label in order:
        canvas.paint(0, crops[label], label)
    np.testing.assert_array_equal(canvas.label_map[0], [[1, 1, 0], [1, 2, 2], [0, 2, 2]])


@pytest.mark.parametrize(
    ("objects", "dtype"), [(0, np.uint8), (255, np.uint8), (256, np.uint16)], ids=str
)
def test_the_label_map_has_the_smallest_type(objects, dtype):
    assert LabelCanvas((1, 2, 2), objects).label_map.dtype == dtype


def test_label_65535_is_drawn():
    canvas = LabelCanvas((1, 1, 1), 65535)
    canvas.paint(0, MaskPatch(np.ones((1, 1), dtype=bool), 0, 0), 65535)
    assert canvas.label_map[0, 0, 0] == 65535
    assert canvas.is_visible(65535)


def test_a_label_without_a_mask_is_not_visible():
    canvas = LabelCanvas((2, 3, 3), 3)
    canvas.paint(0, EMPTY_PATCH, 1)
    canvas.paint(1, MaskPatch(np.zeros((2, 2), dtype=bool), 0, 0), 2)
    assert [canvas.has_mask(label) for label in (1, 2, 3)] == [False] * 3
    assert [canvas.is_visible(label) for label in (1, 2, 3)] == [False] * 3


@pytest.mark.parametrize("order", [(1, 2), (2, 1)], ids=["ascending", "descending"])
def test_a_label_is_visible_until_higher_ones_cover_the_last_of_its_pixels(order):
    small = {1: mask_of(["#"]), 2: mask_of(["###", "###"])}
    canvas = LabelCanvas((2, 3, 3), 2)
    for label in order:
        canvas.paint(0, MaskPatch(small[label], 0, 0), label)
    assert canvas.has_mask(1)
    assert not canvas.is_visible(1)
    assert canvas.is_visible(2)
    canvas.paint(1, MaskPatch(small[1], 2, 2), 1)  # on the other slice
    assert canvas.is_visible(1)


def test_visible_labels_are_those_that_a_look_at_every_pixel_finds():
    generator = np.random.default_rng(3)
    hidden = 0
    for _ in range(50):
        canvas = LabelCanvas((2, 6, 6), 9)
        for label in generator.permutation(np.repeat(np.arange(1, 10), 2)):
            height, width = generator.integers(0, 5, 2)
            mask = generator.random((height, width)) < 0.6
            place = int(generator.integers(0, 7 - height)), int(generator.integers(0, 7 - width))
            canvas.paint(int(generator.integers(2)), MaskPatch(mask, *place), int(label))
        for label in range(1, 10):
            is_there = bool((canvas.label_map == label).any())
            assert canvas.is_visible(label) == is_there
            hidden += canvas.has_mask(label) and not is_there
    assert hidden > 0


def test_nothing_is_drawn_where_no_logit_is_positive():
    mask = logits_to_patch(
        np.zeros((256, 256), dtype=np.float32), ModelFrame.square((30, 40), 256)
    ).whole((30, 40))
    assert mask.shape == (30, 40)
    assert mask.dtype == np.bool_
    assert not mask.any()


def test_masks_lie_where_the_logits_are_and_not_in_the_padding():
    logits = np.full((256, 256), -1, dtype=np.float32)
    logits[64:128, 0:128] = 1  # the lower half is in the padding of an image twice as wide as high
    logits[128:, :] = 1
    mask = logits_to_patch(logits, ModelFrame.square((128, 256), 256)).whole((128, 256))
    assert mask.shape == (128, 256)
    assert mask[64:, :128].all()
    assert mask.sum() == 64 * 128
