"""What becomes of scores: CSV, Markdown, JSON and a chart."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from tabulate import tabulate

from training.scoring.metrics import MODES, Mode
from training.scoring.scores import ScoredCase, by_modality, mean_of_cases, mean_of_modalities

METRICS = ("dsc", "nsd")
MEMORY_EXCEEDED = "MLE"
# Keys of a document; in a table without the underscores.
MEAN_OF_MODALITIES, MEAN_OF_CASES = MEANS = ("mean_of_modalities", "mean_of_cases")


def case_csv(cases: Sequence[ScoredCase]) -> str:
    """Write a row per case."""
    rows = [
        [case.modality, case.name, len(case.scores[mode].labels), mode]
        + [_number(getattr(case.scores[mode], metric)) for metric in METRICS]
        + [case.error or ""]
        for case in cases
        for mode in case.scores
    ]
    return _csv(["modality", "case", "labels", "mode", *METRICS, "error"], rows)


def label_csv(cases: Sequence[ScoredCase]) -> str:
    """Write a row per label."""
    rows = [
        [case.modality, case.name, score.label, mode, _number(score.dsc), _number(score.nsd)]
        for case in cases
        for mode, scores in case.scores.items()
        for score in scores.labels
    ]
    return _csv(["modality", "case", "label", "mode", *METRICS], rows)


def scores_document(cases: Sequence[ScoredCase]) -> dict[str, Any]:
    """Return the averages by mode and the scores of each case, for JSON; undefined is null."""
    modes = _modes(cases)
    return {
        "modalities": {
            name: {"cases": len(group), **_means(group, modes)}
            for name, group in by_modality(cases).items()
        },
        MEAN_OF_MODALITIES: {
            mode: {m: _or_null(mean_of_modalities(cases, mode, m)) for m in METRICS}
            for mode in modes
        },
        MEAN_OF_CASES: _means(cases, modes),
        "cases": [
            {
                "modality": case.modality,
                "case": case.name,
                "error": case.error,
                **{
                    mode: {metric: _or_null(getattr(scores, metric)) for metric in METRICS}
                    for mode, scores in case.scores.items()
                },
            }
            for case in cases
        ],
    }


def modality_table(document: Mapping[str, Any]) -> str:
    """Write DSC and NSD in percent per modality, and both averages, as Markdown.

    Args:
        document: of `scores_document`.
    """
    columns = _columns(document)
    entries = [(name, str(one["cases"]), one) for name, one in document["modalities"].items()]
    entries += [(mean.replace("_", " "), "", document[mean]) for mean in MEANS]
    rows = [
        [name, count, *(percent(entry[mode][metric]) for _, mode, metric in columns)]
        for name, count, entry in entries
    ]
    return markdown_table(["modality", "cases", *(title for title, _, _ in columns)], rows)


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a Markdown table; columns of numbers, but for the first, are aligned to the right."""
    columns = list(zip(*rows, strict=True))
    aligned = ["left", *("right" if _is_numeric(column) else "left" for column in columns[1:])]
    # Numbers stay the text they are; there is nothing to align without rows.
    return tabulate(
        rows, header, tablefmt="pipe", colalign=aligned if rows else None, disable_numparse=True
    )


def _is_numeric(column: Sequence[str]) -> bool:
    """Say whether each cell begins like a number, or is a word for a missing one."""
    return all(cell[:1] in "~+-0123456789" or cell == MEMORY_EXCEEDED for cell in column)


def percent(value: float | None) -> str:
    """Write a score in [0, 1] as percent; a dash where it is undefined."""
    return "-" if value is None else f"{100 * value:.2f}"


def percentage(value: float | None) -> float:
    """Return a score in [0, 1] as percent; NaN, which draws nothing, where it is undefined."""
    return math.nan if value is None else 100 * value


def modality_chart(document: Mapping[str, Any]) -> Figure:
    """Draw DSC and NSD per modality as bars.

    Args:
        document: of `scores_document`.
    """
    names = list(document["modalities"])
    columns = _columns(document)
    figure = Figure(figsize=(1.5 + 0.9 * len(names), 4), layout="constrained")
    axes = figure.subplots()
    series = {
        title: [percentage(document["modalities"][name][mode][metric]) for name in names]
        for title, mode, metric in columns
    }
    draw_bars(axes, names, series)
    axes.set_ylabel("%")
    axes.set_ylim(0, 100)
    figure.legend(loc="outside upper center", ncols=len(columns), frameon=False)
    return figure


def draw_bars(axes: Axes, names: Sequence[str], series: Mapping[str, Sequence[float]]) -> None:
    """Draw a group of bars for each name, one bar of each series."""
    width = 0.85 / len(series)
    for index, (title, values) in enumerate(series.items()):
        shift = (index - (len(series) - 1) / 2) * width
        axes.bar([place + shift for place in range(len(names))], values, width, label=title)
    axes.set_xticks(range(len(names)), names, rotation=35, ha="right", rotation_mode="anchor")
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)


def _columns(document: Mapping[str, Any]) -> list[tuple[str, Mode, str]]:
    """Return (title, mode, metric); the DSC of the modes is one and the same column."""
    modes = [mode for mode in MODES if mode in document[MEAN_OF_CASES]]
    if all(len({case[mode]["dsc"] for mode in modes}) == 1 for case in document["cases"]):
        shown = [("DSC", modes[0], "dsc")]
    else:
        shown = [(f"DSC, {mode}", mode, "dsc") for mode in modes]
    return shown + [(f"NSD, {mode}", mode, "nsd") for mode in modes]


def _means(cases: Sequence[ScoredCase], modes: Sequence[Mode]) -> dict[str, dict[str, Any]]:
    return {
        mode: {metric: _or_null(mean_of_cases(cases, mode, metric)) for metric in METRICS}
        for mode in modes
    }


def _modes(cases: Sequence[ScoredCase]) -> list[Mode]:
    return [mode for mode in MODES if cases and mode in cases[0].scores]


def _or_null(value: float) -> float | None:
    return None if math.isnan(value) else value


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.6f}"


def _csv(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return buffer.getvalue()
