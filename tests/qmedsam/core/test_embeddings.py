from __future__ import annotations

import tempfile

import numpy as np
import pytest

from qmedsam.core import encoding
from qmedsam.core.embeddings import EmbeddingStore, EncodedImage
from qmedsam.core.propagation import propagation_visits
from tests.qmedsam.core.conftest import WanderingNetwork, random_boxes, random_volume, segment


def encoded(value: float) -> EncodedImage:
    return {
        "pixels": np.full((1, 40, 8), value, dtype=np.float32),
        "keys": np.full((1, 40, 4), -value, dtype=np.float32),
    }


def assert_same(found: EncodedImage | None, expected: EncodedImage) -> None:
    assert found is not None
    assert list(found) == list(expected)
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values)


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
    assert len(store._free_slots) == 2
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
    expected = segment(WanderingNetwork(), volume, flat, visits)
    monkeypatch.setattr(encoding, "EmbeddingStore", lambda: EmbeddingStore(most_in_memory=0))
    np.testing.assert_array_equal(segment(WanderingNetwork(), volume, flat, visits), expected)
