"""Whole images against regions round the boxes: DSC, contour NSD and GMACs by modality.

GMACs are the encoder's of a case. Folders of data sets inside those of modalities get a row each.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness.case_scores import Scores, score_methods, write_scores
from benchmarks.harness.command import Command
from benchmarks.harness.methods import service_method
from benchmarks.harness.options import add_choices
from benchmarks.harness.predictions import Method, add_data_options, case_paths
from benchmarks.harness.record import RESULTS_DIR, write_record
from qmedsam import Settings
from qmedsam.batch.cases import read_outline
from qmedsam.batch.cost import planner_of, read_works
from qmedsam.config import REGIONS, VARIANTS, Regions, Variant
from qmedsam.core.work import encoder_gmacs
from training.scoring.score_tables import markdown_table
from training.scoring.scores import EvaluationError, ScoredCase, by_modality, mean_of_cases

MODE, METRICS = "correct", ("dsc", "nsd")
Gmacs = Mapping[str, Mapping[str, float]]  # of the cases by setting and by modality and name
MODELS = tuple(variant for variant in VARIANTS if variant != "auto")


def compared_methods(variants: Sequence[Variant]) -> list[Method]:
    """Return each model with either setting, whole images first."""
    return [
        service_method(Settings(variant=variant, regions=regions), title=f"{variant}, {regions}")
        for variant in variants
        for regions in reversed(REGIONS)
    ]


def encoder_gmacs_of(paths: Sequence[Path], regions: Regions) -> dict[str, float]:
    """Return what the encoder takes for each case, as it is planned."""
    planner = planner_of(Settings(regions=regions), None)
    works = read_works(paths, planner, read_outline)
    whole = encoder_gmacs(planner.whole_grid)
    return {_name(path): work.slices * whole for path, work in zip(paths, works, strict=True)}


def change_table(whole: Sequence[ScoredCase], auto: Sequence[ScoredCase], gmacs: Gmacs) -> str:
    """Return a table of both settings of one model: modalities down, then the mean of these."""
    rows, means = [], []
    of_auto = by_modality(auto)
    for modality, cases in by_modality(whole).items():
        values = [
            *(
                100 * mean_of_cases(group, MODE, m)
                for m in METRICS
                for group in (cases, of_auto[modality])
            ),
            *(
                statistics.fmean(gmacs[setting][f"{modality}/{case.name}"] for case in cases)
                for setting in reversed(REGIONS)
            ),
        ]
        means.append(values)
        rows.append([modality, str(len(cases)), *_cells(values)])
    mean = [statistics.fmean(column) for column in zip(*means, strict=True)]
    rows.append(["mean of rows", "", *_cells(mean)])
    header = ["modality", "cases", "DSC", "regions", "change", "NSD", "regions", "change"]
    return markdown_table([*header, "GMACs", "regions"], rows)


def changes(whole: Sequence[ScoredCase], auto: Sequence[ScoredCase]) -> dict[str, Any]:
    """Return the median and the mean change over cases, and that of the worst modality."""
    found: dict[str, Any] = {}
    for metric in METRICS:
        pairs = zip(whole, auto, strict=True)
        by_case = [
            100 * (getattr(after.scores[MODE], metric) - getattr(before.scores[MODE], metric))
            for before, after in pairs
        ]
        before, after = by_modality(whole), by_modality(auto)
        by_row = {
            name: 100
            * (mean_of_cases(after[name], MODE, metric) - mean_of_cases(cases, MODE, metric))
            for name, cases in before.items()
        }
        worst = min(by_row, key=lambda name: by_row[name])
        found[metric] = {
            "median": statistics.median(by_case),
            "mean": statistics.fmean(by_case),
            "worst": worst,
            "worst_change": by_row[worst],
        }
    return found


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what is compared."""
    add_data_options(parser)
    add_choices(parser, "--variants", MODELS, "models that ship")


def run(arguments: argparse.Namespace) -> int:
    """Print a table of each model and write the record."""
    paths = case_paths(arguments.data)
    gmacs = {regions: encoder_gmacs_of(paths, regions) for regions in REGIONS}
    scores: Scores = score_methods(compared_methods(arguments.variants), paths, arguments.work_dir)
    results: dict[str, Any] = {"gmacs": gmacs, "changes": {}}
    for variant in arguments.variants:
        whole, auto = scores[f"{variant}, whole"], scores[f"{variant}, auto"]
        results["changes"][variant] = found = changes(whole, auto)
        print(f"{variant}\n\n{change_table(whole, auto, gmacs)}\n\n{found}\n", flush=True)
    write_record(arguments.json, results)
    write_scores(arguments.json, scores)
    return 0


def _name(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


def _cells(values: Sequence[float]) -> list[str]:
    """Write scores before and after with their change, and GMACs."""
    dsc, dsc_regions, nsd, nsd_regions, *gmacs = values
    cells = []
    for before, after in ((dsc, dsc_regions), (nsd, nsd_regions)):
        cells += [f"{before:.1f}", f"{after:.1f}", f"{after - before:+.1f}"]
    return [*cells, *(f"{value:.1f}" for value in gmacs)]


COMMAND = Command(
    "regions",
    __doc__,
    run,
    add_options,
    record=RESULTS_DIR / "regions.json",
    selecting=("data", "variants"),
    expected=(EvaluationError,),
)
