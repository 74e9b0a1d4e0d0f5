"""How the benchmarks' commands begin and end: records kept whole, failures in a sentence."""

from __future__ import annotations

import argparse
import logging
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from qmedsam import InferenceError
from training.checkpoint import CheckpointError
from training.data.volumes import DataError
from training.graphs.check import ExportError
from training.scoring.scores import EvaluationError

logger = logging.getLogger(__name__)

NOTHING_RAN = 2
# What a missing folder, checkpoint or model leads to, and a process that did not end well.
EXPECTED_ERRORS = (
    OSError,
    InferenceError,
    CheckpointError,
    ExportError,
    EvaluationError,
    DataError,
    subprocess.CalledProcessError,
)


def add_record_option(parser: argparse.ArgumentParser, record: Path | None) -> None:
    """Add --json, where the record goes; None leaves its default to the command."""
    parser.add_argument(
        "--json",
        type=Path,
        default=record,
        help=f"record of the run (default: {record or 'named after what is compared'})",
    )


def keep_record(
    parser: argparse.ArgumentParser, arguments: argparse.Namespace, selecting: Sequence[str]
) -> None:
    """End the program where a part of a run would overwrite the record of the whole.

    Args:
        parser: of the command, with `add_record_option`.
        arguments: of this run.
        selecting: names of options that leave a part out, or take other data, unless at default.
    """
    record = parser.get_default("json")
    for name in selecting:
        is_whole = getattr(arguments, name) == parser.get_default(name)
        if arguments.json == record and not is_whole:
            parser.error(f"--{name} needs a --json of its own: {record} is of a whole run")


def run_command(body: Callable[[], int]) -> int:
    """Return the exit status of a command; an expected failure is said in a line and gives 2."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    try:
        return body()
    except EXPECTED_ERRORS as error:
        logger.error("%s", error)
        return NOTHING_RAN
