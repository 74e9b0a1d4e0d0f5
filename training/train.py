"""Train one stage of a recipe.

    python -m training.train --recipe training/recipes/deploy-1-encoder.toml --data DATA/train \
        --val DATA/val --output-dir runs/a

Under `torchrun` the same command trains on several devices and machines.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path

from qmedsam.exit_status import NOTHING_RAN
from training.data.volumes import DataError
from training.loop.recipe import RecipeError
from training.loop.starting import check_beforehand
from training.options import add_network_option
from training.published import DEFAULT_PATH, CheckpointError

logger = logging.getLogger(__name__)


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of `python -m training.train`."""
    parser = argparse.ArgumentParser(
        prog="python -m training.train",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--recipe", type=Path, required=True, help="TOML of the stage")
    parser.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="changes to the recipe, such as data.slices=900",
    )
    parser.add_argument(
        "--data", type=Path, required=True, metavar="DIR", help="folder of modalities to train on"
    )
    parser.add_argument(
        "--val",
        type=Path,
        nargs="+",
        required=True,
        metavar="DIR",
        help="folders of modalities to choose the best epoch by",
    )
    parser.add_argument(
        "--output-dir", type=Path, required=True, help="gets checkpoints, CSV and curves"
    )
    parser.add_argument(
        "--init",
        type=Path,
        help="what to start from: best.pt of a stage, or published weights (default: LiteMedSAM's, "
        f"{DEFAULT_PATH}; stages that follow another need it)",
    )
    add_network_option(parser)
    parser.add_argument(
        "--checkpoint",
        type=Path,
        default=DEFAULT_PATH,
        help="LiteMedSAM as the teacher (default: %(default)s)",
    )
    parser.add_argument(
        "--teacher", type=Path, help="MedSAM as the teacher instead (default: LiteMedSAM)"
    )
    parser.add_argument(
        "--teacher-cache",
        type=Path,
        help="folder for the teacher's embeddings, 2 MB an image (default: none are kept)",
    )
    parser.add_argument(
        "--calibrate-only",
        action="store_true",
        help="write start.pt, the network before the first step, and stop",
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on where a run in --output-dir was stopped"
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Train one stage; 0 when it is done, 2 when nothing could run."""
    arguments = build_parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    if "RANK" not in os.environ:  # of several processes the first one alone may have the files
        try:
            check_beforehand(arguments)
        except (CheckpointError, DataError, OSError, RecipeError) as error:
            logger.error("%s", error)
            return NOTHING_RAN
    # Here, as torch and Brevitas take four seconds.
    from training.loop.command import train

    return train(arguments)


if __name__ == "__main__":
    sys.exit(main())
