"""The peak of a large image with many boxes."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.curves import tile_boxes
from benchmarks.harness.process import run_predict_script

pytestmark = [pytest.mark.model, pytest.mark.slow]

LIMIT_BYTES = 820_000_000  # 760 MB were measured, on three grids
HEIGHT, WIDTH = 2604, 1726  # of the largest image in the challenge's examples


def test_1000_boxes_on_a_large_image_stay_under_the_limit(tmp_path):
    generator = np.random.default_rng(0)
    coarse = generator.integers(0, 256, (HEIGHT // 8 + 1, WIDTH // 8 + 1, 3), dtype=np.uint8)
    image = coarse.repeat(8, axis=0).repeat(8, axis=1)[:HEIGHT, :WIDTH]
    boxes = tile_boxes(HEIGHT, WIDTH, 1000)
    (tmp_path / "in").mkdir()
    np.savez_compressed(tmp_path / "in" / "case.npz", imgs=image, boxes=boxes)
    options = ["--variant", "int8", "--precision", "f32"]
    run = run_predict_script(tmp_path / "in", tmp_path / "out", options=options)
    assert run.status == 0, run.output
    with np.load(tmp_path / "out" / "case.npz") as written:
        assert written["segs"].max() > 255
    assert run.peak_bytes < LIMIT_BYTES
