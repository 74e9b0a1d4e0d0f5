"""Fakes of the package's tests: a model that draws boxes, and cases on disk."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from qmedsam import segmenter
from qmedsam.core import decoding, pipeline
from qmedsam.core.contract import Grid
from qmedsam.core.planning import REGION_GRIDS
from qmedsam.model.manifest import Manifest
from tests.conftest import HANGS_AFTER_S, FakeNetwork


class FakeCompiledNetwork(FakeNetwork):
    """Takes the place of the model that ships, as the segmenter makes it."""

    precision = "f32"
    threads = 1
    manifest = Manifest("fake", "f32", 256, {})
    known_grids: tuple[Grid, ...] = ((256, 256),)

    def __init__(self, model_dir, settings, *, grids=None) -> None:
        super().__init__(self.known_grids)

    def wait(self) -> None:
        pass


@pytest.fixture
def fake_model(monkeypatch) -> type[FakeCompiledNetwork]:
    """Let every segmenter run the fake, without a cache."""
    monkeypatch.setattr(segmenter, "CompiledNetwork", FakeCompiledNetwork)
    monkeypatch.setenv("QMEDSAM_CACHE_DIR", "")
    return FakeCompiledNetwork


@pytest.fixture
def all_grids(fake_model, monkeypatch) -> None:
    """Let the fake encode on all grids, so that regions are chosen."""
    monkeypatch.setattr(fake_model, "known_grids", REGION_GRIDS)


@pytest.fixture
def blind_to_small_boxes(monkeypatch) -> None:
    """Let the fake find nothing in boxes less than a tenth of the model frame wide."""
    draw = FakeNetwork.draw

    def draw_large_ones(self, boxes, grid_hw):
        logits = draw(self, boxes, grid_hw)
        logits[boxes[:, 2] - boxes[:, 0] < self.image_size / 10] = -1
        return logits

    monkeypatch.setattr(FakeNetwork, "draw", draw_large_ones)


@pytest.fixture
def folders(tmp_path) -> tuple[Path, Path]:
    """A folder for cases, and the name of one for label maps."""
    inputs = tmp_path / "inputs"
    inputs.mkdir()
    return inputs, tmp_path / "outputs"


def write_case(path: Path, shape, boxes) -> None:
    """Write a case of random pixels."""
    pixels = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    np.savez_compressed(path, imgs=pixels, boxes=np.asarray(boxes))


@pytest.fixture
def waited(monkeypatch) -> threading.Event:
    """Set when a thread has to wait for a lock of the pipeline; those inside wait for that."""
    event = threading.Event()

    class ObservedLock:
        def __init__(self) -> None:
            self._lock = threading.Lock()

        def __enter__(self) -> None:
            if not self._lock.acquire(blocking=False):
                event.set()
                self._lock.acquire()

        def __exit__(self, *_: object) -> None:
            self._lock.release()

    for module in (decoding, pipeline):
        monkeypatch.setattr(module, "threading", SimpleNamespace(Lock=ObservedLock))
    return event


@contextmanager
def alone(inside: threading.Lock, waited: threading.Event) -> Iterator[None]:
    """Hold a place where one thread may be at a time until another has tried to get there."""
    is_alone = inside.acquire(blocking=False)
    if not is_alone:
        waited.set()  # for the one that is inside
    assert is_alone, "two threads are inside"
    try:
        assert waited.wait(HANGS_AFTER_S), "no other thread came"
        yield
    finally:
        inside.release()
