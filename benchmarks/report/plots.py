"""Records as plots."""

from __future__ import annotations

import math

from matplotlib.figure import Figure

from benchmarks.report.section import Entry
from training.scoring.score_tables import draw_bars, percentage

ENGINE_COLOURS = {"PyTorch": "tab:red", "ONNX Runtime": "tab:gray", "OpenVINO": "tab:blue"}


def speed_up(baseline: Entry, service: Entry) -> float:
    """Return how many times less one case takes; NaN where a method ran into its limit."""
    if baseline["is_out_of_memory"] or service["is_out_of_memory"]:
        return math.nan
    return float(baseline["s"] / service["s"])


def engines_plot(record: Entry) -> Figure:
    """Draw the seconds of every row as bars, a panel per network."""
    networks = list(dict.fromkeys(row["network"] for row in record["rows"]))
    longest = max(sum(row["network"] == name for row in record["rows"]) for name in networks)
    figure = Figure(figsize=(5.5 * len(networks), 1.2 + 0.36 * longest), layout="constrained")
    panels = figure.subplots(1, len(networks), squeeze=False)[0]
    for axes, network in zip(panels, networks, strict=True):
        rows = [row for row in record["rows"] if row["network"] == network][::-1]
        medians = [1000 * row["whole"]["median_s"] for row in rows]
        low = [1000 * (row["whole"]["median_s"] - row["whole"]["min_s"]) for row in rows]
        high = [1000 * (row["whole"]["max_s"] - row["whole"]["median_s"]) for row in rows]
        names = [f"{row['engine']}, {row['precision']}" for row in rows]
        colours = [ENGINE_COLOURS[row["engine"]] for row in rows]
        axes.barh(names, medians, xerr=[low, high], color=colours, error_kw={"lw": 1})
        axes.set_xlabel("ms for one image and one box")
        axes.set_title(network)
        axes.grid(axis="x", alpha=0.3)
        axes.set_axisbelow(True)
    return figure


def cases_plot(record: Entry) -> Figure:
    """Draw how many times faster than the baseline each case is."""
    *services, baseline = record["cases"][0]["methods"]
    figure = Figure(figsize=(9, 4.4), layout="constrained")
    axes = figure.subplots()
    ratios = {
        service: [
            speed_up(case["methods"][baseline], case["methods"][service])
            for case in record["cases"]
        ]
        for service in services
    }
    draw_bars(axes, [case["case"] for case in record["cases"]], ratios)
    axes.axhline(1, color="black", lw=0.8)
    axes.set_ylabel(f"times faster than\n{baseline}")
    axes.legend(frameon=False)
    return figure


def curves_plot(record: Entry) -> Figure:
    """Draw seconds and memory against boxes and against slices, a line for each precision."""
    curves = record["curves"]
    figure = Figure(figsize=(9, 6), layout="constrained")
    panels = figure.subplots(2, len(curves), squeeze=False)
    for column, (kind, by_precision) in zip(panels.T, curves.items(), strict=True):
        for precision, points in by_precision.items():
            counts = [point["count"] for point in points]
            for axes, key in zip(column, ("s", "peak_mb"), strict=True):
                values = [point[key] for point in points]
                axes.plot(counts, values, marker="o", label=f"other layers in {precision}")
        for axes, label in zip(column, ("seconds", "peak memory, MB"), strict=True):
            axes.set_xlabel(kind)
            axes.set_ylabel(label)
            axes.set_ylim(0, 1.05 * axes.get_ylim()[1])
            axes.grid(alpha=0.3)
            axes.legend(frameon=False)
    return figure


def accuracy_plot(record: Entry) -> Figure:
    """Draw the DSC of every method by modality."""
    methods = record["methods"]
    modalities = list(next(iter(methods.values()))["modalities"])
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    axes = figure.subplots()
    series = {
        title: [percentage(found["modalities"][name]["correct"]["dsc"]) for name in modalities]
        for title, found in methods.items()
    }
    draw_bars(axes, modalities, series)
    axes.set_ylabel("DSC, %")
    axes.set_ylim(0, 100)
    figure.legend(loc="outside upper center", ncols=min(len(methods), 5), frameon=False)
    return figure
