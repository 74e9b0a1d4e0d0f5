"""Table 8: how the service and the baseline are run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import cases
from benchmarks.harness.process import Finished


def test_the_baseline_reports_what_it_walked(monkeypatch, tmp_path):
    def fake_run(command, limit_bytes):
        assert limit_bytes == 8 << 30
        report = Path(command[command.index("--report") + 1])
        entry = {"name": "a.npz", "visits": 40, "walked": 4, "visit_s": 0.5}
        report.write_text(json.dumps([entry]))
        return Finished(0, 5.0, 1, "")

    monkeypatch.setattr(cases, "run_fresh", fake_run)
    assert cases.run_baseline(tmp_path, 4).seconds == 5 + 36 * 0.5


@pytest.mark.slow
@pytest.mark.model
def test_the_baseline_runs_as_a_command(tmp_path):
    spec = next(spec for spec in cases.SPECS if spec.name == "3DBox_PET_0001")
    (tmp_path / "in").mkdir()
    cases.build_case(spec, tmp_path, tmp_path / "in" / "case.npz")
    run = cases.run_baseline(tmp_path, 3)
    assert (run.visits, run.walked) == (40, 3)
    assert 0.1 < run.visit_s < run.finished.wall_s
