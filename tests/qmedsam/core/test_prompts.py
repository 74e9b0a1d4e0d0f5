from __future__ import annotations

import numpy as np
import pytest

from qmedsam.core.prompts import as_array, check_prompts
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
        check_prompts(IMAGE, np.array([[1, 2, 1e300, 4]])).boxes, [[1, 2, 59, 4]]
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
    np.testing.assert_array_equal(prompts.boxes, [[0, 2, 59, 40]])
    assert prompts.notes == (
        "Box 1 (-5, 2, 99, 40) reached beyond the image of 60 x 50 pixels and was clipped",
    )


def test_a_highest_coordinate_on_the_border_itself_is_the_last_pixel_without_a_note():
    prompts = check_prompts(IMAGE, np.array([[5, 2, 60, 50], [5, 2, 59.5, 49]]))
    np.testing.assert_array_equal(prompts.boxes, [[5, 2, 59, 49], [5, 2, 59, 49]])
    assert prompts.notes == ()


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


@pytest.mark.parametrize(
    ("boxes", "lengths"),
    [([[1, 2, 3, 4], [1, 2, 3]], "3, 4"), ([[1, 2], 3], "1, 2")],
    ids=["rows", "a-number"],
)
def test_ragged_boxes_are_refused_with_the_lengths_found(boxes, lengths):
    expected = f"Boxes must be rows of equal length, got lengths {lengths}"
    with pytest.raises(InvalidCaseError, match=expected):
        as_array(boxes)


def test_boxes_are_kept_as_they_were_written():
    boxes = np.array([[30, 4, 3, 2], [1, 2, 99, 9]])
    np.testing.assert_array_equal(check_prompts(IMAGE, boxes).written, boxes)
    np.testing.assert_array_equal(check_prompts(IMAGE, boxes, written=boxes + 1).written, boxes + 1)


@pytest.mark.parametrize(
    ("pixels", "boxes", "found"),
    [
        pytest.param(IMAGE, [[0.2, 0.1, 0.5, 0.75]], "from 0.1 to 0.75", id="one"),
        pytest.param(IMAGE, [[0, 0, 1, 1], [0, 0, 0.5, 1]], "from 0 to 1", id="some-are-whole"),
        pytest.param(IMAGE, [[0.5, 0.75, 0.25, 0.5]], "from 0.25 to 0.75", id="swapped"),
        pytest.param(VOLUME, [[0.2, 0.1, 2, 0.5, 0.75, 7]], "from 0.1 to 0.75", id="volume"),
        pytest.param(VOLUME, [[0.2, 0.1, 0.2, 0.5, 0.75, 1]], "from 0.1 to 0.75", id="z-too"),
    ],
)
def test_normalised_boxes_are_refused_with_the_range_found(pixels, boxes, found):
    expected = f"Boxes must be in pixels of the original image, 60 x 50, got x and y {found}, which"
    with pytest.raises(InvalidCaseError, match=expected):
        check_prompts(pixels, np.array(boxes))


def test_boxes_are_normalised_as_they_were_written():
    pixels, mirrored = np.array([[58.8, 0.1, 59.5, 0.9]]), np.array([[0.2, 0.1, 0.5, 0.9]])
    with pytest.raises(InvalidCaseError, match=r"from 0\.1 to 0\.9"):
        check_prompts(IMAGE, pixels, written=mirrored)
    assert check_prompts(IMAGE, mirrored, written=pixels).objects == (0,)


@pytest.mark.parametrize(
    ("pixels", "boxes"),
    [
        pytest.param(IMAGE, [[0.2, 0.1, 0.5, 0.75], [3, 4, 20, 30]], id="beside-a-larger-box"),
        pytest.param(IMAGE, [[0, 0, 1, 1], [3, 4, 20, 30]], id="corner-beside-a-larger-box"),
        pytest.param(IMAGE, [[0.2, 0.1, 0.5, 1.5]], id="above-1"),
        pytest.param(IMAGE, [[-0.2, 0.1, 0.5, 0.75]], id="below-0"),
        pytest.param(IMAGE, [[0, 0, 0, 0], [1, 0, 1, 1]], id="whole-numbers"),
        pytest.param(VOLUME, [[1, 0, 0, 1, 1, 1]], id="whole-numbers-in-a-volume"),
        pytest.param(IMAGE[:2, :2], [[0, 0.2, 0.5, 1]], id="2-x-2-pixels"),
        pytest.param(IMAGE[:2, :2], [[0, 0, 1, 1]], id="all-of-2-x-2-pixels"),
        pytest.param(VOLUME[:, :2, :2], [[0, 0.2, 1, 0.5, 1, 4]], id="slices-of-2-x-2-pixels"),
    ],
)
def test_small_boxes_that_pixels_explain_are_taken(pixels, boxes):
    prompts = check_prompts(pixels, np.array(boxes))
    assert len(prompts.objects) == len(boxes)
    assert not any("normalised" in note for note in prompts.notes)


@pytest.mark.parametrize(
    ("pixels", "boxes", "named"),
    [
        pytest.param(IMAGE, [[0, 0, 1, 1]], "Box 1 (0, 0, 1, 1) was", id="image"),
        pytest.param(IMAGE[:1, :3], [[0, 0, 1, 1]], "Box 1 (0, 0, 1, 1) was", id="3-x-1-pixels"),
        pytest.param(
            IMAGE,
            [[0, 0, 0, 1], [0, 0, 1, 1], [0, 0, 1, 1]],
            "Boxes 2 (0, 0, 1, 1) and 3 (0, 0, 1, 1) were",
            id="several",
        ),
        pytest.param(VOLUME, [[0, 0, 2, 1, 1, 7]], "Box 1 (0, 0, 2, 1, 1, 7) was", id="volume"),
    ],
)
def test_a_box_that_reads_like_the_whole_image_is_noted(pixels, boxes, named):
    assert check_prompts(pixels, np.array(boxes)).notes[0] == (
        f"{named} taken for 2 x 2 pixels, not for the whole image in normalised coordinates"
    )
