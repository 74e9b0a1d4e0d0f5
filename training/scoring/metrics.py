"""Scores of a predicted label map against the truth: DSC and NSD, per label and per case.

Two modes. `official` gives the numbers of the challenge's script wherever that is defined, its
conventions included; `correct` says what the words mean:

|                        | official                                  | correct                     |
|------------------------|-------------------------------------------|-----------------------------|
| labels                 | 1 to the largest of the truth             | in truth or prediction      |
| spacing of a volume    | (x, y, z) put on the axes (z, y, x)       | in the order of the axes    |
| surface of an image    | of a slab of one voxel: most of its area  | its contour                 |
| NSD of a case          | 0 where its DSC is at most 0.2            | as measured                 |

A label that neither has is left out in both; the script's NaN would void the whole case. Surface
elements and their distances are those of the package `surface-distance` (Nikolov et al., 2018),
from which the challenge took its code.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import surface_distance
from numpy.typing import NDArray
from scipy import ndimage

Mode = Literal["official", "correct"]
MODES: tuple[Mode, ...] = get_args(Mode)
TOLERANCE_MM = 2.0
OFFICIAL_DSC_GATE = 0.2

Mask = NDArray[np.bool_]
LabelMap = NDArray[np.integer]
Extent = tuple[slice, ...]


@dataclass(frozen=True)
class LabelScore:
    """Scores of one label, in [0, 1]."""

    label: int
    dsc: float
    nsd: float


@dataclass(frozen=True)
class CaseScore:
    """Scores of one case, in [0, 1]: means over its labels, NaN when it has none.

    The official `nsd` can be 0 where the labels' values are not, by the gate.
    """

    dsc: float
    nsd: float
    labels: tuple[LabelScore, ...]


def dsc(truth: Mask, predicted: Mask) -> float:
    """Return the Dice similarity coefficient in [0, 1] of two masks of one shape.

    Two empty masks agree: 1. One empty mask: 0.
    """
    total = int(np.count_nonzero(truth)) + int(np.count_nonzero(predicted))
    if total == 0:
        return 1.0
    return 2 * int(np.count_nonzero(truth & predicted)) / total


def nsd(
    truth: Mask,
    predicted: Mask,
    spacing_mm: Sequence[float],
    *,
    tolerance_mm: float = TOLERANCE_MM,
) -> float:
    """Return the normalized surface Dice in [0, 1]: the share of both surfaces that lies close.

    Args:
        truth: mask of an image (H, W) or a volume (D, H, W).
        predicted: mask of the same shape.
        spacing_mm: size of a pixel along each axis, in the order of the axes.
        tolerance_mm: distance up to which a surface element counts as close.

    Returns:
        The share; two empty masks agree: 1. One empty mask: 0.
    """
    if not truth.any() or not predicted.any():  # the package fails on them with NumPy 2
        return float(truth.any() == predicted.any())
    with warnings.catch_warnings():
        # It reaches SciPy's functions by names that SciPy 2 will not have.
        warnings.simplefilter("ignore", DeprecationWarning)
        distances = surface_distance.compute_surface_distances(truth, predicted, spacing_mm)
    return float(surface_distance.compute_surface_dice_at_tolerance(distances, tolerance_mm))


def score_case(
    truth: LabelMap,
    predicted: LabelMap,
    *,
    spacing_mm: Sequence[float] | None = None,
    mode: Mode = "correct",
) -> CaseScore:
    """Score every label of a case.

    Args:
        truth: label map (H, W) or (D, H, W).
        predicted: label map of the same shape.
        spacing_mm: (z, y, x) of a volume; 1 mm each when unknown. An image has 1 mm pixels.
        mode: see the module.

    Raises:
        ValueError: the shapes differ or have another number of axes.
    """
    if truth.shape != predicted.shape or truth.ndim not in (2, 3):
        raise ValueError(
            "Truth and prediction must both be (H, W) or (D, H, W), "
            f"got {truth.shape} and {predicted.shape}"
        )
    spacing, is_slab = _geometry(truth.ndim, spacing_mm, mode)
    scores = []
    for label, extent in _joint_extents(truth, predicted, mode).items():
        masks = truth[extent] == label, predicted[extent] == label
        truth_surface, surface = (mask[..., None] if is_slab else mask for mask in masks)
        scores.append(LabelScore(label, dsc(*masks), nsd(truth_surface, surface, spacing)))
    if not scores:
        return CaseScore(float("nan"), float("nan"), ())
    mean_dsc = float(np.mean([score.dsc for score in scores]))
    mean_nsd = float(np.mean([score.nsd for score in scores]))
    is_gated = mode == "official" and mean_dsc <= OFFICIAL_DSC_GATE
    return CaseScore(mean_dsc, 0.0 if is_gated else mean_nsd, tuple(scores))


def _geometry(
    axes: int, spacing_mm: Sequence[float] | None, mode: Mode
) -> tuple[list[float], bool]:
    """Return the spacing that is put on the axes, and whether an image becomes a slab."""
    if axes == 2:
        return ([1.0] * 3, True) if mode == "official" else ([1.0] * 2, False)
    spacing = [1.0] * 3 if spacing_mm is None else [float(value) for value in spacing_mm]
    return (spacing[::-1] if mode == "official" else spacing), False


def _joint_extents(truth: LabelMap, predicted: LabelMap, mode: Mode) -> dict[int, Extent]:
    """Return where each label of the mode lies in truth and prediction together."""
    of_truth, of_predicted = _extents(truth), _extents(predicted)
    labels = sorted(of_truth | of_predicted)
    if mode == "official":
        labels = [label for label in labels if label <= max(of_truth, default=0)]
    return {label: _union(of_truth.get(label), of_predicted.get(label)) for label in labels}


def _extents(label_map: LabelMap) -> dict[int, Extent]:
    found = ndimage.find_objects(label_map)
    return {label: extent for label, extent in enumerate(found, start=1) if extent is not None}


def _union(one: Extent | None, other: Extent | None) -> Extent:
    if one is None or other is None:
        return one or other or ()
    return tuple(
        slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(one, other, strict=True)
    )
