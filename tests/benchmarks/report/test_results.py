"""Records, and the page that is made of them."""

from __future__ import annotations

import json
import re

import pytest

from benchmarks.harness.case_scores import write_scores
from benchmarks.harness.record import RESULTS_DIR, machine, write_record
from benchmarks.report import results
from benchmarks.report.accuracy_tables import worst_changes
from tests.conftest import ROOT
from training.scoring.metrics import CaseScore
from training.scoring.score_tables import scores_document
from training.scoring.scores import ScoredCase


def spread(median_s):
    return {"median_s": median_s, "min_s": median_s / 2, "max_s": median_s * 2}


def engine_row(engine, precision, whole_s):
    parts = {"encoder": spread(whole_s - 0.1), "decoder": spread(0.1), "whole": spread(whole_s)}
    head = {"network": "LiteMedSAM", "engine": engine, "precision": precision}
    return {**head, "runs": 3, **parts}


def scored(dsc):
    def scores(value):
        one = CaseScore(value, value, ())
        return {"official": one, "correct": one}

    return [ScoredCase("CT", "a", scores(dsc)), ScoredCase("US", "b", scores(dsc / 2))]


@pytest.fixture
def records(tmp_path, monkeypatch):
    words = ["--runs", "3", "--json", "there.json", "--data", "/home/me/two words"]
    monkeypatch.setattr("sys.argv", ["x", "engines", *words])
    folder = tmp_path / "records"
    rows = [
        engine_row("PyTorch", "f32", 1.0),
        engine_row("OpenVINO", "bf16", 0.2),
        engine_row("OpenVINO", "QAT int8, other layers in bf16", 0.125),
    ]
    engines = {"threads": 2, "rounds": 1, "medsam_weights": "random", "rows": rows}
    baseline = {"s": 100.0, "peak_mb": 900, "visits": 40, "walked": 4, "runs": 1}
    baseline["is_out_of_memory"] = False
    service = {"s": 20.0, "peak_mb": 400, "visits": 0, "walked": 0, "runs": 3}
    service["is_out_of_memory"] = False
    case = {
        "case": "3DBox_CT_0001",
        "shape": [40, 8, 8],
        "objects": 1,
        "paper_s": [None, 14.0],
        "methods": {
            "service f32": service,
            "PyTorch baseline f32": baseline,
        },
    }
    write_record(folder / "engines.json", engines)
    failed = {**case, "case": "3DBox_CT_0002", "methods": dict(case["methods"])}
    failed["methods"]["PyTorch baseline f32"] = {**baseline, "is_out_of_memory": True}
    cases = {"most_slices": 4, "budget_s": 40, "cases": [case, failed]}
    write_record(folder / "cases.json", cases)
    starts = [{"service": "int8", "cold_s": 1.06, "cached_s": 0.75}]
    write_record(folder / "start.json", {"runs": 9, "rows": starts})
    points = {"f32": (1.5, 380), "bf16": (1.0, 370)}
    curve = {name: [{"count": 10, "s": s, "peak_mb": mb}] for name, (s, mb) in points.items()}
    curves = {"runs": 3, "curves": {"boxes": curve, "slices": curve}}
    write_record(folder / "curves.json", curves)
    layers = {"linear layers, int8": 40.0, "moving values": 9.0}
    parts = {"encoder": layers, "decoder": {"moving values": 1.0}}
    work = {"encoder": 37.877, "decoder": 0.854}
    layers_record = {"precision": "bf16", "milliseconds": parts, "gmac": work}
    write_record(folder / "layers.json", layers_record)
    stages = [
        {"stage": "one", "steps": 3, "images": 6},
        {"stage": "two", "steps": 0, "images": 0},
    ]
    entries = {"precision": "f32", "training": {"float": [], "ours": stages}}
    for name, titles, entry in (
        ("accuracy", ("PyTorch", "service"), {}),
        ("models", ("float", "ours"), entries),
    ):
        write_record(folder / f"{name}.json", entry)
        scores = {title: scored(dsc) for title, dsc in zip(titles, (0.8, 0.9), strict=True)}
        write_scores(folder / f"{name}.json", scores)
    return folder


