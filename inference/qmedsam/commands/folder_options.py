"""Options of the commands that run a folder of cases."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from ..batch.report import is_own_report
from ..config import ON_ERROR, OnError
from ..errors import UsageError

ON_ERROR_VARIABLE = "QMEDSAM_ON_ERROR"
DEFAULT_ON_ERROR: OnError = "skip"


def add_case_options(parser: argparse.ArgumentParser) -> None:
    """Add what becomes of cases that fail, of those that are done already, and the report."""
    parser.add_argument(
        "--on-error",
        choices=ON_ERROR,
        help="what a case leaves that cannot be segmented: nothing, or a label map of background "
        f"where its shape can be read (default: ${ON_ERROR_VARIABLE}, or {DEFAULT_ON_ERROR} where "
        "that is empty)",
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="keep the label maps that are there of the same inputs, model and settings, and run "
        "the other cases",
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace files that no earlier run has left (default: label maps, pictures and a "
        "report of earlier runs alone)",
    )
    parser.add_argument(
        "--report", type=Path, metavar="FILE", help="also write what happened as JSON here"
    )


def check_report(path: Path, *, overwrites: bool) -> None:
    """Check that a report may be written where it is wanted.

    Raises:
        UsageError: there is a folder, or a file that no earlier run has left, or none can be.
    """
    try:
        is_folder, is_there = path.is_dir(), path.exists()
    except OSError as error:
        raise UsageError(f"Report {path} cannot be written: {error}") from error
    if is_folder:
        raise UsageError(f"Report {path} must be a file, got a folder")
    if is_there and not overwrites and not is_own_report(path):
        raise UsageError(f"Report {path} is no report of an earlier run; --overwrite replaces it")


def read_on_error(arguments: argparse.Namespace) -> OnError:
    """Return what becomes of a case that fails, by the option or else the environment.

    Raises:
        UsageError: the environment says something else than the option may.
    """
    said = arguments.on_error or os.environ.get(ON_ERROR_VARIABLE) or DEFAULT_ON_ERROR
    for on_error in ON_ERROR:
        if said == on_error:
            return on_error
    raise UsageError(f"${ON_ERROR_VARIABLE} must be one of {ON_ERROR}, got {said!r}")
