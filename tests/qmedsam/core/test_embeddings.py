from __future__ import annotations

import tempfile

import numpy as np
import pytest

from qmedsam.core import encoding
from qmedsam.core.contract import Grid
from qmedsam.core.embeddings import EmbeddingStore, EncodedImage
from qmedsam.core.propagation import propagation_visits
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
