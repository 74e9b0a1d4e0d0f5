"""DSC and NSD by the rule that prompts the slices of a volume, with the float model."""

from __future__ import annotations

import argparse

from benchmarks.harness.case_scores import measure_methods
from benchmarks.harness.command import Command
from benchmarks.harness.methods import service_method
from benchmarks.harness.options import add_precision
from benchmarks.harness.predictions import Method, add_data_options
from benchmarks.harness.record import RESULTS_DIR
from qmedsam import Settings
from qmedsam.config import VOLUME_PROMPTS, Precision
from training.scoring.scores import EvaluationError


def compared_methods(precision: Precision) -> list[Method]:
    """Return the service with each rule."""
    return [
        service_method(
            Settings(variant="float", precision=precision, volume_prompt=rule), title=rule
        )
        for rule in VOLUME_PROMPTS
    ]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the precision."""
    add_data_options(parser)
    add_precision(parser, "f32")


def run(arguments: argparse.Namespace) -> int:
    """Print a table of each rule and write the record."""
    methods = compared_methods(arguments.precision)
    results = {"precision": arguments.precision}
    return measure_methods(methods, arguments, kind="3D", results=results)


COMMAND = Command(
    "volume-prompt",
    __doc__,
    run,
    add_options,
    record=RESULTS_DIR / "volume-prompt.json",
    selecting=("data",),
    expected=(EvaluationError,),
)
