from __future__ import annotations

import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from qmedsam.core import encoding
from qmedsam.core.contract import Grid
from qmedsam.core.embeddings import EmbeddingMemory, EmbeddingStore, EncodedImage
from qmedsam.core.propagation import propagation_visits
from qmedsam.core.regions import Region, SliceRegion
from tests.conftest import segment_slices
from tests.qmedsam.core.conftest import WanderingNetwork, random_boxes, random_volume


def encoded(value: float, grid_hw: Grid = (64, 128)) -> EncodedImage:
    pixels = grid_hw[0] * grid_hw[1] // 1024
    values = {
        "pixels": np.full((1, pixels, 8), value, dtype=np.float32),
        "keys": np.full((1, pixels, 4), -value, dtype=np.float32),
    }
    return EncodedImage(grid_hw, values)


def assert_same(found: EncodedImage | None, expected: EncodedImage) -> None:
    assert found is not None
    assert found.grid_hw == expected.grid_hw
    assert list(found.values) == list(expected.values)
    for name, values in expected.values.items():
        np.testing.assert_array_equal(found.values[name], values)


WHOLE = Region(0, 0, (99, 99), (256, 256))


def part(z: int, top: int = 0) -> SliceRegion:
    return SliceRegion(z, Region(top, 0, (9, 9), (64, 64)))


def remembered(memory: EmbeddingMemory, *parts: SliceRegion) -> list[bool]:
    return [memory.get(one) is not None for one in parts]


def test_as_many_whole_grids_are_remembered_as_asked_for():
    memory = EmbeddingMemory(2, WHOLE)
    for z in range(3):
        memory.put(part(z), encoded(z, (256, 256)))
    assert remembered(memory, part(0), part(1), part(2)) == [False, True, True]


def test_of_smaller_grids_as_many_more_are_remembered():
    """A whole grid has the pixels of 16 of 64 x 64."""
    memory, parts = EmbeddingMemory(1, WHOLE), [part(0, top) for top in range(17)]
    for one in parts[:16]:
        memory.put(one, encoded(1, (64, 64)))
    assert all(remembered(memory, *parts[:16]))
    memory.put(parts[16], encoded(1, (64, 64)))
    assert remembered(memory, *parts) == [False] + [True] * 16
    memory.put(part(7), encoded(1, (256, 256)))
    assert not any(remembered(memory, *parts))
    assert memory.slices() == {7}


def test_what_was_used_last_is_kept_and_what_is_put_again_counts_once():
    memory = EmbeddingMemory(2, Region(0, 0, (99, 99), (64, 64)))
    for z in (0, 1):
        memory.put(part(z), encoded(z, (64, 64)))
    memory.put(part(1), encoded(5, (64, 64)))
    assert memory.get(part(0)) is not None
    memory.put(part(2), encoded(2, (64, 64)))
    assert remembered(memory, part(0), part(1), part(2)) == [True, False, True]
    memory.clear()
    assert memory.slices() == set()
    for z in (3, 4):
        memory.put(part(z), encoded(z, (64, 64)))
    assert memory.slices() == {3, 4}


def test_the_whole_slice_that_was_used_last_outlasts_regions():
    memory = EmbeddingMemory(2, WHOLE)
    wholes = [SliceRegion(z, WHOLE) for z in (0, 1)]
    for whole in wholes:
        memory.put(whole, encoded(1, (256, 256)))
    for top in range(20):
        memory.put(part(5, top), encoded(1, (64, 64)))
    assert remembered(memory, *wholes) == [False, True]
    assert sum(remembered(memory, *(part(5, top) for top in range(20)))) == 16
    memory.put(part(6), encoded(1, (256, 256)))
    memory.put(SliceRegion(7, WHOLE), encoded(1, (256, 256)))
    assert remembered(memory, wholes[1], part(6)) == [False, True]


def test_several_threads_remember_at_once():
    memory, whole = EmbeddingMemory(1, WHOLE), SliceRegion(0, WHOLE)

    def work(seed):
        for top in np.random.default_rng(seed).integers(0, 30, 3000):
            one = part(0, int(top))
            memory.get(one)
            memory.put(one, small)

    small = encoded(1, (64, 64))
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(work, range(4)))
    finally:
        sys.setswitchinterval(interval)
    assert sum(remembered(memory, *(part(0, top) for top in range(30)))) == 16
    memory.put(whole, encoded(1, (256, 256)))
    assert remembered(memory, whole) == [True]
    assert memory.slices() == {0}


def test_nothing_may_be_remembered():
    memory = EmbeddingMemory(0, WHOLE)
    memory.put(part(0), encoded(0, (64, 64)))
    assert memory.slices() == set()


@pytest.mark.parametrize("most_in_memory", [0, 1, 100])
def test_what_was_put_is_taken_once_in_any_order(most_in_memory):
    store = EmbeddingStore(most_in_memory)
    for z in (3, 1, 2):
        store.put(z, encoded(z))
    for z in (2, 3):
        assert_same(store.take(z), encoded(z))
        assert store.take(z) is None
    store.put(7, encoded(7))
    assert_same(store.take(1), encoded(1))
    assert_same(store.take(7), encoded(7))
    store.close()


def test_the_file_takes_what_memory_should_not():
    store = EmbeddingStore(most_in_memory=2)
    for z in range(6):
        store.put(z, encoded(z))
    assert len(store._in_memory) == 2
    store.close()


def test_slots_of_the_file_are_used_again():
    store = EmbeddingStore(most_in_memory=0)
    for z in range(50):
        store.put(z, encoded(z))
        store.put(1000 + z, encoded(1000 + z))
        store.take(z)
        assert_same(store.take(1000 + z), encoded(1000 + z))
    assert store._end == 2 * encoded(0).size_bytes
    store.close()


def test_images_of_several_grids_wait_in_one_file():
    """Grids of as many pixels take each other's places, those of others do not."""
    grids = [(64, 256), (128, 128), (256, 256), (64, 64)]
    store = EmbeddingStore(most_in_memory=0)
    for value in (1, 2):
        for z, grid_hw in enumerate(grids):
            store.put(z, encoded(value + z, grid_hw))
        for z, grid_hw in reversed(list(enumerate(grids))):
            assert_same(store.take(z), encoded(value + z, grid_hw))
    store.put(0, encoded(9, (128, 128)))
    store.put(1, encoded(8, (64, 256)))
    assert_same(store.take(0), encoded(9, (128, 128)))
    assert_same(store.take(1), encoded(8, (64, 256)))
    assert store._end == sum(encoded(0, grid_hw).size_bytes for grid_hw in grids)
    store.close()


def test_without_a_file_memory_has_to_do(monkeypatch):
    def refuse():
        raise OSError("Read-only file system")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    store = EmbeddingStore(most_in_memory=0)
    store.put(5, encoded(5))
    assert_same(store.take(5), encoded(5))
    store.close()


def test_propagation_is_the_same_through_the_file(monkeypatch):
    volume, boxes = random_volume(14), random_boxes(6, 14)
    visits = propagation_visits(boxes, range(len(boxes)))
    flat = boxes[:, [0, 1, 3, 4]]
    expected = segment_slices(WanderingNetwork(), volume, flat, visits)
    monkeypatch.setattr(encoding, "EmbeddingStore", lambda: EmbeddingStore(most_in_memory=0))
    np.testing.assert_array_equal(
        segment_slices(WanderingNetwork(), volume, flat, visits), expected
    )
