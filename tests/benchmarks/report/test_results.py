"""Records, and the page that is made of them."""

from __future__ import annotations

import json

import pytest

from benchmarks.harness.record import RESULTS_DIR, machine, write_record
from benchmarks.report import results
from benchmarks.report.plots import speed_up
from benchmarks.report.tables import worst_changes
from tests.conftest import ROOT
from training.scoring.metrics import CaseScore
from training.scoring.score_tables import percent, scores_document
from training.scoring.scores import ScoredCase


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
            "before f32": {**service, "s": 40.0, "peak_mb": 500},
            "service f32": service,
            "PyTorch baseline f32": baseline,
        },
    }
    write_record(folder / "engines.json", engines)
    failed = {**case, "case": "3DBox_CT_0002", "methods": dict(case["methods"])}
    failed["methods"]["PyTorch baseline f32"] = {**baseline, "is_out_of_memory": True}
    cases = {"most_slices": 4, "budget_s": 40, "cases": [case, failed]}
    write_record(folder / "cases.json", cases)
    points = [
        {"done": 10 * i, "s": 2.0 * i, "resident_mb": 400 + i, "files": 9, "threads": 7}
        for i in range(1, 31)
    ]
    write_record(folder / "soak.json", {"cases": 310, "points": points})
    limited = {"case": "3DBox_CT_0001", "limit_mb": 1073.7, "cores": 1.0, "s": 9.0}
    limited |= {"peak_mb": 400, "threads": 1, "box_batch_size": 4}
    write_record(folder / "limits.json", {"rows": [limited, limited | {"cores": None}]})
    starts = [{"service": "int8", "cold_s": 1.06, "cached_s": 0.75}]
    write_record(folder / "start.json", {"runs": 9, "rows": starts})
    points = {"f32": (1.5, 380), "bf16": (1.0, 370)}
    curve = {name: [{"count": 10, "s": s, "peak_mb": mb}] for name, (s, mb) in points.items()}
    curves = {"runs": 3, "curves": {"boxes": curve, "slices": curve}}
    write_record(folder / "curves.json", curves)
    row = {"precision": "int8, rest bf16", "threads": 2, "encoder_s": 0.2, "gmac": 38}
    rates = {"gmac_per_s": 190, "peak_gmac_per_s": 400}
    write_record(folder / "scaling.json", {"rows": [row | rates]})
    layers = {"linear layers, int8": 40.0, "moving values": 9.0}
    models = {"before": {"encoder": layers}, "now": {"encoder": {"linear layers, int8": 30.0}}}
    write_record(folder / "layers.json", {"precision": "bf16", "models": models})
    counted = {"cases": 1, "pixels": 1000, "differing": 3, "worst_share": 0.003}
    services = {
        "f32": {
            "differences": {"CT": counted, "US": counted | {"differing": 7}},
            "scores": {"before": document(0.8), "now": document(0.79)},
        }
    }
    write_record(folder / "masks.json", {"services": services})
    write_record(folder / "figures.json", {"dsc": {}, "terms": "CC0."})
    methods = {"baseline": document(0.8), "ours": document(0.9)}
    write_record(folder / "accuracy.json", {"methods": methods})
    ablation = {"precision": "f32", "methods": methods}
    write_record(folder / "ablation-threshold.json", ablation)
    windows = {"int8, whole": document(0.8), "int8, margin 0": document(0.79)}
    write_record(folder / "ablation-window.json", {"precision": "f32", "methods": windows})
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
        "| 3DBox_CT_0001 | 40x8x8 | 1 | 40.00 s | 20.00 s | ~100.00 s | MLE | 14.0 s |",
        "| 3DBox_CT_0002 | 40x8x8 | 1 | 40.00 s | 20.00 s | MLE | MLE | 14.0 s |",
        "| case | service f32 than PyTorch baseline f32 | service f32 than before f32 |",
        "| 3DBox_CT_0001 | 5.0x | 2.0x |",
        "| 3DBox_CT_0002 |  | 2.0x |",
        "| 3DBox_CT_0001 | 500 MB | 400 MB | 900 MB |",
        "| 10 | 1.50 s | 380 MB | 1.00 s | 370 MB |",
        "| int8 | 1.06 s | 0.75 s |",
        "| 40 to 70 | 5.0 | at most 407 MB | at most 9 | at most 7 |",
        "| 3DBox_CT_0001 | 1074 MB | 1 | 9.0 s | 400 MB | 1 | 4 |",
        "| 3DBox_CT_0001 | 1074 MB | all | 9.0 s | 400 MB | 1 | 4 |",
        "- int8, margin 0: 2 of 2; 1.00 (CT a)",
        "| int8, rest bf16 | 2 | 200 ms | 190 | 400 | 48 % |",
        "| linear layers, int8 | 40.0 | 30.0 |",
        "| moving values | 9.0 |  |",
        "| sum | 49.0 | 30.0 |",
        "| CT | 1 | 1000 | 3 | 3.0e-03 | 80.00 | 79.00 | 80.00 | 79.00 |",
        "- now: -1.00 (CT)",
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
    plots = ("accuracy", "cases", "curves", "engines", "soak")
    assert images == {f"results-{name}.png" for name in plots}
    for name in images:
        assert f"images/{name}" in text


