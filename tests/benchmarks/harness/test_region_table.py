"""Averages of whole images against regions."""

from __future__ import annotations

import pytest

from benchmarks.harness.region_table import compared, region_table
from training.scoring.metrics import CaseScore
from training.scoring.scores import ScoredCase


def scored(modality: str, name: str, dsc: float, nsd: float) -> ScoredCase:
    return ScoredCase(modality, name, {"correct": CaseScore(dsc, nsd, ())})


SCORED = {
    "whole": [
        scored("CT", "a", 0.5, 0.4),
        scored("CT", "b", 0.7, 0.6),
        scored("US", "c", 0.9, 0.8),
    ],
    "auto": [scored("CT", "a", 0.6, 0.8), scored("CT", "b", 0.7, 0.6), scored("US", "c", 0.8, 0.7)],
}
GMACS = {
    "whole": {"CT/a": 40.0, "CT/b": 20.0, "US/c": 10.0},
    "auto": {"CT/a": 10.0, "CT/b": 10.0, "US/c": 6.0},
}


def test_the_table_has_scores_changes_and_gmacs_of_each_modality():
    lines = region_table(compared(SCORED, GMACS)["rows"]).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
    assert cells == [
        ["CT", "2", "60.0", "65.0", "+5.0", "50.0", "70.0", "+20.0", "30.0", "10.0"],
        ["US", "1", "90.0", "80.0", "-10.0", "80.0", "70.0", "-10.0", "10.0", "6.0"],
        ["mean of rows", "", "75.0", "72.5", "-2.5", "65.0", "70.0", "+5.0", "20.0", "8.0"],
    ]


def test_changes_tell_the_median_the_mean_and_the_worst_modality():
    found = compared(SCORED, GMACS)["changes"]["dsc"]
    assert found["median"] == pytest.approx(0)
    assert found["mean"] == pytest.approx(0)
    assert (found["worst"], found["worst_change"]) == ("US", pytest.approx(-10))
