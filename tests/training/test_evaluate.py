"""The command that scores a folder."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

pytest.importorskip("surface_distance", reason="training/requirements.txt is not installed")

from qmedsam.batch.cases import list_cases, read_case
from qmedsam.model.variant import default_model_dir
from tests.conftest import EXAMPLES
from training.evaluate import main

pytestmark = pytest.mark.training


@pytest.fixture
def truth(tmp_path):
    """Three small cases, a case of them with its prediction off by one column."""
    label_map = np.zeros((16, 16), dtype=np.uint8)
    label_map[4:12, 4:12] = 1
    for index, name in enumerate(["US/a", "US/b", "CT/c"]):
        for folder, key, value in (
            ("truth", "gts", label_map),
            ("out", "segs", np.roll(label_map, index == 1, axis=1)),
        ):
            path = tmp_path / folder / f"{name}.npz"
            path.parent.mkdir(parents=True, exist_ok=True)
            np.savez_compressed(path, **{key: value})
    return tmp_path / "truth"


def run(truth, *options):
    folder = truth.parent
    places = ["--truth", truth, "--output-dir", folder / "scores", "--workers", 1]
    return main([str(value) for value in [*places, *options]])


def test_every_file_is_written(truth, capsys):
    assert run(truth, "--predictions", truth.parent / "out") == 0
    folder = truth.parent / "scores"
    names = {"cases.csv", "labels.csv", "summary.md", "summary.json", "chart.png"}
    assert {path.name for path in folder.iterdir()} == names
    document = json.loads((folder / "summary.json").read_text())
    assert document["modalities"]["US"]["correct"]["dsc"] == pytest.approx((1 + 7 / 8) / 2)
    assert document["mean_of_cases"]["correct"]["dsc"] == pytest.approx((2 + 7 / 8) / 3)
    assert (folder / "summary.md").read_text() == capsys.readouterr().out


def test_a_lost_case_counts_and_makes_the_status_1(truth, caplog):
    (truth.parent / "out/CT/c.npz").unlink()
    assert run(truth, "--predictions", truth.parent / "out") == 1
    document = json.loads((truth.parent / "scores/summary.json").read_text())
    assert document["modalities"]["CT"]["official"]["dsc"] == 0
    assert "c scores 0" in caplog.text


def test_nothing_to_score_makes_the_status_2(truth, caplog):
    assert run(truth, "--predictions", truth.parent / "nowhere") == 2
    assert "nowhere must be a folder" in caplog.text
    with pytest.raises(SystemExit, match="2"):
        run(truth, "--predictions", truth, "--workers", 0)
    with pytest.raises(SystemExit, match="2"):
        run(truth)


def test_a_case_without_truth_is_named_and_the_others_are_scored(truth, caplog):
    np.savez_compressed(truth / "US" / "d.npz", imgs=np.zeros((4, 4), np.uint8))
    (truth / "US" / "e.npz").write_bytes(b"PK")
    assert run(truth, "--predictions", truth.parent / "out") == 1
    assert "US/d.npz: File must have a member 'gts', got imgs" in caplog.text
    assert "US/e.npz: File must be a .npz archive" in caplog.text
    document = json.loads((truth.parent / "scores/summary.json").read_text())
    assert document["mean_of_cases"]["correct"]["dsc"] == pytest.approx((2 + 7 / 8) / 3)


def test_without_any_truth_nothing_is_scored(truth, caplog):
    for path in truth.rglob("*.npz"):
        path.write_bytes(b"PK")
    assert run(truth, "--predictions", truth.parent / "out") == 2
    assert "None of 3 cases has a truth that can be read" in caplog.text


@pytest.mark.model
def test_a_model_predicts_in_the_same_run_and_keeps_what_is_there(tmp_path, caplog):
    example = list_cases(EXAMPLES)[0]
    truth = tmp_path / "truth"
    truth.mkdir()
    case = read_case(example)
    label_map = np.zeros(case.pixels.shape[:2], dtype=np.uint8)
    for label, (x0, y0, x1, y1) in enumerate(case.boxes.astype(int), start=1):
        label_map[y0:y1, x0:x1] = label
    for name in ("one.npz", "two.npz"):
        np.savez_compressed(truth / name, imgs=case.pixels, boxes=case.boxes, gts=label_map)
    predictions = tmp_path / "out"
    predictions.mkdir()
    np.savez_compressed(predictions / "one.npz", segs=label_map)
    options = ["--model-dir", default_model_dir("float"), "--predictions", predictions]
    assert run(truth, *options) == 2  # whose label maps are these?
    assert "out holds label maps of which predicted_by.json does not say" in caplog.text
    (predictions / "one.npz").unlink()
    assert run(truth, *options) == 0
    np.savez_compressed(predictions / "one.npz", segs=label_map)
    assert run(truth, *options) == 0
    scores = json.loads((tmp_path / "scores/summary.json").read_text())["cases"]
    assert scores[0]["correct"]["dsc"] == 1
    assert 0.5 < scores[1]["correct"]["dsc"] < 1
    assert run(truth, *options, "--regions", "whole") == 2
    assert "out holds label maps of another model, precision, volume prompt or" in caplog.text
    shutil.rmtree(predictions)
    assert run(truth, *options) == 0
