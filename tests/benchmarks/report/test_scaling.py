"""The tables of the page on scaling out, and the cost model that they rest on."""

from __future__ import annotations

import pytest

from benchmarks.harness.record import RESULTS_DIR
from benchmarks.report.results import read_records
from benchmarks.report.scaling import DEFAULT_PAGE, _bottleneck, render
from qmedsam.batch.cost import BOX_S, SLICE_S, VOXEL_S
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def records():
    return read_records(ROOT / RESULTS_DIR)


def test_the_page_has_the_tables_of_the_records(records):
    page = (ROOT / DEFAULT_PAGE).read_text()
    assert render(page, records) == page


def test_a_page_without_a_place_for_a_table_is_refused(records):
    with pytest.raises(ValueError, match="no place for the table speed"):
        render("no tables here", records)


def test_the_cost_model_is_near_what_was_measured(records):
    record = records["cluster"]
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
