"""How the benchmarks' commands end: an expected failure is a sentence and a status."""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Callable

from inference import InferenceError
from training.checkpoint import CheckpointError
from training.export import ExportError
from training.scores import EvaluationError

logger = logging.getLogger(__name__)

NOTHING_RAN = 2
# What a missing folder, checkpoint or model leads to, and a process that did not end well.
EXPECTED_ERRORS = (
    OSError,
    InferenceError,
    CheckpointError,
    ExportError,
    EvaluationError,
    subprocess.CalledProcessError,
)


def run_command(body: Callable[[], int]) -> int:
    """Return the exit status of a command; an expected failure is said in a line and gives 2."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    try:
        return body()
    except EXPECTED_ERRORS as error:
        logger.error("%s", error)
        return NOTHING_RAN
