"""Scores of a predicted label map against the truth."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def dsc(truth: NDArray[np.bool_], predicted: NDArray[np.bool_]) -> float:
    """Return the Dice similarity coefficient in [0, 1] of two masks of one shape.

    Two empty masks agree: 1. One empty mask: 0.
    """
    total = int(np.count_nonzero(truth)) + int(np.count_nonzero(predicted))
    if total == 0:
        return 1.0
    return 2 * int(np.count_nonzero(truth & predicted)) / total


def case_dsc(truth: NDArray[np.integer], predicted: NDArray[np.integer], objects: int) -> float:
    """Return the mean DSC over the labels 1 to `objects` that occur in the truth.

    Args:
        truth: label map.
        predicted: label map of the same shape.
        objects: number of boxes of the case.
    """
    present = np.flatnonzero(np.bincount(truth.ravel(), minlength=objects + 1))
    scores = [dsc(truth == label, predicted == label) for label in present if label > 0]
    return float(np.mean(scores))
