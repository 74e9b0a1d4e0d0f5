from __future__ import annotations

import numpy as np
import pytest

from qmedsam.core.prompts import check_prompts
from qmedsam.errors import InvalidCaseError

IMAGE = np.zeros((50, 60, 3), dtype=np.uint8)
VOLUME = np.zeros((8, 50, 60), dtype=np.uint8)


@pytest.mark.parametrize("shape", [(50, 60), (50, 60, 1), (50, 60, 3), (50, 60, 4)], ids=str)
def test_four_columns_make_an_image(shape):
    prompts = check_prompts(np.zeros(shape, dtype=np.uint8), np.array([[1, 2, 3, 4]]))
    assert not prompts.is_volume
    assert prompts.notes == ()


def test_six_columns_make_a_volume_even_when_it_is_three_wide():
    thin = np.zeros((8, 50, 3), dtype=np.uint8)
    assert check_prompts(thin, np.array([[0, 2, 3, 2, 4, 5]])).is_volume


@pytest.mark.parametrize(
    "dtype", [np.uint8, np.int16, np.uint16, np.int64, np.float16, np.float32, np.float64], ids=str
)
def test_boxes_of_any_number_type_are_taken(dtype):
    prompts = check_prompts(IMAGE, np.array([[1, 2, 3, 4]], dtype=dtype))
    assert prompts.boxes.dtype == np.float32
    np.testing.assert_array_equal(prompts.boxes, [[1, 2, 3, 4]])


@pytest.mark.parametrize(
    ("pixels", "boxes", "is_volume"),
    [
        pytest.param(IMAGE, np.zeros((0, 4)), False, id="image"),
        pytest.param(VOLUME, np.zeros((0, 6)), True, id="volume"),
        pytest.param(IMAGE, np.zeros(0), False, id="image-without-columns"),
        pytest.param(VOLUME, np.array([]), True, id="volume-without-columns"),
        pytest.param(VOLUME, np.zeros((0, 4)), True, id="volume-with-four-columns"),
        pytest.param(IMAGE[..., 0], np.zeros((0, 6)), False, id="image-with-six-columns"),
    ],
)
def test_no_box_is_a_legal_prompt(pixels, boxes, is_volume):
    prompts = check_prompts(pixels, boxes)
    assert len(prompts.boxes) == 0
    assert prompts.is_volume is is_volume


def test_a_number_beyond_float32_is_clipped_like_any_other():
    np.testing.assert_array_equal(
        check_prompts(IMAGE, np.array([[1, 2, 1e300, 4]])).boxes, [[1, 2, 60, 4]]
    )


def test_one_box_may_come_without_its_axis():
    np.testing.assert_array_equal(
        check_prompts(IMAGE, np.array([1, 2, 3, 4])).boxes, [[1, 2, 3, 4]]
    )


def test_inverted_boxes_are_swapped_with_a_note():
    prompts = check_prompts(IMAGE, np.array([[1, 2, 3, 4], [30, 4, 3, 2]]))
    np.testing.assert_array_equal(prompts.boxes[1], [3, 2, 30, 4])
    assert prompts.notes == ("Box 2 (30, 4, 3, 2) was put in order, minimum first",)
    assert prompts.objects == (0, 1)


@pytest.mark.parametrize(
    ("pixels", "box", "note"),
    [
        pytest.param(IMAGE, [60, 2, 80, 4], "(60, 2, 80, 4) lay outside the image", id="right"),
        pytest.param(IMAGE, [2, -9, 8, -1], "(2, -9, 8, -1) lay outside the image", id="above"),
        pytest.param(
            VOLUME,
            [1, 2, 8, 3, 4, 9],
            "(1, 2, 8, 3, 4, 9) lay outside the volume of 8 slices",
            id="after-the-last-slice",
        ),
        pytest.param(
            VOLUME,
            [1, 2, -9, 3, 4, -1],
            "(1, 2, -9, 3, 4, -1) lay outside the volume of 8 slices",
            id="before-the-first-slice",
        ),
    ],
)
def test_a_box_outside_keeps_its_label_without_an_object(pixels, box, note):
    good = [1, 1, 5, 5] if len(box) == 4 else [1, 1, 0, 5, 5, 2]
    prompts = check_prompts(pixels, np.array([good, box, good]))
    assert prompts.objects == (0, 2)
    assert len(prompts.boxes) == 3
    assert prompts.notes == (f"Box 2 {note} of 60 x 50 pixels and left no label",)


