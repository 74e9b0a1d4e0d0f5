"""A session that looks where the boxes are: what it remembers changes nothing but the time."""

from __future__ import annotations

import numpy as np
import pytest

from qmedsam import Segmenter, Settings
from qmedsam import segmenter as segmenter_module
from qmedsam.core.contract import grids_up_to
from tests.qmedsam.conftest import FakeCompiledNetwork

IMAGE = np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8)
FAR_APART = [[20, 20, 39, 39], [250, 150, 279, 179], [20, 160, 29, 189]]


@pytest.fixture
def by_regions(monkeypatch) -> Segmenter:
    """A segmenter that looks where the boxes are."""

    class OnGrids(FakeCompiledNetwork):
        def __init__(self, model_dir, settings, *, grids=None) -> None:
            super().__init__(model_dir, settings, grids=grids)
            self.grids = grids_up_to(256)

    monkeypatch.setattr(segmenter_module, "CompiledNetwork", OnGrids)
    return Segmenter()


@pytest.mark.parametrize("remembered", [0, 1, 32])
def test_a_box_is_the_same_in_any_order_of_calls_and_whatever_is_remembered(by_regions, remembered):
    fresh = [by_regions.segment(IMAGE, [box]) for box in FAR_APART]
    session = by_regions.open(IMAGE, remembered=remembered)
    for order in ([0, 1, 2], [2, 0, 1], [1, 1, 2, 0]):
        for index in order:
            np.testing.assert_array_equal(session.segment([FAR_APART[index]]), fresh[index])
        session.encode()  # which is of the whole image


def test_a_followed_object_is_the_same_whatever_is_remembered(by_regions):
    volume = np.random.default_rng(2).integers(0, 256, (9, 300, 400), dtype=np.uint8)
    first = by_regions.open(volume, remembered=0).propagate(FAR_APART[:2], 4, (0, 8))
    session = by_regions.open(volume)
    session.segment([[20, 20, 0, 39, 39, 8]])
    for _ in range(2):
        np.testing.assert_array_equal(session.propagate(FAR_APART[:2], 4, (0, 8)), first)


def test_regions_of_an_image_are_remembered(by_regions):
    session = by_regions.open(IMAGE)
    encoded = by_regions.network.encoded
    for count, index in enumerate([0, 1, 2], start=1):
        session.segment([FAR_APART[index]])
        assert len(encoded) == count
    for box in FAR_APART:
        session.segment([box])
    assert len(encoded) == 3


def test_logits_are_of_the_region_alone(by_regions):
    session = by_regions.open(IMAGE)
    (logits,) = session.logits(FAR_APART[:1])
    np.testing.assert_array_equal(logits > 0, session.masks(FAR_APART[:1])[0])
    looked_at = np.isfinite(logits)
    assert looked_at[:50, :50].all()
    assert not looked_at.all()


def test_seen_whole_a_box_has_the_logits_of_the_whole_image(by_regions):
    whole = Segmenter(settings=Settings(regions="whole"))
    assert np.isfinite(whole.open(IMAGE).logits(FAR_APART)).all()
    assert whole.network.prepared == [(256, 256)]
