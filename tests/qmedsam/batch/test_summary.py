"""What a run comes to: its exit status, its messages, and its report."""

from __future__ import annotations

import json
import signal

import pytest

from qmedsam.batch.report import CaseRecord
from qmedsam.batch.summary import RunSummary
from qmedsam.errors import ModelError
from qmedsam.exit_status import DONE, SOME_FAILED
from qmedsam.system.signals import Stopped

GOOD, FAILED = CaseRecord("good.npz"), CaseRecord("failed.npz", error="invalid")


@pytest.mark.parametrize(
    ("records", "ended", "status", "messages"),
    [
        ([GOOD], {}, DONE, []),
        ([], {}, DONE, []),
        ([GOOD, FAILED], {}, SOME_FAILED, ["1 of 2 cases failed"]),
        (
            [FAILED],
            {"stop": Stopped(signal.SIGTERM)},
            143,
            ["1 of 1 cases failed", "Stopped by SIGTERM after 1 of 9 cases"],
        ),
        (
            [GOOD],
            {"problem": ModelError("broken")},
            SOME_FAILED,
            ["The run ends before its cases do: broken"],
        ),
    ],
    ids=["done", "nothing-to-do", "failed", "stopped", "ended-early"],
)
def test_how_a_run_ended_is_said(tmp_path, caplog, records, ended, status, messages):
    summary = RunSummary(9, None, started=0.0)
    summary.begin()
    for record in records:
        summary.add(record)
    assert summary.finish(tmp_path / "report.json", dict, **ended, more=7) == status
    assert [entry.getMessage() for entry in caplog.records] == messages
    document = json.loads((tmp_path / "report.json").read_text())
    assert document["cases_failed"] == records.count(FAILED)
    assert document["stopped_by"] == ("SIGTERM" if "stop" in ended else None)
    assert document["more"] == 7


def test_a_run_that_did_not_begin_has_no_report(tmp_path):
    summary = RunSummary(9, None, started=0.0)
    assert summary.finish(tmp_path / "report.json", dict, stop=Stopped(signal.SIGINT)) == 130
    assert not list(tmp_path.iterdir())


def test_what_is_ready_first_is_the_start(tmp_path):
    summary = RunSummary(1, None, started=0.0)
    summary.begin()
    summary.finish(tmp_path / "first.json", dict)
    summary.begin()
    summary.finish(tmp_path / "second.json", dict)
    first, second = (json.loads(path.read_text()) for path in sorted(tmp_path.iterdir()))
    assert first["start_s"] == second["start_s"]
