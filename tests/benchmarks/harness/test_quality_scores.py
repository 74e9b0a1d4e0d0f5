"""What is made of predicted and true quality."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks.harness.quality_scores import (
    RatedObject,
    low_quality_auc,
    quality_document,
    rate_case,
)
from qmedsam import RatedLabelMap


def rated(*pairs, group="CT") -> list[RatedObject]:
    return [RatedObject(group, "a", i, p, d) for i, (p, d) in enumerate(pairs, start=1)]


def test_the_area_under_the_curve_is_the_share_of_pairs_in_order():
    # Low: 0.5 and 0.8 are predicted; others: 0.6 and 0.9. Three of four pairs are in order.
    assert low_quality_auc(rated((0.5, 0.2), (0.8, 0.69), (0.6, 0.7), (0.9, 1.0))) == 0.75
    assert low_quality_auc(rated((0.5, 0.2), (0.5, 0.9))) == 0.5
    assert math.isnan(low_quality_auc(rated((0.5, 0.9))))


def test_the_figures_of_groups_and_of_all():
    ct = rated((0.6, 0.4), (0.9, 0.8), (0.65, 0.95))
    us = rated((0.8, 0.6), group="US")
    document = quality_document([*ct, *us])
    found = document["groups"]["CT"]
    assert found["objects"] == 3
    assert found["error"] == pytest.approx((0.2 + 0.1 + 0.3) / 3)
    assert found["bias"] == pytest.approx((0.2 + 0.1 - 0.3) / 3)
    assert (found["low"], found["named"]) == (pytest.approx(1 / 3), pytest.approx(2 / 3))
    assert (found["right"], found["found"]) == (0.5, 1.0)
    assert math.isnan(document["groups"]["US"]["right"])
    assert document["groups"]["US"]["found"] == 0
    assert document["mean_error_of_groups"] == pytest.approx((0.2 + 0.2) / 2)
    assert document["all"]["objects"] == 4


def test_the_objects_of_a_case_are_those_that_its_truth_has(tmp_path):
    labels = np.zeros((64, 64), dtype=np.uint8)
    labels[10:30, 10:40] = 1
    boxes = [[10, 10, 39, 29], [45, 45, 60, 60], [70, 70, 80, 80]]
    path = tmp_path / "US" / "a.npz"
    path.parent.mkdir()
    np.savez(path, imgs=np.zeros((64, 64, 3), np.uint8), boxes=boxes, gts=labels)
    found = np.where(np.arange(64) < 20, labels, 0)  # a third of what is there
    answer = RatedLabelMap(found, np.array([0.5, 0.9, np.nan], dtype=np.float32))
    (one,) = rate_case(SimpleNamespace(segment_rated=lambda *_: answer), path)
    assert (one.group, one.case, one.label, one.predicted) == ("US", "a", 1, 0.5)
    assert one.dsc == pytest.approx(2 * 200 / (200 + 600))
