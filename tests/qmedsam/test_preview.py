"""The first answer to a box, by the whole image, before a region round the box is looked at."""

from __future__ import annotations

import numpy as np
import pytest

from qmedsam import InvalidCaseError, Segmenter, Session, Settings
from qmedsam.config import VOLUME_PROMPTS

pytestmark = pytest.mark.usefixtures("all_grids")
IMAGE = np.random.default_rng(0).integers(0, 256, (600, 800, 3), dtype=np.uint8)
VOLUME = np.random.default_rng(1).integers(0, 256, (5, 600, 800), dtype=np.uint8)
BOXES = [[10, 10, 30, 51], [20, 30, 41, 71]]  # that overlap


def whole(pixels) -> Session:
    return Segmenter(settings=Settings(regions="whole")).open(pixels)


def test_a_preview_costs_the_decoder_alone_once_the_image_is_encoded():
    segmenter = Segmenter()
    session = segmenter.open(IMAGE)
    session.encode()
    preview = session.preview(BOXES)
    assert len(segmenter.network.encoded) == 1
    assert (preview.shape, preview.dtype) == ((2, 600, 800), np.bool_)
    assert (preview[0] & preview[1]).any()
    np.testing.assert_array_equal(preview, whole(IMAGE).masks(BOXES))
    refined = session.masks(BOXES)
    assert len(segmenter.network.encoded) == 2
    assert (refined != preview).any()
    np.testing.assert_array_equal(session.preview(BOXES), preview)
    assert len(segmenter.network.encoded) == 2


def test_what_is_not_encoded_is_encoded_for_a_preview():
    segmenter = Segmenter()
    session = segmenter.open(IMAGE)
    for _ in range(2):
        session.preview(BOXES)
        session.encode()
    assert len(segmenter.network.encoded) == 1


@pytest.mark.parametrize("volume_prompt", VOLUME_PROMPTS)
def test_a_preview_is_of_one_slice_of_a_volume(volume_prompt):
    segmenter = Segmenter(settings=Settings(volume_prompt=volume_prompt))
    session = segmenter.open(VOLUME)
    session.encode(3)
    preview = session.preview(BOXES, slice_index=3)
    assert len(segmenter.network.encoded) == 1
    np.testing.assert_array_equal(preview, whole(VOLUME[3]).masks(BOXES))


def test_where_all_is_seen_whole_a_preview_is_what_the_others_see():
    session = whole(IMAGE)
    assert not session.has_preview
    np.testing.assert_array_equal(session.preview(BOXES), session.masks(BOXES))
    assert Segmenter().open(IMAGE).has_preview


def test_a_model_of_one_grid_has_no_preview(fake_model, monkeypatch):
    monkeypatch.setattr(fake_model, "known_grids", ((256, 256),))
    assert not Segmenter().open(IMAGE).has_preview


@pytest.mark.parametrize(
    ("boxes", "count"),
    [
        pytest.param(np.zeros((0, 4)), 0, id="none"),
        pytest.param([[900, 900, 950, 950]], 1, id="outside"),
    ],
)
def test_where_there_is_nothing_a_preview_is_empty(boxes, count):
    for preview in (
        Segmenter().open(IMAGE).preview(boxes),
        Segmenter().open(VOLUME).preview(boxes, 0),
    ):
        assert preview.shape == (count, 600, 800)
        assert not preview.any()


@pytest.mark.parametrize(
    ("pixels", "boxes", "slice_index", "message"),
    [
        pytest.param(IMAGE, BOXES, 0, "Slices are of a volume", id="slice-of-an-image"),
        pytest.param(VOLUME, BOXES, None, "a slice must be named, from 0 to 4", id="no-slice"),
        pytest.param(VOLUME, BOXES, 5, "must be from 0 to 4, got 5", id="no-such-slice"),
        pytest.param(VOLUME, BOXES, 2.5, "whole number, got 2.5", id="part-of-a-slice"),
        pytest.param(VOLUME, [[1, 1, 1, 9, 9, 3]], 2, r"\(N, 4\)", id="boxes-of-a-volume"),
        pytest.param(IMAGE, [[1, 1, 1, 9, 9, 3]], None, r"\(N, 4\)", id="six-numbers"),
        pytest.param(IMAGE, [[0.1, 0.1, 0.9, 0.9]], None, "normalised", id="normalised"),
    ],
)
def test_what_cannot_be_previewed_is_named(pixels, boxes, slice_index, message):
    with pytest.raises(InvalidCaseError, match=message):
        Segmenter().open(pixels).preview(boxes, slice_index)
