from __future__ import annotations

import numpy as np
import pytest

from qmedsam.core.notes import described_extent, label_notes, named_boxes, notes_of

BOXES = np.array([[1, 2, 3, 4], [5, 6, 7.5, 8], [9, 9, 1e300, 9]])


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ([True, False, False], "box 1 (1, 2, 3, 4)"),
        ([False, True, True], "boxes 2 (5, 6, 7.5, 8) and 3 (9, 9, 1e+300, 9)"),
        (
            [True, True, True],
            "boxes 1 (1, 2, 3, 4), 2 (5, 6, 7.5, 8) and 3 (9, 9, 1e+300, 9)",
        ),
    ],
    ids=["one", "two", "three"],
)
def test_few_boxes_are_named(chosen, expected):
    assert named_boxes(BOXES, np.array(chosen)) == expected


@pytest.mark.parametrize("more", [1, 65_000])
def test_the_first_of_many_boxes_are_named_and_the_others_counted(more):
    boxes = np.repeat([[1, 2, 3, 4]], 4 + more, axis=0)
    chosen = np.arange(4 + more) > 0
    expected = f"boxes 2 (1, 2, 3, 4), 3 (1, 2, 3, 4), 4 (1, 2, 3, 4) and {more} more"
    assert named_boxes(boxes, chosen) == expected


def test_a_kind_that_is_true_of_no_box_has_no_note():
    kinds = {"{was} seen": np.array([False, True, False]), "{was} lost": np.zeros(3, dtype=bool)}
    assert notes_of(BOXES, kinds) == ("Box 2 (5, 6, 7.5, 8) was seen",)
    assert notes_of(BOXES[:0], {"{was} seen": np.zeros(0, dtype=bool)}) == ()


def test_a_note_agrees_with_how_many_there_are():
    kinds = {"{was} seen": np.array([True, False, True])}
    assert notes_of(BOXES, kinds) == ("Boxes 1 (1, 2, 3, 4) and 3 (9, 9, 1e+300, 9) were seen",)


def test_a_missing_label_is_noted_with_its_reason():
    assert label_notes(BOXES, empty=[], covered=[], poor=[]) == ()
    assert label_notes(BOXES, empty=[1], covered=[0, 2], poor=[]) == (
        "Box 2 (5, 6, 7.5, 8) left no label, as nothing was found there",
        "Boxes 1 (1, 2, 3, 4) and 3 (9, 9, 1e+300, 9) left no label, as later boxes cover all that "
        "was found there",
    )


@pytest.mark.parametrize(
    ("poor", "said"),
    [
        ([0], "Box 1 (1, 2, 3, 4) may have a poor mask"),
        ([0, 1], "Boxes 1 (1, 2, 3, 4) and 2 (5, 6, 7.5, 8) may have poor masks"),
    ],
    ids=["one", "two"],
)
def test_poor_masks_are_noted(poor, said):
    (note,) = label_notes(BOXES, empty=[], covered=[], poor=poor)
    assert note == f"{said}: the model predicts a DSC below 0.7"


@pytest.mark.parametrize(
    ("shape", "is_volume", "expected"),
    [
        ((50, 60), False, "image of 60 x 50 pixels"),
        ((50, 60, 3), False, "image of 60 x 50 pixels"),
        ((8, 50, 60), True, "volume of 8 slices of 60 x 50 pixels"),
        ((1, 50, 60), True, "volume of 1 slice of 60 x 50 pixels"),
    ],
    ids=["grey", "colour", "volume", "one-slice"],
)
def test_an_extent_is_said_along_x_and_y(shape, is_volume, expected):
    assert described_extent(shape, is_volume=is_volume) == expected
