"""Tables of whole images against regions."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import regions
from training.scoring.metrics import CaseScore
from training.scoring.scores import ScoredCase


def scored(modality: str, name: str, dsc: float, nsd: float) -> ScoredCase:
    return ScoredCase(modality, name, {"correct": CaseScore(dsc, nsd, ())})


WHOLE = [scored("CT", "a", 0.5, 0.4), scored("CT", "b", 0.7, 0.6), scored("US", "c", 0.9, 0.8)]
AUTO = [scored("CT", "a", 0.6, 0.8), scored("CT", "b", 0.7, 0.6), scored("US", "c", 0.8, 0.7)]
GMACS = {
    "whole": {"CT/a": 40.0, "CT/b": 20.0, "US/c": 10.0},
    "auto": {"CT/a": 10.0, "CT/b": 10.0, "US/c": 6.0},
}


def test_each_model_is_compared_with_itself_seeing_all():
    methods = regions.compared_methods(["float", "int8"])
    assert [method.title for method in methods] == [
        *("float, whole", "float, auto"),
        *("int8, whole", "int8, auto"),
    ]
    assert len({method.key for method in methods}) == 4


def test_the_table_has_scores_changes_and_gmacs_of_each_modality():
    lines = regions.change_table(WHOLE, AUTO, GMACS).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
    assert cells == [
        ["CT", "2", "60.0", "65.0", "+5.0", "50.0", "70.0", "+20.0", "30.0", "10.0"],
        ["US", "1", "90.0", "80.0", "-10.0", "80.0", "70.0", "-10.0", "10.0", "6.0"],
        ["mean of rows", "", "75.0", "72.5", "-2.5", "65.0", "70.0", "+5.0", "20.0", "8.0"],
    ]


def test_changes_tell_the_median_the_mean_and_the_worst_modality():
    found = regions.changes(WHOLE, AUTO)["dsc"]
    assert found["median"] == pytest.approx(0)
    assert found["mean"] == pytest.approx(0)
    assert (found["worst"], found["worst_change"]) == ("US", pytest.approx(-10))


def test_a_small_object_in_a_large_image_takes_less_of_the_encoder(tmp_path):
    path = tmp_path / "CT" / "a.npz"
    path.parent.mkdir()
    np.savez(path, imgs=np.zeros((512, 512, 3), np.uint8), boxes=np.array([[9, 9, 40, 40]]))
    whole, auto = (regions.encoder_gmacs_of([path], setting) for setting in ("whole", "auto"))
    assert whole == {"CT/a": pytest.approx(37.88, abs=0.01)}
    assert 0 < auto["CT/a"] < whole["CT/a"] / 2