def test_boxes_beyond_the_border_are_clipped_with_a_note():
    prompts = check_prompts(IMAGE, np.array([[-5, 2, 99, 40]]))
    np.testing.assert_array_equal(prompts.boxes, [[0, 2, 60, 40]])
    assert prompts.notes == (
        "Box 1 (-5, 2, 99, 40) reached beyond the image of 60 x 50 pixels and was clipped",
    )


def test_slices_beyond_the_volume_are_clipped_and_rounded():
    prompts = check_prompts(VOLUME, np.array([[1, 2, 1.6, 9, 9, 40]]))
    np.testing.assert_array_equal(prompts.boxes[0, [2, 5]], [2, 7])


@pytest.mark.parametrize(
    ("z_min", "z_max", "expected"),
    [(1.5, 2.5, [2, 3]), (2.5, 3.5, [3, 4]), (7.4, 7.4, [7, 7]), (-0.4, 0.4, [0, 0])],
)
def test_slices_are_rounded_half_up_with_a_note(z_min, z_max, expected):
    prompts = check_prompts(VOLUME, np.array([[1, 2, z_min, 9, 9, z_max]]))
    np.testing.assert_array_equal(prompts.boxes[0, [2, 5]], expected)
    assert prompts.notes == (
        f"Box 1 (1, 2, {z_min:g}, 9, 9, {z_max:g}) was rounded to whole slices",
    )
    assert prompts.objects == (0,)


def test_a_box_of_one_slice_is_legal():
    prompts = check_prompts(VOLUME, np.array([[1, 2, 7, 9, 9, 7]]))
    np.testing.assert_array_equal(prompts.boxes[0, [2, 5]], [7, 7])
    assert prompts.notes == ()


@pytest.mark.parametrize(
    ("pixels", "boxes", "message"),
    [
        pytest.param(IMAGE.astype(np.float32), [[1, 2, 3, 4]], "must be uint8", id="float-pixels"),
        pytest.param(VOLUME.astype(np.int16), [[1, 2, 3, 4, 5, 6]], "got int16", id="int16-ct"),
        pytest.param(np.zeros(5, np.uint8), [[1, 2, 3, 4]], r"got \(5,\)", id="one-axis"),
        pytest.param(np.zeros((0, 5), np.uint8), [[1, 2, 3, 4]], r"\(0, 5\)", id="no-pixels"),
        pytest.param(VOLUME, [[1, 2, 3, 4]], r"a volume needs boxes \(N, 6\)", id="volume-2d-box"),
        pytest.param(IMAGE[..., 0], [[1, 2, 0, 3, 4, 0]], r"need a volume", id="image-3d-box"),
        pytest.param(IMAGE, [[1, 2, 3]], r"got \(1, 3\)", id="three-columns"),
        pytest.param(IMAGE, [[1, 2, np.nan, 4]], r"finite, got box 1", id="nan"),
        pytest.param(IMAGE, [[1, 2, np.inf, 4]], r"finite", id="infinite"),
        pytest.param(IMAGE, [[1, 2, 3, -np.inf]], r"finite", id="minus-infinite"),
        pytest.param(IMAGE, [["1", "2", "3", "4"]], r"integers or floats", id="text"),
        pytest.param(IMAGE, np.ones((65536, 4)), r"At most 65535", id="too-many"),
    ],
)
def test_what_cannot_be_meant_is_refused(pixels, boxes, message):
    with pytest.raises(InvalidCaseError, match=message):
        check_prompts(pixels, np.asarray(boxes))
