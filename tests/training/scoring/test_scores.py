"""Pairs of files, lost cases and averages."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

pytest.importorskip("surface_distance", reason="training/requirements.txt is not installed")

from training.scoring.metrics import CaseScore
from training.scoring.scores import (
    EvaluationError,
    Pair,
    ScoredCase,
    by_modality,
    find_pairs,
    mean_of_cases,
    mean_of_modalities,
    modality_of,
    score_pair,
    score_pairs,
)

pytestmark = pytest.mark.training


def write_truth(path, label_map, **members):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, gts=np.asarray(label_map, dtype=np.uint8), **members)


def write_prediction(path, label_map):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, segs=np.asarray(label_map, dtype=np.uint8))


def scored(modality: str, dsc: float, nsd: float = 0.5) -> ScoredCase:
    return ScoredCase(modality, "case", {"correct": CaseScore(dsc, nsd, ())})


@pytest.mark.parametrize(
    ("name", "modality"),
    [
        ("2DBox_X-Ray_0053.npz", "XRay"),
        ("2DBox_CXR_1", "XRay"),
        ("2DBox_Ultra_7", "US"),
        ("2DBox_US_0525", "US"),
        ("3DBox_CT_0566", "CT"),
        ("2DBox_Mamm_1", "Mammography"),
        ("2DBox_Dermoscope_0003", "Dermoscopy"),
        ("2DBox_Microscope_0016", "Microscopy"),
        ("2DBox_OCT_1", "OCT"),
        ("3D_PET_1", "PET"),
        ("scan", "unknown"),
    ],
)
def test_the_modality_is_read_from_the_name(name, modality):
    assert modality_of(name) == modality


def test_predictions_lie_at_the_same_place_or_flat(tmp_path):
    for name in ("MR/a.npz", "US/b.npz"):
        write_truth(tmp_path / "truth" / name, [[1]])
    write_prediction(tmp_path / "out" / "MR" / "a.npz", [[1]])
    write_prediction(tmp_path / "out" / "b.npz", [[1]])
    pairs = find_pairs(tmp_path / "truth", tmp_path / "out")
    assert pairs == [
        Pair("MR", tmp_path / "truth/MR/a.npz", tmp_path / "out/MR/a.npz"),
        Pair("US", tmp_path / "truth/US/b.npz", tmp_path / "out/b.npz"),
    ]


def test_flat_truth_takes_the_modality_of_the_name(tmp_path):
    write_truth(tmp_path / "truth" / "2DBox_Ultra_1.npz", [[1]])
    (tmp_path / "out").mkdir()
    assert [pair.modality for pair in find_pairs(tmp_path / "truth", tmp_path / "out")] == ["US"]


def test_folders_that_are_missing_or_empty_are_named(tmp_path):
    with pytest.raises(EvaluationError, match="nowhere must be a folder"):
        find_pairs(tmp_path / "nowhere", tmp_path)
    with pytest.raises(EvaluationError, match=r"must hold \.npz files, got none"):
        find_pairs(tmp_path, tmp_path)


def test_spacing_is_turned_from_the_files_order_to_that_of_the_axes(tmp_path):
    truth, predicted = np.zeros((2, 8, 8, 8), dtype=np.uint8)
    truth[2, 2, 2] = predicted[5, 2, 2] = 1  # three slices of 1 mm apart
    write_truth(tmp_path / "t.npz", truth, spacing=np.array([4.0, 4.0, 1.0]))
    write_prediction(tmp_path / "p.npz", predicted)
    case = score_pair(Pair("CT", tmp_path / "t.npz", tmp_path / "p.npz"), ["correct", "official"])
    assert case.scores["correct"].labels[0].nsd == pytest.approx(0.5)
    assert case.scores["official"].labels[0].nsd == 0


@pytest.mark.parametrize(
    ("member", "value", "message"),
    [
        pytest.param("segs", np.zeros((2, 3), np.uint8), r"must have shape \(2, 2\)", id="shape"),
        pytest.param("segs", np.zeros((2, 2)), "must be integers, got float64", id="floats"),
        pytest.param("masks", np.zeros((2, 2), np.uint8), "member 'segs', got masks", id="key"),
        pytest.param("segs", np.full((2, 2), 70_000), "labels 0 to 65535", id="huge-label"),
        pytest.param("segs", np.full((2, 2), -1), "got -1 to -1", id="negative-label"),
    ],
)
def test_a_bad_prediction_scores_zero_and_is_explained(tmp_path, member, value, message):
    write_truth(tmp_path / "t.npz", [[1, 1], [0, 0]])
    np.savez_compressed(tmp_path / "p.npz", **{member: value})
    case = score_pair(Pair("CT", tmp_path / "t.npz", tmp_path / "p.npz"), ["correct"])
    assert (case.scores["correct"].dsc, case.scores["correct"].nsd) == (0, 0)
    assert re.search(message, case.error)


@pytest.mark.parametrize("damage", ["no-archive", "truncated", "empty"])
def test_a_broken_file_scores_zero_and_is_explained(tmp_path, damage):
    write_truth(tmp_path / "t.npz", [[1]])
    write_prediction(tmp_path / "p.npz", [[1]])
    content = (tmp_path / "p.npz").read_bytes()
    if damage == "no-archive":
        with (tmp_path / "p.npz").open("wb") as stream:
            np.save(stream, np.ones((1, 1), dtype=np.uint8))
    else:
        (tmp_path / "p.npz").write_bytes(content[: len(content) // 2 if damage != "empty" else 0])
    case = score_pair(Pair("CT", tmp_path / "t.npz", tmp_path / "p.npz"), ["correct"])
    assert case.scores["correct"].dsc == 0
    assert (
        case.error
        == f"{tmp_path / 'p.npz'}: File must be a .npz archive, got none or a part of one"
    )


def test_hidden_files_are_no_truth_and_a_prediction_at_the_same_place_comes_first(tmp_path):
    write_truth(tmp_path / "truth/MR/a.npz", [[1]])
    write_truth(tmp_path / "truth/MR/._a.npz", [[1]])
    write_prediction(tmp_path / "out/MR/a.npz", [[1]])
    write_prediction(tmp_path / "out/a.npz", [[1]])
    pairs = find_pairs(tmp_path / "truth", tmp_path / "out")
    assert [pair.prediction for pair in pairs] == [tmp_path / "out/MR/a.npz"]


def test_a_missing_prediction_scores_zero(tmp_path):
    write_truth(tmp_path / "t.npz", [[1]])
    case = score_pair(Pair("CT", tmp_path / "t.npz", tmp_path / "p.npz"), ["official"])
    assert case.scores["official"].dsc == 0
    assert case.error == f"{tmp_path / 'p.npz'}: Prediction is missing"


@pytest.mark.parametrize("spacing", [[1.0, 1.0], [0.0, 1.0, 1.0], [1.0, np.nan, 1.0]])
def test_a_broken_truth_stops_the_evaluation(tmp_path, spacing):
    write_truth(tmp_path / "t.npz", [[1]], spacing=np.array(spacing))
    with pytest.raises(EvaluationError, match="Spacing must be three positive numbers"):
        score_pair(Pair("CT", tmp_path / "t.npz", tmp_path / "p.npz"), ["official"])


def test_processes_return_the_pairs_in_order(tmp_path):
    generator = np.random.default_rng(0)
    for index in range(6):
        truth = generator.integers(0, 2 + index, (4 + 8 * index, 8))
        write_truth(tmp_path / f"truth/{index}.npz", truth)
        write_prediction(tmp_path / f"out/{index}.npz", np.roll(truth, 1, axis=0))
    pairs = find_pairs(tmp_path / "truth", tmp_path / "out")
    in_processes = score_pairs(pairs, ["correct"], workers=2)
    assert in_processes == [score_pair(pair, ["correct"]) for pair in pairs]


def test_averages_over_cases_and_over_modalities_differ():
    cases = [scored("US", 0.9), scored("US", 0.7), scored("US", 0.8), scored("CT", 0.4)]
    assert mean_of_cases(cases, "correct", "dsc") == pytest.approx(0.7)
    assert mean_of_modalities(cases, "correct", "dsc") == pytest.approx((0.8 + 0.4) / 2)
    assert list(by_modality(cases)) == ["CT", "US"]


def test_cases_without_a_label_do_not_count():
    cases = [scored("US", 0.9), scored("US", math.nan), scored("CT", math.nan)]
    assert mean_of_cases(cases, "correct", "dsc") == pytest.approx(0.9)
    assert mean_of_modalities(cases, "correct", "dsc") == pytest.approx(0.9)
    assert math.isnan(mean_of_cases(cases[2:], "correct", "dsc"))
