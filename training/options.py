"""What commands of training share, and what can be said of their arguments before torch is there.

Importing torch and Brevitas takes four seconds, so that commands check first and import then.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from qmedsam.system.files import make_writable
from training.published import DEFAULT_PATH, CheckpointError, check_is_file

LITE_MEDSAM, MEDSAM = NETWORKS = ("lite_medsam", "medsam")  # of which weights are published


def add_network_option(parser: argparse.ArgumentParser) -> None:
    """Let a command be told which network the published weights are of that it loads."""
    parser.add_argument(
        "--network",
        choices=NETWORKS,
        default=LITE_MEDSAM,
        help="which network published weights are of (default: %(default)s)",
    )


def weights_path(network: str, path: Path | None, option: str) -> Path:
    """Return the checkpoint that a command begins with, which is there.

    Args:
        network: whose published weights it may be.
        path: as given; None is where LiteMedSAM's are fetched to.
        option: by which it is given, for messages.

    Raises:
        CheckpointError: it is missing, a folder, or not given though it has no place of its own.
    """
    if path is None and network != LITE_MEDSAM:
        raise CheckpointError(f"--network {network} needs {option}: nothing is fetched of it")
    path = DEFAULT_PATH if path is None else path
    check_is_file(path)
    return path


def output_folder(path: Path) -> Path:
    """Make a folder to write in.

    Raises:
        OSError: it is a file, or cannot be written; the message names it.
    """
    try:
        return make_writable(path)
    except FileExistsError as error:
        raise OSError(f"--output-dir must be a folder, {path} is a file") from error
    except OSError as error:
        raise OSError(f"--output-dir {path} cannot be written: {error}") from error