def test_a_record_says_how_where_and_when(records):
    record = json.loads((records / "engines.json").read_text())
    assert record["command"] == "python -m benchmarks engines --runs 3 --data 'two words'"
    assert record["machine"] == machine()
    assert len(record["date"]) == len("2026-01-01")


def test_a_machine_is_a_class_and_not_a_name():
    assert set(machine()) == {
        *("processor", "cores", "features", "memory_gb", "python", "packages")
    }
    assert machine()["packages"]["numpy"]


def cells(text: str) -> list[list[str]]:
    """Return the cells of all tables of a page."""
    rows = (line.strip("| \n") for line in text.splitlines() if line.startswith("|"))
    return [[cell.strip() for cell in row.split("|")] for row in rows]


def test_the_page_has_every_section(records, tmp_path):
    page = tmp_path / "docs" / "results.md"
    page.parent.mkdir()
    words = ["--records", str(records), "--page", str(page)]
    assert results.COMMAND.main(words) == 0
    text = page.read_text()
    found = cells(text)
    for row in (
        "PyTorch | f32 | 900 ms | 100 ms | 1000 ms (500 to 2000) | 1.0x | 3 | 1.180 s | 8.0x",
        "OpenVINO | bf16 | 100 ms | 100 ms | 200 ms (100 to 400) | 5.0x | 3 |  | 1.6x",
        "3DBox_CT_0001 | 40x8x8 | 1 | 20.00 s | ~100.00 s | MLE | 14.0 s",
        "3DBox_CT_0002 | 40x8x8 | 1 | 20.00 s | MLE | MLE | 14.0 s",
        "3DBox_CT_0001 | 5.0x",
        "service f32 |  | 5.0 to 5.0",
        "3DBox_CT_0001 | 400 MB | 900 MB",
        "10 | 1.50 s | 380 MB | 1.00 s | 370 MB",
        "int8 | 1.06 s | 0.75 s",
        "linear layers, int8 | 40.0",
        "moving values | 9.0",
        "sum | 49.0",
        "CT | 1 | 80.00 | 90.00",
        "CT | 1 | 80.00 | 80.00 | 90.00",
        "mean of modalities |  | 60.00 | 67.50",
        "worst against float |  | +0.00 (CT) |  | +5.00 (US)",
    ):
        assert [cell.strip() for cell in row.split("|")] in found, row
    assert "- ours: +5.00 (US)" in text
    assert "takes 37.9 billion multiply-accumulates, the decoder 0.85." in text
    assert "- ours: one 3 (6 images); two 0 (0 images)" in text
    assert "## Volume prompt" not in text
    images = {path.name for path in (page.parent / "images").iterdir()}
    plots = ("accuracy", "cases", "curves", "engines")
    assert images == {f"results-{name}.png" for name in plots}
    for name in images:
        assert f"images/{name}" in text


def test_the_worst_modality_is_the_one_that_falls_most():
    documents = {title: scores_document(scored(dsc)) for title, dsc in (("a", 0.8), ("b", 0.6))}
    assert worst_changes(documents) == {"b": "-20.00 (CT)"}
    assert worst_changes({"a": documents["a"]}) == {}


# Percent, seconds, ranges of speed-ups, and changes with the modality that changes most.
FIGURE = re.compile(r"[+-]\d+\.\d\d \(\w+\)|\d+\.\dx? to \d+\.\dx?|\d+\.\d\d|\d+ ms|\d+\.\dx")


def test_the_readme_quotes_figures_of_the_pages():
    pages = [ROOT / results.DEFAULT_PAGE, *(ROOT / "docs" / "studies").glob("*.md")]
    known = {figure for page in pages for figure in FIGURE.findall(page.read_text())}
    tables = "\n".join(
        line
        for line in (ROOT / "README.md").read_text().splitlines()
        if line.startswith("|") and FIGURE.search(line)
    )
    quoted = {
        figure if " to " not in figure else figure.replace("x", "")
        for figure in FIGURE.findall(tables)
    }
    assert len(quoted) >= 15
    assert quoted <= known, f"Not on a page of results: {quoted - known}"


def test_the_committed_page_is_what_the_records_make():
    page = results.results_page(results.read_records(ROOT / RESULTS_DIR))
    assert page == (ROOT / "docs" / "results.md").read_text()
