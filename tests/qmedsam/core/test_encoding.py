"""Regions of slices encoded in the order of visits, the next while one is used."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from qmedsam.core import encoding
from qmedsam.core.embeddings import EncodedImage
from qmedsam.core.encoding import (
    Stop,
    encoded_stops,
    first_equal_slices,
    stops_of,
    visits_by_grid,
)
from qmedsam.core.propagation import Visit, fixed_visits
from qmedsam.core.regions import Region, SliceRegion
from tests.conftest import HANGS_AFTER_S, decode_slices
from tests.qmedsam.core.conftest import random_volume

HERE, THERE = Region(0, 0, (9, 9), (64, 64)), Region(40, 50, (9, 9), (64, 64))


def encode(part: SliceRegion) -> EncodedImage:
    """Make an encoded image that tells what it is of."""
    place = np.array([[part.z, part.region.top]], dtype=np.float32)
    return EncodedImage(part.region.grid_hw, {"place": place})


class Counting:
    """Encodes, and writes down what."""

    def __init__(self) -> None:
        self.parts: list[SliceRegion] = []

    def __call__(self, part: SliceRegion) -> EncodedImage:
        self.parts.append(part)
        return encode(part)


def test_a_visit_stops_at_each_region_of_its_objects():
    regions = {0: HERE, 1: THERE, 2: HERE}
    visits = [Visit(3, (0, 1, 2), step=1), Visit(4, (1,), step=1)]
    assert list(stops_of(visits, lambda index, step: regions[index])) == [
        Stop(Visit(3, (0, 2), step=1), HERE),
        Stop(Visit(3, (1,), step=1), THERE),
        Stop(Visit(4, (1,), step=1), THERE),
    ]


def test_visits_go_grid_by_grid_and_keep_their_order_on_each():
    visits = [Visit(3, (0, 1, 2), step=1), Visit(4, (1,), step=1), Visit(2, (0, 1), step=-1)]
    grids = {0: (64, 64), 1: (128, 128), 2: (64, 64)}
    assert visits_by_grid(visits, grids.__getitem__) == [
        Visit(3, (0, 2), step=1),
        Visit(2, (0,), step=-1),
        Visit(3, (1,), step=1),
        Visit(4, (1,), step=1),
        Visit(2, (1,), step=-1),
    ]


def test_a_region_is_asked_for_when_the_turn_of_its_visit_comes():
    regions = {0: HERE}
    stops = stops_of([Visit(0, (0,)), Visit(1, (0,))], lambda index, step: regions[index])
    found = iter(stops)
    assert next(found).region == HERE
    regions[0] = THERE
    assert next(found).region == THERE


@pytest.mark.parametrize("most_in_memory", [0, 6], ids=["file", "memory"])
def test_what_is_needed_again_is_encoded_once(monkeypatch, most_in_memory):
    store = encoding.EmbeddingStore
    monkeypatch.setattr(encoding, "EmbeddingStore", lambda: store(most_in_memory))
    there_and_back = [0, 1, 2, 3, 2, 1, 0]
    stops = [Stop(Visit(z, (0,)), region) for z in there_and_back for region in (HERE, THERE)]
    counting = Counting()
    found = list(encoded_stops(iter(stops), stops, {z: z for z in range(4)}, counting))
    assert [stop for stop, _ in found] == stops
    for stop, encoded in found:
        place = [[stop.visit.z, stop.region.top]]
        np.testing.assert_array_equal(encoded.values["place"], place)
    assert len(counting.parts) == len(set(counting.parts)) == 8


def test_a_stop_that_was_not_expected_is_encoded_too():
    expected = [Stop(Visit(0, (0,)), HERE), Stop(Visit(1, (0,)), HERE)]
    stops = [expected[0], Stop(Visit(1, (0,)), THERE), Stop(Visit(1, (0,)), THERE)]
    counting = Counting()
    found = list(encoded_stops(iter(stops), expected, {0: 0, 1: 1}, counting))
    assert [encoded.values["place"][0].tolist() for _, encoded in found] == [
        [0, 0],
        [1, 40],
        [1, 40],
    ]
    assert counting.parts == [SliceRegion(0, HERE), SliceRegion(1, THERE)]


def test_of_equal_slices_the_first_is_encoded():
    stops = [Stop(Visit(z, (0,)), HERE) for z in (0, 1, 2)]
    counting = Counting()
    list(encoded_stops(iter(stops), stops, {0: 0, 1: 1, 2: 0}, counting))
    assert counting.parts == [SliceRegion(0, HERE), SliceRegion(1, HERE)]


def test_slices_are_compared_with_the_first_that_is_equal():
    volume = random_volume(6)
    volume[4], volume[5] = volume[1], volume[0]
    firsts = first_equal_slices(volume, range(6))
    assert firsts == {0: 0, 1: 1, 2: 2, 3: 3, 4: 1, 5: 0}
    assert first_equal_slices(volume, [5, 4, 5]) == {5: 5, 4: 4}
    assert first_equal_slices(volume, [3]) == {3: 3}


def test_slices_of_one_checksum_are_not_taken_for_equal(monkeypatch):
    monkeypatch.setattr(encoding.deflate, "crc32", lambda values: 7)
    volume = random_volume(3)
    volume[2] = volume[0]
    assert first_equal_slices(volume, [0, 1, 2]) == {0: 0, 1: 1, 2: 0}


def test_the_next_slice_is_encoded_while_a_mask_is_drawn(fake_network, monkeypatch):
    boxes = np.array([[1, 1, 0, 20, 20, 4]], dtype=np.float32)
    is_encoded, encode = threading.Semaphore(0), fake_network.encode

    def encode_and_tell(image):
        encoded = encode(image)
        is_encoded.release()
        return encoded

    monkeypatch.setattr(fake_network, "encode", encode_and_tell)
    decoded = decode_slices(
        fake_network, random_volume(5), boxes[:, [0, 1, 3, 4]], fixed_visits(boxes, [0])
    )
    awaited = 0
    for count, one in enumerate(decoded, start=1):
        assert one.z == count - 1
        for _ in range(min(5, count + 1) - awaited):  # the slice after this one, too
            assert is_encoded.acquire(timeout=HANGS_AFTER_S)
            awaited += 1
    assert awaited == 5
