"""Records, and the page that is made of them."""

from __future__ import annotations

import json

import pytest

from benchmarks import results
from benchmarks.plots import speed_up
from benchmarks.record import RESULTS_DIR, machine, write_record
from benchmarks.tables import worst_changes
from tests.conftest import ROOT
from training.metrics import CaseScore
from training.score_tables import percent, scores_document
from training.scores import ScoredCase


def spread(median_s):
    return {"median_s": median_s, "min_s": median_s / 2, "max_s": median_s * 2}


def engine_row(engine, precision, whole_s):
    parts = {"encoder": spread(whole_s - 0.1), "decoder": spread(0.1), "whole": spread(whole_s)}
    head = {"network": "LiteMedSAM", "engine": engine, "precision": precision}
    return {**head, "runs": 3, **parts}


def document(dsc):
    def scores(value):
        one = CaseScore(value, value, ())
        return {"official": one, "correct": one}

    return scores_document(
        [ScoredCase("CT", "a", scores(dsc)), ScoredCase("US", "b", scores(dsc / 2))]
    )


@pytest.fixture
def records(tmp_path, monkeypatch):
    words = ["--runs", "3", "--json", "there.json", "--data", "/home/me/two words"]
    monkeypatch.setattr("sys.argv", ["x", *words])
    folder = tmp_path / "records"
    rows = [engine_row("PyTorch", "f32", 1.0), engine_row("OpenVINO", "bf16", 0.2)]
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
    write_record(folder / "figures.json", {"dsc": {}, "terms": "CC0."})
    methods = {"baseline": document(0.8), "ours": document(0.9)}
    write_record(folder / "accuracy.json", {"methods": methods})
    ablation = {"precision": "f32", "methods": methods}
    write_record(folder / "ablation-threshold.json", ablation)
    stages = [
        {"stage": "one", "steps": 3, "images": 6},
        {"stage": "two", "steps": 0, "images": 0},
    ]
    training = {"baseline": [], "ours": stages}
    write_record(folder / "ablation-models.json", {**ablation, "training": training})
    return folder


def test_a_record_says_how_where_and_when(records):
    record = json.loads((records / "engines.json").read_text())
    assert record["command"].endswith("--runs 3 --data 'two words'")
    assert record["machine"] == machine()
    assert len(record["date"]) == len("2026-01-01")


def test_a_machine_is_a_class_and_not_a_name():
    assert set(machine()) == {
        *("processor", "cores", "features", "memory_gb", "python", "packages")
    }
    assert machine()["packages"]["numpy"]


def test_the_page_has_every_section(records, tmp_path, capsys):
    page = tmp_path / "docs" / "results.md"
    page.parent.mkdir()
    assert results.main(["--records", str(records), "--page", str(page)]) == 0
    text = page.read_text()
    for row in (
        "| PyTorch | f32 | 900 ms | 100 ms | 1000 ms (500 to 2000) | 1.0x | 3 | 1.180 s |",
        "| OpenVINO | bf16 | 100 ms | 100 ms | 200 ms (100 to 400) | 5.0x | 3 |  |",
        "| 3DBox_CT_0001 | 40x8x8 | 1 | 20.00 s | ~100.00 s | 5.0x | 400 MB | 900 MB | MLE | 14.0",
        "| 3DBox_CT_0002 | 40x8x8 | 1 | 20.00 s | MLE |  | 400 MB | 900 MB | MLE | 14.0 s |",
        "| CT | 1 | 80.00 | 90.00 |",
        "| mean of modalities |  | 60.00 | 67.50 |",
        "- ours: +5.00 (US)",
        "### Threshold before or after upsampling",
        "### Quantization",
        "- ours: one 3 (6 images); two 0 (0 images)",
    ):
        assert row in text
    assert "### Volume prompt" not in text
    assert "images/figure-good.png" in text
    assert "CC0." in text
    images = {path.name for path in (page.parent / "images").iterdir()}
    assert images == {"results-engines.png", "results-cases.png", "results-accuracy.png"}
    for name in images:
        assert f"images/{name}" in text


def test_the_worst_modality_is_the_one_that_falls_most():
    lines = worst_changes({"base": document(0.8), "worse": document(0.6)})
    assert lines == ["Worst modality against base, DSC:", "- worse: -20.00 (CT)"]
    assert worst_changes({"base": document(0.8)}) == []


def test_the_readme_quotes_the_records():
    methods = json.loads((ROOT / RESULTS_DIR / "accuracy.json").read_text())["methods"]
    titles = ("PyTorch baseline f32", "service f32", "service bf16", "NNCF int8, rest bf16")
    readme = (ROOT / "README.md").read_text()
    for name, entry in methods[titles[0]]["modalities"].items():
        scores = [percent(methods[title]["modalities"][name]["correct"]["dsc"]) for title in titles]
        assert f"| {name} | {entry['cases']} | {' | '.join(scores)} |" in readme
    means = [percent(methods[title]["mean_of_modalities"]["correct"]["dsc"]) for title in titles]
    assert f"| mean of modalities | | {' | '.join(means)} |" in readme
    changes = worst_changes({title: methods[title] for title in titles})[1]
    worst = [line.split(": ")[1] for line in changes.splitlines()]
    assert f"| worst against the baseline | | | {' | '.join(worst)} |" in readme


def test_the_readme_quotes_the_speeds():
    readme = (ROOT / "README.md").read_text()
    engines = json.loads((ROOT / RESULTS_DIR / "engines.json").read_text())
    for row in engines["rows"][:9]:
        if row["precision"] in {"f32", "NNCF int8, rest f32", "NNCF int8, rest bf16"}:
            is_quoted = f"{1000 * row['whole']['median_s']:.0f} ms" in readme
            assert is_quoted or "ONNX Runtime" in row["engine"]
    cases = json.loads((ROOT / RESULTS_DIR / "cases.json").read_text())["cases"]
    for kind in ("2D", "3D"):
        for service in ("service f32", "service bf16"):
            ratios = [
                speed_up(case["methods"]["PyTorch baseline f32"], case["methods"][service])
                for case in cases
                if case["case"].startswith(kind)
            ]
            assert f"{min(ratios):.1f} to {max(ratios):.1f}" in readme


def test_the_committed_page_is_what_the_records_make():
    page = results.results_page(results.read_records(ROOT / RESULTS_DIR))
    assert page == (ROOT / "docs" / "results.md").read_text()


def test_without_records_there_is_no_page(tmp_path):
    assert results.main(["--records", str(tmp_path), "--page", str(tmp_path / "p.md")]) == 2
    assert not (tmp_path / "p.md").exists()
