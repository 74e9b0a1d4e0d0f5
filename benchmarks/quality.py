"""The quality that a model predicts of its masks against their true DSC, object by object.

`--pictures` draws the cases of which the mean DSC is lowest: found beside true outlines.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from tabulate import tabulate

from benchmarks.harness.command import Command
from benchmarks.harness.options import add_choices, add_path
from benchmarks.harness.predictions import DEFAULT_ROOT, case_paths
from benchmarks.harness.quality_scores import RatedObject, quality_document, rate_case
from benchmarks.harness.record import RESULTS_DIR, write_record, write_table
from qmedsam import ModelError, Segmenter, Settings
from qmedsam.batch.case_file import GTS_KEY, open_case
from qmedsam.batch.cases import read_case
from qmedsam.batch.overlay import draw_overlay
from qmedsam.batch.png import encode_png
from qmedsam.batch.progress import ProgressBar
from qmedsam.config import VARIANTS
from qmedsam.system.files import make_writable, write_bytes

SPLITS = ("val", "val_other", "val_large")
WORST = 10  # cases of a split that are listed and drawn
DIGITS = 4


def worst_cases(objects: Sequence[RatedObject]) -> list[dict[str, Any]]:
    """Return the cases with the lowest mean DSC of objects, and what was predicted of them."""
    cases: dict[tuple[str, str], list[RatedObject]] = {}
    for one in objects:
        cases.setdefault((one.group, one.case), []).append(one)
    means = [
        {
            "group": group,
            "case": case,
            "objects": len(found),
            "dsc": float(np.mean([one.dsc for one in found])),
            "predicted": float(np.mean([one.predicted for one in found])),
        }
        for (group, case), found in cases.items()
    ]
    return sorted(means, key=lambda mean: mean["dsc"])[:WORST]


def draw_cases(segmenter: Segmenter, paths: Sequence[Path], folder: Path) -> None:
    """Draw cases, what is found on the left and the truth on the right."""
    for path in paths:
        case = read_case(path)
        with open_case(path) as opened:
            truth = opened.array(GTS_KEY)
        found = segmenter.segment(case.pixels, case.boxes)
        boxes, rows = case.boxes.astype(np.float32), range(len(case.boxes))
        pictures = [
            draw_overlay(case.pixels, boxes, labels, objects=rows) for labels in (found, truth)
        ]
        content = encode_png(np.ascontiguousarray(np.hstack(pictures)))
        write_bytes(folder / f"{path.parent.name}-{path.stem}.png", content)


def figures_table(document: Mapping[str, Any]) -> str:
    """Return the figures of a split as Markdown."""
    names = list(document["all"])
    rows = [
        [group, *(row[name] for name in names)]
        for group, row in [*document["groups"].items(), ("all objects", document["all"])]
    ]
    return tabulate(rows, ["", *names], tablefmt="pipe", floatfmt=".3f")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what is rated."""
    add_path(parser, "--data", DEFAULT_ROOT.parent, "folder of the splits")
    add_choices(parser, "--splits", SPLITS, "folders of modalities")
    parser.add_argument(
        "--variant", choices=VARIANTS, default="auto", help="model (default: %(default)s)"
    )
    parser.add_argument("--model-dir", type=Path, help="an exported model instead")
    parser.add_argument("--pictures", type=Path, help=f"folder for the {WORST} worst of each split")


def run(arguments: argparse.Namespace) -> int:
    """Print a table of each split and write the record."""
    segmenter = Segmenter(arguments.model_dir, Settings(variant=arguments.variant))
    splits, rows = {}, []
    for split in arguments.splits:
        paths = case_paths(arguments.data / split)
        objects = []
        bar = ProgressBar(len(paths), sys.stderr)
        for path in paths:
            objects += rate_case(segmenter, path)
            bar.advance(path.stem)
        bar.close()
        if not objects:
            raise ModelError(f"{segmenter.model_dir} does not predict the quality of its masks")
        worst = worst_cases(objects)
        splits[split] = {**quality_document(objects), "worst": worst}
        rows += [{"split": split, **_rounded(one)} for one in objects]
        print(f"{split}\n\n{figures_table(splits[split])}\n", flush=True)
        if arguments.pictures is not None:
            chosen = {(case["group"], case["case"]) for case in worst}
            drawn = [path for path in paths if (path.parent.name, path.stem) in chosen]
            draw_cases(segmenter, drawn, make_writable(arguments.pictures / split))
    manifest = segmenter.network.manifest
    model = {"name": manifest.name, "weights": manifest.precision}
    write_record(arguments.json, {"model": model, "splits": splits})
    write_table(arguments.json, rows)
    return 0


def _rounded(one: RatedObject) -> dict[str, Any]:
    return {**asdict(one), "predicted": round(one.predicted, DIGITS), "dsc": round(one.dsc, DIGITS)}


COMMAND = Command(
    "quality",
    __doc__,
    run,
    add_options,
    record=RESULTS_DIR / "quality.json",
    selecting=("data", "splits", "model_dir"),
)
