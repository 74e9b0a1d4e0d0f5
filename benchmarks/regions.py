"""Whole images against regions round the boxes: DSC, contour NSD and GMACs by modality.

GMACs are the encoder's of a case. Folders of data sets inside those of modalities get a row each.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness.case_scores import Scores, score_methods, write_scores
from benchmarks.harness.command import Command
from benchmarks.harness.methods import service_method
from benchmarks.harness.options import add_choices, add_path
from benchmarks.harness.predictions import DEFAULT_ROOT, Method, add_work_dir, case_paths
from benchmarks.harness.record import RESULTS_DIR, write_record
from benchmarks.harness.region_table import SETTINGS, compared, region_table
from qmedsam import Settings
from qmedsam.batch.cases import read_outline
from qmedsam.batch.cost import planner_of, read_works
from qmedsam.config import VARIANTS, Regions, Variant
from qmedsam.core.work import encoder_gmacs
from training.scoring.scores import EvaluationError, ScoredCase

MODELS = tuple(variant for variant in VARIANTS if variant != "auto")
SPLITS = ("val", "val_other", "val_large")


def compared_methods(variants: Sequence[Variant]) -> dict[tuple[Variant, Regions], Method]:
    """Return each model with either setting, whole images first."""
    return {
        (variant, regions): service_method(
            Settings(variant=variant, regions=regions), title=f"{variant}, {regions}"
        )
        for variant in variants
        for regions in SETTINGS
    }


def encoder_gmacs_of(paths: Sequence[Path], regions: Regions) -> dict[str, float]:
    """Return what the encoder takes for each case, as it is planned."""
    planner = planner_of(Settings(regions=regions), None)
    works = read_works(paths, planner, read_outline)
    whole = encoder_gmacs(planner.whole_grid)
    return {
        f"{path.parent.name}/{path.stem}": work.slices * whole
        for path, work in zip(paths, works, strict=True)
    }


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what is compared."""
    add_path(parser, "--data", DEFAULT_ROOT.parent, "folder of the splits")
    add_choices(parser, "--splits", SPLITS, "folders of modalities")
    add_work_dir(parser)
    add_choices(parser, "--variants", MODELS, "models that ship")


def run(arguments: argparse.Namespace) -> int:
    """Print a table of each split and model, and write the record."""
    methods = compared_methods(arguments.variants)
    splits: dict[str, dict[str, Any]] = {}
    scores: dict[str, list[ScoredCase]] = {}
    for split in arguments.splits:
        paths = case_paths(arguments.data / split)
        gmacs = {regions: encoder_gmacs_of(paths, regions) for regions in SETTINGS}
        found: Scores = score_methods(list(methods.values()), paths, arguments.work_dir / split)
        scores |= {f"{split}, {title}": list(cases) for title, cases in found.items()}
        splits[split] = {"gmacs": {one: sum(gmacs[one].values()) for one in SETTINGS}}
        for variant in arguments.variants:
            scored = {one: found[methods[variant, one].title] for one in SETTINGS}
            splits[split][variant] = comparison = compared(scored, gmacs)
            print(f"{split}, {variant}\n\n{region_table(comparison['rows'])}\n", flush=True)
            print(f"{comparison['changes']}\n", flush=True)
    write_record(arguments.json, {"splits": splits})
    write_scores(arguments.json, scores)
    return 0


COMMAND = Command(
    "regions",
    __doc__,
    run,
    add_options,
    record=RESULTS_DIR / "regions.json",
    selecting=("data", "splits", "variants"),
    expected=(EvaluationError,),
)
