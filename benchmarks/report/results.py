"""The results page: tables and plots from the records of the runs.

    python -m benchmarks.report.results

It measures nothing. A record that does not exist leaves its section out.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.harness.record import RESULTS_DIR
from benchmarks.report.plots import accuracy_plot, cases_plot, curves_plot, engines_plot, soak_plot
from benchmarks.report.speed_tables import (
    cases_section,
    curves_section,
    engines_section,
    layers_section,
    limits_section,
    scaling_section,
    soak_section,
    start_section,
)
from benchmarks.report.tables import (
    accuracy_section,
    case_losses,
    data_section,
    masks_section,
    provenance,
    scores_by_modality,
    trained_steps,
    worst_changes,
)
from qmedsam.system.files import write_bytes

DEFAULT_PAGE = Path("docs/results.md")
IMAGE_DIR = "images"  # beside the page
DPI = 110
PLOTS = {
    "engines": engines_plot,
    "engines-before": engines_plot,
    "engines-before-no-amx": engines_plot,
    "cases": cases_plot,
    "accuracy": accuracy_plot,
    "curves": curves_plot,
    "soak": soak_plot,
}
ABLATIONS = {
    "volume-prompt": (
        "Volume prompt",
        "Which box prompts a slice: the object's own (`fixed`), from the middle slice outward the "
        "box of the neighbour's mask (`propagate`), or that limited by the own box (`hybrid`).",
    ),
    "preprocessing": (
        "Resizing and the order of padding",
        "Interpolation to 256 pixels, and zeros padded after or before the image is mapped to "
        "0..1. As served, linear shrinks and cubic enlarges, and padding comes after.",
    ),
    "threshold": (
        "Threshold before or after upsampling",
        "Logits are upsampled and then thresholded as served; the paper thresholds the 256-pixel "
        "logits and resizes the binary mask.",
    ),
    "window": (
        "Windows round boxes",
        "How much of the embedding is decoded for a box: the whole, or a square that holds the box "
        "and a margin of pixels of the embedding, 2 as served; what lies outside is background.",
    ),
    "models": (
        "Quantization",
        "The service with models quantized in different ways. `paper` is QMedSAM's scheme, 8 bits "
        "per tensor, symmetric, in encoder and decoder; `deploy` is what ships, 8 bits in the "
        "encoder, weights per channel, activations with a zero point.",
    ),
}
ENGINES = {
    "engines": "Engines (Table 5)",
    "engines-before": "Engines before the decoder was folded (Tables 5 and 6)",
    "engines-before-no-amx": "Engines before the decoder was folded, VNNI without AMX",
}
FIGURES = {
    "good": "Good cases: image and boxes, truth, float baseline, service (Figure 2 of the paper); "
    "the numbers are the DSC of the whole case.",
    "bad": "Bad cases (Figure 3 of the paper).",
}


def read_records(folder: Path) -> dict[str, dict[str, Any]]:
    """Read every record of a folder by its name."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}


def write_plots(records: Mapping[str, Mapping[str, Any]], folder: Path) -> None:
    """Draw a plot for each record that has one."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, draw in PLOTS.items():
        if name in records:
            draw(records[name]).savefig(folder / f"results-{name}.png", dpi=DPI)


def results_page(records: Mapping[str, Mapping[str, Any]]) -> str:
    """Write the page as Markdown from the records by name."""
    sections = [
        "# Results",
        "Made by `make results` from the records in `benchmarks/results/`; every section names "
        "its command, the machine and the date. Speeds compare only within one table.",
    ]
    for name, title in ENGINES.items():
        if name in records:
            sections += [*engines_section(records[name], title), _plot(name)]
    if "cases" in records:
        sections += [*cases_section(records["cases"]), _plot("cases")]
    if "start" in records:
        sections += start_section(records["start"])
    if "curves" in records:
        sections += [*curves_section(records["curves"]), _plot("curves")]
    if "soak" in records:
        sections += [*soak_section(records["soak"]), _plot("soak")]
    for name, section in (
        ("limits", limits_section),
        ("scaling", scaling_section),
        ("layers", layers_section),
    ):
        if name in records:
            sections += section(records[name])
    if "masks" in records:
        sections += masks_section(records["masks"])
    if "accuracy" in records:
        sections += [*accuracy_section(records["accuracy"]), _plot("accuracy")]
    sections += _ablation_sections(records)
    if "data-reading" in records:
        sections += data_section(records["data-reading"])
    if "figures" in records:
        sections.append("## Figures")
        for kind, text in FIGURES.items():
            sections.append(f"![{text}]({IMAGE_DIR}/figure-{kind}.png)\n\n*{text}*")
        sections.append(provenance(records["figures"], records["figures"]["terms"]))
    return "\n\n".join(sections) + "\n"


def _ablation_sections(records: Mapping[str, Mapping[str, Any]]) -> list[str]:
    sections = []
    for name, (title, text) in ABLATIONS.items():
        record = records.get(f"ablation-{name}")
        if record is not None:
            methods = record["methods"]
            sections += [f"### {title}", text, *scores_by_modality(methods)]
            if name == "window":
                sections.append(case_losses(methods, of="whole"))
            if name == "models":
                sections += [*worst_changes(methods), *trained_steps(record["training"])]
            sections.append(provenance(record, f"Precision {record['precision']}."))
    return ["## Ablations", *sections] if sections else []


def _plot(name: str) -> str:
    return f"![{name}]({IMAGE_DIR}/results-{name}.png)"


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of `python -m benchmarks.report.results`."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.report.results",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--records", type=Path, default=RESULTS_DIR, help="folder (default: %(default)s)"
    )
    parser.add_argument(
        "--page", type=Path, default=DEFAULT_PAGE, help="to write (default: %(default)s)"
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Write the page and its plots; 2 without a record."""
    arguments = build_parser().parse_args(argv)
    records = read_records(arguments.records)
    if not records:
        print(f"{arguments.records} must hold .json records, got none", file=sys.stderr)
        return 2
    images = arguments.page.parent / IMAGE_DIR
    write_plots(records, images)
    write_bytes(arguments.page, results_page(records).encode())
    print(arguments.page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
