from __future__ import annotations

import numpy as np
import pytest

from training.metrics import case_dsc, dsc


@pytest.mark.parametrize(
    ("truth", "predicted", "expected"),
    [
        pytest.param([1, 1, 0, 0], [1, 1, 0, 0], 1.0, id="equal"),
        pytest.param([1, 1, 0, 0], [0, 1, 1, 0], 0.5, id="half"),
        pytest.param([1, 1, 0, 0], [0, 0, 1, 1], 0.0, id="disjoint"),
        pytest.param([0, 0], [0, 0], 1.0, id="both-empty"),
        pytest.param([0, 0], [0, 1], 0.0, id="one-empty"),
    ],
)
def test_dsc_of_masks_worked_out_by_hand(truth, predicted, expected):
    assert dsc(np.array(truth, dtype=bool), np.array(predicted, dtype=bool)) == expected


def test_a_case_is_the_mean_over_the_labels_of_the_truth():
    truth = np.array([[1, 1, 3, 3]], dtype=np.uint8)
    predicted = np.array([[1, 1, 3, 2]], dtype=np.uint8)  # label 1: 1, label 3: 2 / 3
    assert case_dsc(truth, predicted) == pytest.approx((1 + 2 / 3) / 2)


def test_a_truth_without_a_label_cannot_be_scored():
    with pytest.raises(ValueError, match="background only"):
        case_dsc(np.zeros((2, 2), dtype=np.uint8), np.ones((2, 2), dtype=np.uint8))
