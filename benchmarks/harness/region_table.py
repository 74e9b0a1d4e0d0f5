"""Whole images against regions, in numbers: averages of scores, and these as a table."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from qmedsam.config import Regions
from training.scoring.metrics import Mode
from training.scoring.score_tables import markdown_table
from training.scoring.scores import ScoredCase, by_modality, mean_of_cases

SETTINGS: tuple[Regions, ...] = ("whole", "auto")  # before and after
MODE: Mode = "correct"
METRICS = ("dsc", "nsd")
HEADER = (
    *("modality", "cases"),
    *("DSC", "regions", "change", "NSD", "regions", "change"),
    *("GMACs", "regions"),
)
Gmacs = Mapping[str, Mapping[str, float]]  # by setting, and by modality and name of the case
Scored = Mapping[str, Sequence[ScoredCase]]  # by setting, in one order


def compared(scored: Scored, gmacs: Gmacs) -> dict[str, Any]:
    """Return averages and changes for a record, scores in percent.

    Returns:
        `rows`: of each modality its `cases` and, whole and with regions, the means of `dsc`, `nsd`
        and `gmacs`; `changes`: of each metric the median and the mean over cases and the worst row.
    """
    rows = {
        name: {
            "cases": len(cases),
            **{
                metric: [_mean(scored[one], name, metric) for one in SETTINGS] for metric in METRICS
            },
            "gmacs": [
                statistics.fmean(gmacs[one][f"{name}/{case.name}"] for case in cases)
                for one in SETTINGS
            ],
        }
        for name, cases in by_modality(scored[SETTINGS[0]]).items()
    }
    return {"rows": rows, "changes": {metric: _change(scored, rows, metric) for metric in METRICS}}


def region_table(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """Write the rows of `compared` as a table, and their mean, in which each row counts once."""
    cells = [[name, str(row["cases"]), *_cells(row)] for name, row in rows.items()]
    mean = {
        key: [
            statistics.fmean(column)
            for column in zip(*(row[key] for row in rows.values()), strict=True)
        ]
        for key in (*METRICS, "gmacs")
    }
    cells.append(["mean of rows", "", *_cells(mean)])
    return markdown_table(HEADER, cells)


def _mean(cases: Sequence[ScoredCase], modality: str, metric: str) -> float:
    return 100 * mean_of_cases(by_modality(cases)[modality], MODE, metric)


def _change(
    scored: Scored, rows: Mapping[str, Mapping[str, Any]], metric: str
) -> dict[str, float | str]:
    before, after = (
        [getattr(case.scores[MODE], metric) for case in scored[one]] for one in SETTINGS
    )
    by_case = [100 * (new - old) for old, new in zip(before, after, strict=True)]
    by_row = {name: row[metric][1] - row[metric][0] for name, row in rows.items()}
    worst = min(by_row, key=lambda name: by_row[name])
    return {
        "median": statistics.median(by_case),
        "mean": statistics.fmean(by_case),
        "worst": worst,
        "worst_change": by_row[worst],
    }


def _cells(row: Mapping[str, Sequence[float]]) -> list[str]:
    cells = []
    for metric in METRICS:
        before, after = row[metric]
        cells += [f"{before:.1f}", f"{after:.1f}", f"{after - before:+.1f}"]
    return [*cells, *(f"{value:.1f}" for value in row["gmacs"])]
