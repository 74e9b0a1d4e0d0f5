"""Scores of cases, and the table that keeps them."""

from __future__ import annotations

import argparse

import numpy as np
import pytest

from benchmarks.harness.case_scores import measure_methods, read_scores, write_scores
from benchmarks.harness.predictions import Method
from training.scoring.metrics import CaseScore
from training.scoring.score_tables import scores_document
from training.scoring.scores import ScoredCase


def scored(modality: str, name: str, dsc: float, nsd: float) -> ScoredCase:
    scores = {"official": CaseScore(dsc, nsd, ()), "correct": CaseScore(dsc, nsd / 2, ())}
    return ScoredCase(modality, name, scores)


def test_a_table_gives_back_what_was_written(tmp_path):
    cases = [
        scored("CT", "a, 1", 0.123456, 0.5),
        scored("CT", "b", float("nan"), float("nan")),
        scored("US", "c", 1.0, 0.0),
    ]
    write_scores(tmp_path / "r.json", {"ours, int8": cases, "theirs": cases[:1]})
    documents = read_scores(tmp_path / "r.json")
    assert documents == {
        "ours, int8": scores_document(cases),
        "theirs": scores_document(cases[:1]),
    }
    assert (tmp_path / "r.csv").read_text().splitlines()[:2] == [
        "method,modality,case,official_dsc,official_nsd,correct_dsc,correct_nsd",
        '"ours, int8",CT,"a, 1",0.123456,0.5,0.123456,0.25',
    ]


def test_a_record_without_a_table_has_no_scores(tmp_path):
    assert read_scores(tmp_path / "r.json") == {}


def test_methods_are_scored_by_their_titles(tmp_path, capsys):
    folder = tmp_path / "data" / "US"
    folder.mkdir(parents=True)
    truth = np.zeros((8, 8), dtype=np.uint8)
    truth[2:4, 2:6] = 1
    for name in "ab":
        np.savez(folder / f"{name}.npz", imgs=truth, boxes=[[2, 2, 5, 3]], gts=truth)
    half = truth.copy()
    half[3] = 0
    (tmp_path / "weights").write_text("w")
    methods = [
        Method(title, title, tmp_path / "weights", lambda found=found: lambda case: found)
        for title, found in (("all", truth), ("half", half))
    ]
    arguments = argparse.Namespace(
        data=tmp_path / "data", work_dir=tmp_path / "work", json=tmp_path / "r.json"
    )
    assert measure_methods(methods, arguments) == 0
    documents = read_scores(tmp_path / "r.json")
    assert documents["all"]["modalities"]["US"]["correct"]["dsc"] == 1
    assert documents["half"]["modalities"]["US"]["correct"]["dsc"] == pytest.approx(
        8 / 12, abs=1e-6
    )
    assert "mean of modalities" in capsys.readouterr().out
