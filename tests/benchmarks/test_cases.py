"""Table 8: what is measured, scaled and kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import cases
from benchmarks.cases import Run, measure
from benchmarks.process import Finished


def finished(wall_s: float, status: int = 0) -> Finished:
    return Finished(status, wall_s, 10_000_000, "out of memory" if status else "")


def test_a_sampled_run_is_scaled_by_the_time_of_a_visit():
    assert Run(finished(20.0), visits=100, walked=10, visit_s=2.0).seconds == 20 + 90 * 2
    assert Run(finished(20.0)).seconds == 20


def test_the_baseline_reports_what_it_walked(monkeypatch, tmp_path):
    def fake_run(command, limit_bytes):
        assert limit_bytes == 8 << 30
        report = Path(command[command.index("--report") + 1])
        entry = {"name": "a.npz", "visits": 40, "walked": 4, "visit_s": 0.5}
        report.write_text(json.dumps([entry]))
        return finished(5.0)

    monkeypatch.setattr(cases, "run_fresh", fake_run)
    assert cases.run_baseline(tmp_path, 4).seconds == 5 + 36 * 0.5


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


def test_a_long_case_is_measured_once(tmp_path):
    run = lambda: Run(finished(99.0))  # noqa: E731
    result = measure(tmp_path / "m.json", run, runs=3, budget_s=0, parameters={})
    assert (result.s, result.runs) == (99, 1)


def test_a_run_that_fails_is_an_error_of_its_case(tmp_path):
    run = lambda: Run(finished(9.0, status=-9))  # noqa: E731
    result = measure(tmp_path / "m.json", run, runs=1, budget_s=0, parameters={})
    assert result.error == "status -9: out of memory"


@pytest.mark.slow
@pytest.mark.model
def test_the_baseline_runs_as_a_command(tmp_path):
    spec = next(spec for spec in cases.SPECS if spec.name == "3DBox_PET_0001")
    (tmp_path / "in").mkdir()
    cases.build_case(spec, tmp_path, tmp_path / "in" / "case.npz")
    run = cases.run_baseline(tmp_path, 3)
    assert (run.visits, run.walked) == (40, 3)
    assert 0.1 < run.visit_s < run.finished.wall_s
