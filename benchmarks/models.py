"""DSC and NSD by modality of exported models: samplers, quantization schemes, whatever was varied.

    python -m benchmarks models --model A=DIR --model B=DIR

All run in the service; what their manifests say of their training is recorded.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.harness.case_scores import measure_methods
from benchmarks.harness.command import Command
from benchmarks.harness.methods import service_method
from benchmarks.harness.options import add_precision
from benchmarks.harness.predictions import add_data_options
from benchmarks.harness.record import RESULTS_DIR
from qmedsam import Settings
from qmedsam.core.contract import MANIFEST_FILE
from training.scoring.scores import EvaluationError


def training_of(model_dir: Path) -> list[dict[str, Any]]:
    """Return the stages that an exported model was trained in: name, and steps and images kept."""
    manifest = json.loads((model_dir / MANIFEST_FILE).read_text(encoding="utf-8"))
    return [
        {
            "stage": stage["recipe"]["name"],
            "steps": stage["steps"],
            "images": stage["images"],
        }
        for stage in manifest.get("training", [])
    ]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the models."""
    add_data_options(parser)
    add_precision(parser, "f32")
    parser.add_argument(
        "--model",
        action="append",
        required=True,
        type=_named_folder,
        metavar="NAME=DIR",
        help="exported model to compare; may be repeated",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print a table of each model and write the record."""
    models = dict(arguments.model)
    methods = [
        service_method(
            Settings(precision=arguments.precision), title=title, model=title, model_dir=folder
        )
        for title, folder in models.items()
    ]
    training = {title: training_of(folder) for title, folder in models.items()}
    results = {"precision": arguments.precision, "training": training}
    return measure_methods(methods, arguments, results=results)


def _named_folder(text: str) -> tuple[str, Path]:
    name, separator, folder = text.partition("=")
    if not (name and separator and Path(folder).is_dir()):
        raise argparse.ArgumentTypeError(f"must be NAME=DIR of an exported model, got {text!r}")
    return name, Path(folder)


COMMAND = Command(
    "models",
    __doc__,
    run,
    add_options,
    record=RESULTS_DIR / "models.json",
    selecting=("data",),
    expected=(EvaluationError,),
)
