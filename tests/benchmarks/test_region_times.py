"""Whole images and regions, timed in turn."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import region_times
from benchmarks.harness.measured import RunError
from benchmarks.harness.process import Finished
from benchmarks.harness.table8 import SPECS
from qmedsam.batch.cases import read_case


def test_the_lesion_is_small_and_on_all_slices(tmp_path):
    path = tmp_path / "case.npz"
    region_times.build(region_times.LESION, tmp_path, path)
    case = read_case(path)
    assert case.pixels.shape == (72, 512, 512)
    np.testing.assert_array_equal(case.boxes, [[200, 240, 0, 239, 279, 71]])


@pytest.fixture
def seconds(monkeypatch):
    """Seconds that the next runs take, by setting; runs say how they were made."""
    times = {"whole": [9.0, 4.0, 2.0, 6.0], "auto": [9.0, 1.0, 3.0, 1.0]}
    made = []

    def fake_run(inputs, outputs, *, options, cache):
        made.append((inputs.name, options[-1]))
        return Finished(0, times[options[-1]].pop(0), 10**6 * len(made), "")

    monkeypatch.setattr(region_times, "run_predict_script", fake_run)
    return made


def test_settings_are_timed_in_turn_after_a_run_that_is_not_counted(seconds, tmp_path):
    spec = next(spec for spec in SPECS if not spec.is_volume)
    row = region_times.time_case(spec, tmp_path, "int8", runs=3, budget_s=60)
    order = ["whole", "auto", "whole", "auto", "auto", "whole", "whole", "auto"]
    assert seconds == [(spec.name, setting) for setting in order]
    assert row["s"] == {"whole": 4.0, "auto": 1.0}
    assert row["peak_mb"] == {"whole": 7.0, "auto": 8.0}
    assert row["runs"] == 3


def test_a_long_case_runs_three_times(seconds, tmp_path):
    row = region_times.time_case(region_times.LESION, tmp_path, "int8", runs=9, budget_s=0)
    assert len(seconds) == 6
    assert row["s"] == {"whole": 4.0, "auto": 3.0}


def test_a_run_that_fails_is_no_time(monkeypatch, tmp_path):
    failed = Finished(2, 1.0, 1, "no model")
    monkeypatch.setattr(region_times, "run_predict_script", lambda *_, **__: failed)
    with pytest.raises(RunError, match="no model"):
        region_times.time_case(region_times.LESION, tmp_path, "int8", runs=1, budget_s=0)