def test_the_worst_modality_is_the_one_that_falls_most():
    lines = worst_changes({"base": document(0.8), "worse": document(0.6)})
    assert lines == ["Worst modality against base, DSC:", "- worse: -20.00 (CT)"]
    assert worst_changes({"base": document(0.8)}) == []


def test_the_readme_quotes_the_records():
    records = results.read_records(ROOT / RESULTS_DIR)
    baseline = records["accuracy"]["methods"]["PyTorch baseline f32"]
    compared = records["ablation-models"]["methods"]
    columns = [baseline, *compared.values()]
    readme = (ROOT / "README.md").read_text()

    def scores(part, mode="correct", metric="dsc"):
        return " | ".join(percent(part(column)[mode][metric]) for column in columns)

    for name, entry in baseline["modalities"].items():
        quoted = scores(lambda column, name=name: column["modalities"][name])
        assert f"| {name} | {entry['cases']} | {quoted} |" in readme
    means = scores(lambda column: column["mean_of_modalities"])
    assert f"| mean of modalities | | {means} |" in readme
    nsd = scores(lambda column: column["mean_of_modalities"], "official", "nsd")
    assert f"| mean NSD, the challenge's | | {nsd} |" in readme
    float_first = {"float": compared["float"], "PyTorch": baseline, **compared}
    worst = [line.split(": ")[1] for line in worst_changes(float_first)[1].splitlines()]
    worst.insert(1, "")
    assert f"| worst against float | | {' | '.join(worst)} |".replace("|  |", "| |") in readme


def test_the_readme_quotes_the_speeds():
    readme = (ROOT / "README.md").read_text()
    rows = {
        name: {
            (row["engine"], row["precision"]): row
            for row in json.loads((ROOT / RESULTS_DIR / f"{name}.json").read_text())["rows"]
            if row["network"] == "LiteMedSAM"
        }
        for name in ("engines", "engines-before-no-amx")
    }
    quoted = {
        ("OpenVINO", "QAT int8, rest f32"): "`models/int8`, rest f32",
        ("OpenVINO", "QAT int8, rest bf16"): "`models/int8`, rest bf16, as it is served there",
    }
    served = rows["engines"]["OpenVINO", "QAT int8, rest bf16"]["whole"]["median_s"]
    for key, row in rows["engines"].items():
        engine, precision = key
        if precision in ("bf16 (autocast)", "int8 (dynamic, linear layers)", "QAT int8") or (
            engine == "ONNX Runtime" and precision != "f32"
        ):
            continue
        medians = [row[part]["median_s"] for part in ("encoder", "decoder", "whole")]
        cells = " | ".join(f"{1000 * median:.0f} ms" for median in medians)
        ratio = f"{medians[-1] / served:.1f}x |" if medians[-1] != served else "|"
        assert f"| {engine} | {quoted.get(key, precision)} | {cells} | {ratio}" in readme
    for precision in ("QAT int8, rest bf16", "bf16", "f32"):
        encoder = rows["engines-before-no-amx"]["OpenVINO", precision]["encoder"]["median_s"]
        assert f"{1000 * encoder:.0f} ms" in readme
    cases = json.loads((ROOT / RESULTS_DIR / "cases.json").read_text())["cases"]
    titles = {"f32": "float model, f32", "bf16": "float model, bf16"}
    titles["int8"] = "`models/int8`, rest bf16"
    for service, title in titles.items():
        cells = []
        for slower in ("PyTorch baseline f32", f"before {service}"):
            for kind in ("2D", "3D"):
                ratios = [
                    speed_up(case["methods"][slower], case["methods"][f"service {service}"])
                    for case in cases
                    if case["case"].startswith(kind)
                ]
                cells.append(f"{min(ratios):.1f} to {max(ratios):.1f}")
        assert f"| {title} | {' | '.join(cells)} |" in readme


def test_the_committed_page_is_what_the_records_make():
    page = results.results_page(results.read_records(ROOT / RESULTS_DIR))
    assert page == (ROOT / "docs" / "results.md").read_text()


def test_without_records_there_is_no_page(tmp_path):
    assert results.main(["--records", str(tmp_path), "--page", str(tmp_path / "p.md")]) == 2
    assert not (tmp_path / "p.md").exists()
