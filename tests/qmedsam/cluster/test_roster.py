"""The workers of a run, which must be alike."""

from __future__ import annotations

import json

import pytest

from qmedsam.batch.report import CaseRecord
from qmedsam.batch.summary import RunSummary
from qmedsam.cluster.roster import Roster
from qmedsam.cluster.scheduler import ClusterError
from qmedsam.cluster.worker import Description
from qmedsam.exit_status import SOME_FAILED
from qmedsam.version import __version__

MODEL = {"sha256": {"a": "1"}, "precision": "f32", "variant": "int8", "threads": 1}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": "0.0.1"}, f"must have qmedsam {__version__}, got 0.0.1"),
        ({"model": {"sha256": {"a": "2"}}}, "All machines must run one model in one precision"),
        ({"model": {"precision": "bf16"}}, "b has int8 in bf16, a int8 in f32"),
    ],
)
def test_machines_that_differ_are_refused(changes, message):
    roster = Roster(RunSummary(2, None, started=0.0))
    roster.add_worker(Description("a", 1, __version__, MODEL))
    changed = {**MODEL, **changes.get("model", {})}
    with pytest.raises(ClusterError, match=message):
        roster.add_worker(Description("b", 1, changes.get("version", __version__), changed))


def test_the_report_has_the_workers_and_their_cases(tmp_path, caplog):
    roster = Roster(RunSummary(3, None, started=0.0))
    one, two = (Description("host", number, __version__, MODEL) for number in (1, 2))
    for worker in (one, two):
        roster.add_worker(worker)
    roster.add_case(CaseRecord("b.npz", error="invalid"), two)
    roster.add_case(CaseRecord("a.npz"), two)
    problem = ClusterError("no worker is left")
    report = tmp_path / "report.json"
    assert roster.finish(report, 2, stop=None, problem=problem) == SOME_FAILED
    document = json.loads(report.read_text())
    assert [worker["cases"] for worker in document["workers"]] == [0, 2]
    assert document["lost_workers"] == 2
    assert [case["name"] for case in document["cases"]] == ["a.npz", "b.npz"]
    assert "b.npz: invalid" in caplog.text
    assert "The run ends before its cases do: no worker is left" in caplog.text
