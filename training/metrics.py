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


def case_dsc(truth: NDArray[np.integer], predicted: NDArray[np.integer]) -> float:
    """Return the mean DSC over the labels that occur in the truth.

    Args:
        truth: label map.
        predicted: label map of the same shape.

    Raises:
        ValueError: the truth has no label.
    """
    labels = [label for label in np.flatnonzero(np.bincount(truth.ravel())) if label > 0]
    if not labels:
        raise ValueError("Truth must have a label, got background only")
    return float(np.mean([dsc(truth == label, predicted == label) for label in labels]))
