"""Fakes of the package's tests: a model that draws boxes, and cases on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qmedsam import segmenter
from qmedsam.model.manifest import Manifest
from tests.conftest import FakeNetwork


class FakeCompiledNetwork(FakeNetwork):
    """Takes the place of the model that ships, as the segmenter makes it."""

    precision = "f32"
    threads = 1
    manifest = Manifest("fake", "f32", 256, {})

    def __init__(self, model_dir, settings) -> None:
        super().__init__()

    def wait(self) -> None:
        pass


@pytest.fixture
def fake_model(monkeypatch) -> type[FakeCompiledNetwork]:
    """Let every segmenter run the fake, without a cache."""
    monkeypatch.setattr(segmenter, "CompiledNetwork", FakeCompiledNetwork)
    monkeypatch.setenv("QMEDSAM_CACHE_DIR", "")
    return FakeCompiledNetwork


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
