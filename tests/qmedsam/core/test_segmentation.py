"""What an answer says of itself, on canvases that are small enough to draw."""

from __future__ import annotations

import numpy as np
import pytest

from qmedsam.core.postprocess import LabelCanvas, MaskPatch
from qmedsam.core.prompts import check_prompts
from qmedsam.core.segmentation import segmentation_of
from qmedsam.core.tally import Tally
from tests.conftest import mask_of

IMAGE = np.zeros((4, 5), dtype=np.uint8)
OUTSIDE = [9, 9, 12, 12]


def drawn(boxes, *masks, quality=None):
    """Return what is drawn of an image: masks, from its first pixel, of the boxes in turn."""
    prompts = check_prompts(IMAGE, np.array(boxes))
    canvas = LabelCanvas((1, *IMAGE.shape), len(boxes))
    for label, rows in enumerate(masks, 1):
        canvas.paint(0, MaskPatch(mask_of(rows), 0, 0), label)
    nothing = np.full(len(boxes), np.nan, dtype=np.float32)
    rated = nothing if quality is None else np.array(quality, dtype=np.float32)
    return segmentation_of(canvas, prompts, Tally(), rated)


def test_an_answer_that_has_all_labels_has_no_notes():
    answer = drawn([[0, 0, 2, 1], [0, 1, 2, 2]], ["###", "###"], ["...", "###", "###"])
    assert answer.notes == ()
    assert not answer.is_empty
    np.testing.assert_array_equal(
        answer.label_map, [[1, 1, 1, 0, 0], [2, 2, 2, 0, 0], [2, 2, 2, 0, 0], [0] * 5]
    )


def test_a_label_under_a_later_one_is_noted():
    answer = drawn([[1, 1, 1, 1], [0, 0, 2, 2]], ["...", ".#."], ["###", "###", "###"])
    assert answer.notes == (
        "Box 1 (1, 1, 1, 1) left no label, as later boxes cover all that was found there",
    )
    assert not answer.is_empty


def test_a_box_in_which_nothing_is_found_is_noted():
    answer = drawn([[0, 0, 2, 1], [3, 3, 3, 3], [4, 3, 4, 3]], ["###", "###"], ["...."], [])
    assert answer.notes == (
        "Boxes 2 (3, 3, 3, 3) and 3 (4, 3, 4, 3) left no label, as nothing was found there",
    )
    assert not answer.is_empty


def test_masks_of_low_quality_are_noted_unless_there_is_none():
    boxes = [[0, 0, 2, 0], [0, 1, 2, 1], [0, 2, 2, 2], [4, 3, 4, 3]]
    masks = ["###"], ["...", "###"], ["...", "...", "###"], []
    answer = drawn(boxes, *masks, quality=[0.69, 0.7, 0.1, 0.0])
    assert answer.notes == (
        "Box 4 (4, 3, 4, 3) left no label, as nothing was found there",
        "Boxes 1 (0, 0, 2, 0) and 3 (0, 2, 2, 2) may have poor masks: the model predicts a DSC "
        "below 0.7",
    )
    assert answer.quality.tolist() == pytest.approx([0.69, 0.7, 0.1, 0.0])


def test_a_box_outside_is_not_noted_a_second_time():
    answer = drawn([[0, 0, 2, 1], OUTSIDE], ["###"])
    assert answer.notes == ()
    assert not answer.is_empty


@pytest.mark.parametrize(
    ("boxes", "notes"),
    [
        (np.zeros((0, 4)), 0),
        ([OUTSIDE], 0),
        ([[0, 0, 2, 1]], 1),
        ([[0, 0, 2, 1], OUTSIDE], 1),
    ],
    ids=["no-boxes", "outside", "nothing-found", "nothing-found-and-outside"],
)
def test_an_answer_of_background_is_empty(boxes, notes):
    answer = drawn(boxes)
    assert answer.is_empty
    assert not answer.label_map.any()
    assert len(answer.notes) == notes


def test_the_label_map_of_a_volume_has_its_depth():
    volume = np.zeros((2, 4, 5), dtype=np.uint8)
    prompts = check_prompts(volume, np.array([[0, 0, 0, 2, 2, 1]]))
    answer = segmentation_of(LabelCanvas(volume.shape, 1), prompts, Tally(), np.zeros(1))
    assert answer.label_map.shape == (2, 4, 5)
