"""The pages of results: tables and plots from the records of what was measured.

It measures nothing. A record that does not exist leaves its section of docs/results.md out; the
tables of docs/scaling.md need theirs.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from benchmarks.harness.case_scores import read_scores
from benchmarks.harness.command import Command
from benchmarks.harness.options import add_path
from benchmarks.harness.record import RESULTS_DIR
from benchmarks.report import scaling
from benchmarks.report.accuracy_tables import (
    accuracy_section,
    models_section,
    summary_section,
    volume_prompt_section,
)
from benchmarks.report.plots import accuracy_plot, cases_plot, curves_plot, engines_plot
from benchmarks.report.region_section import region_times_section, regions_section
from benchmarks.report.section import Entry
from benchmarks.report.speed_tables import (
    cases_section,
    curves_section,
    engines_section,
    layers_section,
    start_section,
)
from qmedsam.system.files import write_bytes

DEFAULT_PAGE = Path("docs/results.md")
IMAGE_DIR = "images"  # beside the page
DPI = 110
PLOTS: dict[str, Callable[[Entry], Figure]] = {
    "engines": engines_plot,
    "cases": cases_plot,
    "accuracy": accuracy_plot,
    "curves": curves_plot,
}
# By record, in the order of the page.
SECTIONS: dict[str, Callable[[Entry], list[str]]] = {
    "accuracy": accuracy_section,
    "models": models_section,
    "regions": regions_section,
    "volume-prompt": volume_prompt_section,
    "cases": cases_section,
    "region-times": region_times_section,
    "start": start_section,
    "engines": engines_section,
    "curves": curves_section,
    "layers": layers_section,
}


def read_records(folder: Path) -> dict[str, dict[str, Any]]:
    """Read every record of a folder by its name, with what is in the tables beside them."""
    records = {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}
    for name in ("accuracy", "models", "volume-prompt"):
        if name in records:
            records[name]["methods"] = read_scores(folder / f"{name}.json")
    return records


def write_plots(records: Mapping[str, Mapping[str, Any]], folder: Path) -> None:
    """Draw a plot for each record that has one."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, draw in PLOTS.items():
        if name in records:
            draw(records[name]).savefig(folder / f"results-{name}.png", dpi=DPI)


def results_page(records: Mapping[str, Mapping[str, Any]]) -> str:
    """Write the page as Markdown from the records by name."""
    parts = [
        "# Results",
        "Made by `make results` from the records in `benchmarks/results/`; every section names "
        "its command, the machine and the date. Speeds compare only within one table. Questions "
        "that are settled have their figures in [studies](studies/README.md).",
    ]
    if "accuracy" in records and "models" in records:
        parts += summary_section(records["accuracy"], records["models"])
    for name, section in SECTIONS.items():
        if name in records:
            parts += section(records[name])
            if name in PLOTS:
                parts.append(f"![{name}]({IMAGE_DIR}/results-{name}.png)")
    return "\n\n".join(parts) + "\n"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add where the records are, and where the pages go."""
    add_path(parser, "--records", RESULTS_DIR, "folder")
    add_path(parser, "--page", DEFAULT_PAGE, "to write")
    add_path(parser, "--scaling-page", scaling.DEFAULT_PAGE, "whose tables are made again")


def run(arguments: argparse.Namespace) -> int:
    """Write the page and its plots, and the tables of the page on scaling out."""
    records = read_records(arguments.records)
    if not records:
        raise FileNotFoundError(f"{arguments.records} must hold .json records, got none")
    write_plots(records, arguments.page.parent / IMAGE_DIR)
    write_bytes(arguments.page, results_page(records).encode())
    print(arguments.page)
    if "cluster" in records and "engines" in records:
        page = scaling.render(arguments.scaling_page.read_text(), records)
        write_bytes(arguments.scaling_page, page.encode())
        print(arguments.scaling_page)
    return 0


COMMAND = Command("results", __doc__, run, add_options)
