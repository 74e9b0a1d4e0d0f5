"""Runs of fresh processes: scaled, summed up, kept."""

from __future__ import annotations

import pytest

from benchmarks.harness.measured import Run, RunError, measure
from benchmarks.harness.process import Finished


def finished(wall_s: float, status: int = 0, output: str = "") -> Finished:
    return Finished(status, wall_s, 10_000_000, output)


def test_a_sampled_run_is_scaled_by_the_time_of_a_visit():
    assert Run(finished(20.0), visits=100, walked=10, visit_s=2.0).seconds == 20 + 90 * 2
    assert Run(finished(20.0)).seconds == 20


def test_a_measured_case_is_not_measured_again_unless_its_parameters_change(tmp_path):
    seconds = iter([3.0, 1.0, 2.0, 7.0])

    def again(**parameters):
        return measure(
            tmp_path / "m.json",
            lambda: Run(finished(next(seconds))),
            runs=3 if parameters["model"] == "a" else 1,
            budget_s=60,
            parameters=parameters,
        )

    first = again(model="a")
    assert (first.s, first.min_s, first.max_s, first.runs, first.peak_mb) == (2, 1, 3, 3, 10)
    assert again(model="a") == first
    assert again(model="b").s == 7


def measure_once(tmp_path, one: Run):
    return measure(tmp_path / "m.json", lambda: one, runs=3, budget_s=0, parameters={})


def test_a_long_case_is_measured_once(tmp_path):
    result = measure_once(tmp_path, Run(finished(99.0)))
    assert (result.s, result.runs, result.is_out_of_memory) == (99, 1, False)


@pytest.mark.parametrize(
    ("status", "output"),
    [(-9, ""), (137, ""), (1, "RuntimeError: std::bad_alloc"), (1, "MemoryError")],
)
def test_a_run_that_gets_no_more_memory_is_no_failure(tmp_path, status, output):
    assert measure_once(tmp_path, Run(finished(9.0, status, output))).is_out_of_memory


def test_a_run_that_fails_otherwise_is_told_and_not_kept(tmp_path):
    with pytest.raises(RunError, match="status 2: Checkpoint is missing"):
        measure_once(tmp_path, Run(finished(1.0, 2, "Checkpoint is missing")))
    assert not (tmp_path / "m.json").exists()
