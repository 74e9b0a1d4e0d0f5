"""Cases with more and more boxes and slices."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import curves
from benchmarks.curves import measure_case, tile_boxes
from benchmarks.harness.measured import RunError
from benchmarks.harness.process import Finished


@pytest.mark.parametrize("count", [1, 2, 17, 1000])
def test_boxes_tile_an_image_without_overlap(count):
    boxes = tile_boxes(2604, 1726, count)
    assert boxes.shape == (count, 4)
    assert boxes.min() >= 0
    assert (boxes.max(0) <= [1726, 2604, 1726, 2604]).all()
    middles = (boxes[:, :2] + boxes[:, 2:]) / 2
    inside = (boxes[:, None, :2] < middles).all(2) & (middles < boxes[:, None, 2:]).all(2)
    np.testing.assert_array_equal(inside, np.eye(count, dtype=bool))


def test_a_point_is_the_median_time_and_the_largest_memory(monkeypatch):
    runs = iter([Finished(0, 3.0, 7_000_000, ""), Finished(0, 1.0, 9_000_000, "")])

    def fake_run(inputs, outputs, *, options):
        assert options == ["--quiet", "--variant", "int8", "--precision", "bf16"]
        with np.load(inputs / "case.npz") as case:
            assert case["imgs"].shape == (2, 3)
        return next(runs)

    monkeypatch.setattr(curves, "run_predict_script", fake_run)
    found = measure_case({"imgs": np.zeros((2, 3)), "boxes": np.zeros((0, 4))}, "bf16", 2)
    assert found == {"s": 2.0, "peak_mb": 9.0}


def test_a_process_that_fails_ends_the_benchmark(monkeypatch):
    failed = Finished(1, 1.0, 1, "something is wrong")
    monkeypatch.setattr(curves, "run_predict_script", lambda *_, **__: failed)
    with pytest.raises(RunError, match="status 1: something is wrong"):
        measure_case({"imgs": np.zeros((2, 3))}, "f32", 1)
