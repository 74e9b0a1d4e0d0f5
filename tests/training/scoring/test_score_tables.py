"""CSV, Markdown, JSON and the chart of scores worked out by hand."""

from __future__ import annotations

import json
import math

import pytest

pytest.importorskip("matplotlib", reason="training/requirements.txt is not installed")

from training.scoring.metrics import CaseScore, LabelScore
from training.scoring.score_tables import (
    case_csv,
    label_csv,
    markdown_table,
    modality_chart,
    modality_table,
    scores_document,
)
from training.scoring.scores import ScoredCase

pytestmark = pytest.mark.training


@pytest.fixture
def cases() -> list[ScoredCase]:
    def both(dsc, official, correct):
        labels = (LabelScore(1, dsc, correct),)
        return {
            "official": CaseScore(dsc, official, labels),
            "correct": CaseScore(dsc, correct, labels),
        }

    return [
        ScoredCase("US", "a", both(0.9, 0.8, 0.7)),
        ScoredCase("US", "b", both(0.5, 0.4, 0.3)),
        ScoredCase("CT", "c", both(0.1, 0.0, 0.2), "c.npz: Prediction is missing"),
    ]


def test_the_table_has_both_averages(cases, cells):
    header, _, *rows = cells(modality_table(scores_document(cases)))
    assert header == ["modality", "cases", "DSC", "NSD, official", "NSD, correct"]
    assert rows == [
        ["CT", "1", "10.00", "0.00", "20.00"],
        ["US", "2", "70.00", "60.00", "50.00"],
        ["mean of modalities", "", "40.00", "30.00", "35.00"],
        ["mean of cases", "", "50.00", "40.00", "40.00"],
    ]


def test_the_dsc_of_the_modes_has_two_columns_where_it_differs(cases, cells):
    cases[0].scores["official"] = CaseScore(0.95, 0.8, ())
    header = cells(modality_table(scores_document(cases)))[0]
    assert header[2:5] == ["DSC, official", "DSC, correct", "NSD, official"]


@pytest.mark.parametrize(
    ("cells", "rule"),
    [
        pytest.param(["1.0", "-", "", "~3 s"], "-:", id="numbers"),
        pytest.param(["MLE", "14.0 s"], "-:", id="a-missing-number"),
        pytest.param(["f32", "8 bit"], "--", id="words"),
        pytest.param([], "--", id="nothing"),
    ],
)
def test_a_column_of_numbers_is_aligned_to_the_right(cells, rule):
    rows = [["2D", cell] for cell in cells]
    lines = markdown_table(["name", "title"], rows).splitlines()
    assert lines[1].endswith(f"{rule}|")
    assert len(lines) == 2 + len(cells)


def test_csv_has_a_row_per_case_and_mode_and_a_row_per_label(cases):
    rows = case_csv(cases).splitlines()
    assert rows[0] == "modality,case,labels,mode,dsc,nsd,error"
    assert rows[1] == "US,a,1,official,0.900000,0.800000,"
    assert rows[-1] == "CT,c,1,correct,0.100000,0.200000,c.npz: Prediction is missing"
    assert len(rows) == 1 + 6
    assert label_csv(cases).splitlines()[1] == "US,a,1,official,0.900000,0.700000"


def test_what_is_undefined_is_null_in_json_and_a_dash_in_the_table(cells):
    nothing = ScoredCase("CT", "c", {"correct": CaseScore(math.nan, math.nan, ())})
    document = scores_document([nothing])
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert ["CT", "1", "-", "-"] in cells(modality_table(document))


def test_the_chart_has_a_bar_per_modality_and_score(cases):
    axes = modality_chart(scores_document(cases)).axes[0]
    heights = [bar.get_height() for bars in axes.containers for bar in bars]
    assert heights == pytest.approx([10, 70, 0, 60, 20, 50])
    assert [label.get_text() for label in axes.get_xticklabels()] == ["CT", "US"]
