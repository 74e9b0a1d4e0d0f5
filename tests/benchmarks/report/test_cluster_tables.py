from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="training/requirements.txt is not installed")

from benchmarks.report.cluster_tables import PAGE, _bottleneck, read_records, render
from qmedsam.batch.cost import BOX_S, SLICE_S, VOXEL_S
from tests.conftest import ROOT


def test_the_page_has_the_tables_of_the_records(monkeypatch):
    monkeypatch.chdir(ROOT)
    page = PAGE.read_text()
    assert render(page, read_records()) == page


def test_a_page_without_a_place_for_a_table_is_refused(monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(ValueError, match="no place for the table speed"):
        render("no tables here", read_records())


def test_the_cost_model_is_near_what_was_measured(monkeypatch):
    monkeypatch.chdir(ROOT)
    record = read_records()["cluster"]
    assert pytest.approx(record["costs"]["slice_s"], rel=0.1) == SLICE_S
    assert pytest.approx(record["costs"]["box_s"], rel=0.1) == BOX_S
    assert pytest.approx(record["costs"]["voxel_s"], rel=0.5) == VOXEL_S
    assert record["runs"][0]["work_s"] == pytest.approx(record["expected_s"], rel=0.1)
    assert all(run["is_same"] for run in record["runs"])


@pytest.mark.parametrize(
    ("read", "cases_s", "expected"),
    [(1e6, 1, "processors"), (2e9, 1, "storage of 1 GB/s"), (1e6, 2000, "the scheduler")],
)
def test_the_first_limit_is_named(read, cases_s, expected):
    assert _bottleneck(read, cases_s, dispatch_s=1e-3) == expected
