from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="training/requirements.txt is not installed")

from benchmarks.cluster import fit_costs, link_cases
from qmedsam.batch.cost import Work


def test_costs_are_what_a_report_says_of_each_thing():
    cases = [
        {
            "shape": [10, 20, 30],
            "seconds": {"read": 0.3, "preprocess": 0.5, "encode": 1.5, "decode": 0.2, "write": 0.3},
        },
        {"shape": [50, 80], "seconds": {"encode": 0.2, "decode": 0.1, "read": 0.4}},
    ]
    costs = fit_costs(cases, [Work(10, 20), Work(1, 10)])
    assert costs["slice_s"] == pytest.approx(2.2 / 11)
    assert costs["box_s"] == pytest.approx(0.3 / 30)
    assert costs["voxel_s"] == pytest.approx(1.0 / 10_000)


def test_cases_of_validation_are_linked_first(tmp_path):
    data = tmp_path / "data"
    for number in range(12):
        folder = data / ("val" if number < 4 else "train") / "CT"
        folder.mkdir(parents=True, exist_ok=True)
        depth = 1 + number % 5
        pixels = np.zeros((depth, 9, 9), np.uint8)
        np.savez(folder / f"{number:02}.npz", imgs=pixels, boxes=[[1, 1, 0, 5, 5, depth - 1]])
    link_cases(data, tmp_path / "in", 10)
    names = sorted(path.name for path in (tmp_path / "in").iterdir())
    assert names[0] == "0000-00.npz"
    assert len(names) == 10
    with pytest.raises(FileNotFoundError, match="must have 13 cases, got 12"):
        link_cases(data, tmp_path / "other", 13)
