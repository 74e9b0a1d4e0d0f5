"""DSC and NSD by modality of the PyTorch baseline, the service and its peers.

Images and volumes are scored whole. The baseline remembers the embeddings of a case between its
boxes, which changes its time and not its masks. Models that do not exist are left out.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from benchmarks.harness.case_scores import measure_methods
from benchmarks.harness.command import Command
from benchmarks.harness.methods import baseline_method, service_method
from benchmarks.harness.options import add_choices, add_path
from benchmarks.harness.peers import (
    NNCF_DIR,
    NNCF_TITLE,
    OWN_INT8_DIR,
    OWN_INT8_TITLE,
    PLAIN_DIR,
    is_made_from,
)
from benchmarks.harness.predictions import Method, add_data_options
from benchmarks.harness.record import RESULTS_DIR
from qmedsam import Settings
from qmedsam.config import Precision
from training.published import DEFAULT_PATH, CheckpointError
from training.scoring.scores import EvaluationError

logger = logging.getLogger(__name__)

# Folder and title of quantized models; their other layers run in either precision.
QUANTIZED = {"nncf": (NNCF_DIR, NNCF_TITLE), "qat": (OWN_INT8_DIR, OWN_INT8_TITLE)}
PRECISIONS: tuple[Precision, ...] = ("f32", "bf16")


def compared_methods(checkpoint: Path, precisions: Sequence[Precision]) -> list[Method]:
    """Return the columns of the table."""
    methods = [baseline_method(checkpoint)]
    for precision in precisions:
        methods.append(shipped_method(precision))
        methods.extend(quantized_methods(precision))
    return methods


def shipped_method(precision: Precision) -> Method:
    """Return the service with the float model that ships."""
    return service_method(
        Settings(variant="float", precision=precision), title=f"service {precision}"
    )


def quantized_methods(precision: Precision) -> list[Method]:
    """Return the service with each quantized model that exists; a missing one is logged."""
    methods = []
    for name, (folder, title) in QUANTIZED.items():
        if not folder.is_dir():
            logger.warning("%s is left out: %s does not exist", title, folder)
        elif folder == NNCF_DIR and not is_made_from(folder, PLAIN_DIR):
            logger.warning("%s is left out: %s is of another float model", title, folder)
        else:
            settings = Settings(precision=precision)
            words = f"{title}, other layers in {precision}"
            methods.append(service_method(settings, title=words, model=name, model_dir=folder))
    return methods


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what is compared."""
    add_data_options(parser)
    add_path(parser, "--checkpoint", DEFAULT_PATH, "weights")
    add_choices(parser, "--precision", PRECISIONS, "of the layers that are not in int8")


def run(arguments: argparse.Namespace) -> int:
    """Print a table of each method and write the record."""
    methods = compared_methods(arguments.checkpoint, arguments.precision)
    return measure_methods(methods, arguments)


COMMAND = Command(
    "accuracy",
    __doc__,
    run,
    add_options,
    record=RESULTS_DIR / "accuracy.json",
    selecting=("precision", "data"),
    expected=(CheckpointError, EvaluationError),
)
