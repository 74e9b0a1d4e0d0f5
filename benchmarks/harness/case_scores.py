"""Scores of the cases by several methods: made of label maps, and kept as a table.

The table has a row for each method and case; all averages are made of it.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness.predictions import Method, case_paths, predict_cases
from benchmarks.harness.record import read_table, write_record, write_table
from training.scoring.metrics import MODES, CaseScore
from training.scoring.score_tables import METRICS, modality_table, scores_document
from training.scoring.scores import Pair, ScoredCase, score_pairs

DIGITS = 6  # two more than the tables show
Scores = Mapping[str, Sequence[ScoredCase]]


def score_methods(
    methods: Sequence[Method], paths: Sequence[Path], work_dir: Path
) -> dict[str, list[ScoredCase]]:
    """Predict and score the cases by each method, and print a table of each.

    Returns:
        The scores by the methods' titles.
    """
    scores = {}
    for method in methods:
        folder = predict_cases(method, paths, work_dir)
        scores[method.title] = score_folder(folder, paths, title=method.title)
        table = modality_table(scores_document(scores[method.title]))
        print(f"{method.title}\n\n{table}\n", flush=True)
    return scores


def score_folder(folder: Path, paths: Sequence[Path], *, title: str) -> list[ScoredCase]:
    """Score the label maps `folder`/<Modality>/ of cases."""
    pairs = [Pair(path.parent.name, path, folder / path.parent.name / path.name) for path in paths]
    workers = len(os.sched_getaffinity(0))
    return score_pairs(pairs, MODES, workers=workers, title=f"score {title}")


def measure_methods(
    methods: Sequence[Method],
    arguments: argparse.Namespace,
    *,
    kind: str = "all",
    results: Mapping[str, Any] | None = None,
) -> int:
    """Score the methods and write the record with its table.

    Args:
        methods: to compare.
        arguments: of `add_data_options`, and where the record goes.
        kind: of the cases: 2D, 3D or all.
        results: further entries of the record.
    """
    paths = case_paths(arguments.data, kind)
    scores = score_methods(methods, paths, arguments.work_dir)
    write_record(arguments.json, results or {})
    write_scores(arguments.json, scores)
    return 0


def write_scores(record: Path, scores: Scores) -> None:
    """Write the table of scores beside a record."""
    rows = [
        {"method": title, "modality": case.modality, "case": case.name}
        | {
            f"{mode}_{metric}": round(getattr(case.scores[mode], metric), DIGITS)
            for mode in MODES
            for metric in METRICS
        }
        for title, cases in scores.items()
        for case in cases
    ]
    write_table(record, rows)


def read_scores(record: Path) -> dict[str, dict[str, Any]]:
    """Read the table of a record: documents of `scores_document` by method; empty without one."""
    cases: dict[str, list[ScoredCase]] = {}
    for row in read_table(record):
        scores = {
            mode: CaseScore(dsc=float(row[f"{mode}_dsc"]), nsd=float(row[f"{mode}_nsd"]), labels=())
            for mode in MODES
        }
        cases.setdefault(row["method"], []).append(ScoredCase(row["modality"], row["case"], scores))
    return {title: scores_document(scored) for title, scored in cases.items()}
