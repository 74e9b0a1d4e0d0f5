"""What a process with one image takes."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import start
from benchmarks.harness.measured import RunError
from benchmarks.harness.process import Finished
from benchmarks.start import measure_starts


def test_cold_and_cached_starts_are_told_apart(monkeypatch):
    seen = []

    def fake_run(inputs, outputs, *, options, cache):
        with np.load(inputs / "case.npz") as case:
            assert case["imgs"].shape == (256, 256, 3)
        seen.append(cache is not None)
        return Finished(0, 100.0 if len(seen) <= 2 else 1.0 + (cache is None), 1, "")

    monkeypatch.setattr(start, "SERVICES", {"int8": ("--precision", "auto")})
    monkeypatch.setattr(start, "run_predict_script", fake_run)
    assert measure_starts(2) == [{"service": "int8", "cold_s": 2.0, "cached_s": 1.0}]
    assert seen == [False, True] * 3


def test_a_process_that_fails_ends_the_benchmark(monkeypatch):
    failed = Finished(1, 1.0, 1, "something is wrong")
    monkeypatch.setattr(start, "run_predict_script", lambda *_, **__: failed)
    with pytest.raises(RunError, match="something is wrong"):
        measure_starts(1)
