"""The quality that a model predicts of objects against the DSC that they turn out to have."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from qmedsam import Segmenter
from qmedsam.batch.case_file import GTS_KEY, open_case
from qmedsam.batch.cases import read_case
from qmedsam.core.quality import LOW_QUALITY
from training.scoring.metrics import dsc


@dataclass(frozen=True)
class RatedObject:
    """An object of a case.

    Attributes:
        group: folder of the case: a modality, or a data set.
        predicted: the DSC that the model predicts.
        dsc: of its label with the truth.
    """

    group: str
    case: str
    label: int
    predicted: float
    dsc: float


def rate_case(segmenter: Segmenter, path: Path) -> list[RatedObject]:
    """Segment a case, and return the objects that its truth has."""
    case = read_case(path)
    with open_case(path) as opened:
        truth = opened.array(GTS_KEY)
    found = segmenter.segment_rated(case.pixels, case.boxes)
    return [
        RatedObject(
            path.parent.name,
            path.stem,
            label,
            float(predicted),
            dsc(truth == label, found.label_map == label),
        )
        for label, predicted in enumerate(found.quality, start=1)
        if not math.isnan(predicted) and (truth == label).any()
    ]


def low_quality_auc(objects: Sequence[RatedObject]) -> float:
    """Return the chance that of a low and another object the low one is predicted worse.

    Low is a DSC below `LOW_QUALITY`; NaN where all or none are.
    """
    low = [one.predicted for one in objects if one.dsc < LOW_QUALITY]
    others = [one.predicted for one in objects if one.dsc >= LOW_QUALITY]
    if not low or not others:
        return math.nan
    statistic = stats.mannwhitneyu(others, low).statistic
    return float(statistic / (len(low) * len(others)))


def quality_document(objects: Sequence[RatedObject]) -> dict[str, Any]:
    """Return what a record has of a split: figures of each group, and of all objects.

    `error` is the mean absolute difference of predicted and true DSC, `bias` that with its sign,
    `named` the share of objects that is warned of, `right` that of these that are low, `found` that
    of low ones that is warned of.
    """
    groups = sorted({one.group for one in objects})
    rows = {name: _figures([one for one in objects if one.group == name]) for name in groups}
    mean_error = float(np.mean([row["error"] for row in rows.values()]))
    return {"groups": rows, "all": _figures(objects), "mean_error_of_groups": mean_error}


def _figures(objects: Sequence[RatedObject]) -> Mapping[str, float]:
    predicted = np.array([one.predicted for one in objects])
    true = np.array([one.dsc for one in objects])
    named, low = predicted < LOW_QUALITY, true < LOW_QUALITY
    figures = {
        "objects": len(objects),
        "dsc": true.mean(),
        "predicted": predicted.mean(),
        "error": np.abs(predicted - true).mean(),
        "bias": (predicted - true).mean(),
        "auc": low_quality_auc(objects),
        "low": low.mean(),
        "named": named.mean(),
        "right": _share(low, named),
        "found": _share(named, low),
    }
    return {name: value if name == "objects" else float(value) for name, value in figures.items()}


def _share(part: Any, of: Any) -> float:
    return float(part[of].mean()) if of.any() else math.nan
