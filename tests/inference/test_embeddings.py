from __future__ import annotations

import tempfile

import numpy as np
import pytest

from inference import pipeline
from inference.contract import EMBEDDING_SHAPE
from inference.embeddings import EmbeddingStore
from inference.volume import propagation_visits
from tests.inference.test_pipeline import WanderingNetwork, random_boxes, random_volume, segment


def embedding(value: float) -> np.ndarray:
    return np.full(EMBEDDING_SHAPE, value, dtype=np.float32)


@pytest.mark.parametrize("most_in_memory", [0, 1, 100])
def test_what_was_put_is_taken_once_in_any_order(most_in_memory):
    store = EmbeddingStore(most_in_memory)
    for z in (3, 1, 2):
        store.put(z, embedding(z))
    for z in (2, 3):
        np.testing.assert_array_equal(store.take(z), embedding(z))
        assert store.take(z) is None
    store.put(7, embedding(7))
    np.testing.assert_array_equal(store.take(1), embedding(1))
    np.testing.assert_array_equal(store.take(7), embedding(7))
    store.close()


def test_the_file_takes_what_memory_should_not():
    store = EmbeddingStore(most_in_memory=2)
    for z in range(6):
        store.put(z, embedding(z))
    assert len(store._in_memory) == 2
    store.close()


def test_slots_of_the_file_are_used_again():
    store = EmbeddingStore(most_in_memory=0)
    for z in range(50):
        store.put(z, embedding(z))
        store.put(1000 + z, embedding(1000 + z))
        store.take(z)
        np.testing.assert_array_equal(store.take(1000 + z), embedding(1000 + z))
    assert len(store._free_slots) == 2
    store.close()


def test_without_a_file_memory_has_to_do(monkeypatch):
    def refuse():
        raise OSError("Read-only file system")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    store = EmbeddingStore(most_in_memory=0)
    store.put(5, embedding(5))
    np.testing.assert_array_equal(store.take(5), embedding(5))
    store.close()


def test_propagation_is_the_same_through_the_file(monkeypatch):
    volume, boxes = random_volume(14), random_boxes(6, 14)
    visits = propagation_visits(boxes, range(len(boxes)))
    flat = boxes[:, [0, 1, 3, 4]]
    expected = segment(WanderingNetwork(), volume, flat, visits)
    monkeypatch.setattr(pipeline, "EmbeddingStore", lambda: EmbeddingStore(most_in_memory=0))
    np.testing.assert_array_equal(segment(WanderingNetwork(), volume, flat, visits), expected)
