"""Records of regions as sections."""

from __future__ import annotations

from benchmarks.harness.record import machine
from benchmarks.report.region_section import region_times_section, regions_section

HEAD = {"command": "python -m benchmarks x", "date": "2026-01-01", "machine": machine()}


def test_the_section_tells_scores_changes_and_gmacs_of_each_split_and_model():
    change = {"median": 1.0, "mean": 2.0, "worst": "US", "worst_change": -0.5}
    compared = {
        "rows": {"US": {"cases": 3, "dsc": [80, 82.5], "nsd": [60, 59], "gmacs": [40, 10]}},
        "changes": {"dsc": change, "nsd": change},
    }
    split = {"gmacs": {"whole": 40.0, "auto": 10.0}, "int8": compared, "float": compared}
    text = "\n".join(regions_section({**HEAD, "splits": {"val_other": split}}))
    assert "**val_other, data sets that training sees nothing of: int8**" in text
    assert text.count("82.5") == 4  # and each in the mean
    assert "DSC over cases: median +1.0, mean +2.0; worst row -0.5 (US)." in text
    assert "for a whole slice; with regions 9.5 (25 %) in val_other" in text


def test_times_have_their_ratio():
    case = {
        "case": "2DBox_US",
        "shape": [256, 256, 3],
        "objects": 1,
        "runs": 7,
        "s": {"whole": 2.0, "auto": 1.5},
        "peak_mb": {"whole": 300.4, "auto": 310.0},
    }
    text = "\n".join(region_times_section({**HEAD, "service": "int8", "cases": [case]}))
    cells = [cell.strip() for cell in text.splitlines()[4].strip("|").split("|")]
    assert cells == [
        *("2DBox_US", "256x256x3", "1", "2.00 s", "1.50 s", "0.75"),
        *("300 MB", "310 MB", "7"),
    ]
