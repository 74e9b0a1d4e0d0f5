"""Train one stage of a recipe.

    python -m training.train --recipe training/recipes/deploy-1-encoder.toml --output-dir runs/a

Under `torchrun` the same command trains on several devices and machines.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from qmedsam.exit_status import DONE, NOTHING_RAN
from qmedsam.system.signals import Stopped
from training.checkpoint import DEFAULT_PATH, CheckpointError
from training.data.sampler import EpochSampler
from training.data.volumes import DataError
from training.graphs.openvino_encoder import OpenVinoEncoder
from training.loop.beginning import begin, make_dataset, make_teacher
from training.loop.distributed import Rank, from_first, join_processes, may_meet_those_before
from training.loop.recipe import RecipeError, read_recipe
from training.loop.stage import LAST_FILE, Stage
from training.loop.state import add_network_option, trained_of
from training.loop.stopping import StopRequest, stop_requests
from training.loop.validation import validation_slices
from training.networks.tiny_vit import TinyViT

logger = logging.getLogger(__name__)

UNUSABLE = (CheckpointError, RecipeError, DataError, OSError)


def run_stage(arguments: argparse.Namespace, rank: Rank, stop: StopRequest) -> None:
    """Train one stage in this process.

    Raises:
        Stopped: by a signal, after a step.
        CheckpointError: a checkpoint is missing, broken or does not fit.
        RecipeError: the recipe is no recipe.
        DataError: a folder holds nothing to train with.
        OSError: a file cannot be written.
    """
    recipe = read_recipe(arguments.recipe, arguments.set)
    batch_size = recipe.data.batch_of_each(rank.world_size)
    begun = from_first(lambda: begin(arguments, recipe, rank.world_size), UNUSABLE)
    trained = trained_of(begun.document, arguments.output_dir / LAST_FILE)
    size = trained.network.image_size
    teacher = make_teacher(arguments, recipe, size, begun.origin["teacher"])
    if teacher is not None:
        teacher.network.to(rank.device)
        if rank.device.type == "cpu" and isinstance(teacher.network.image_encoder, TinyViT):
            teacher.encode = OpenVinoEncoder(teacher.network)
    share = {"rank": rank.number, "world_size": rank.world_size}
    stage = Stage(
        trained,
        recipe,
        dataset=make_dataset(
            arguments.data,
            begun.index,
            recipe,
            image_size=size,
            teacher_size=None if teacher is None else teacher.image_size,
        ),
        sampler=EpochSampler(
            begun.index,
            recipe.data.slices,
            seed=recipe.seed,
            batch_size=batch_size,
            balance=recipe.data.balance,
            **share,
        ),
        slices=validation_slices(begun.val_indices, recipe.validation, size, **share),
        teacher=teacher,
        rank=rank,
        origin=begun.origin,
        output_dir=arguments.output_dir,
        stream=sys.stderr if rank.is_first else None,
        stop=stop,
    )
    logger.info(
        "%d files with %d slices to train on: %s",
        sum(len(part.entries) for part in begun.index.values()),
        sum(len(part) for part in begun.index.values()),
        ", ".join(f"{name} {len(part)}" for name, part in begun.index.items()),
    )
    if begun.is_resumed:
        stage.resume(begun.document)
        logger.info("Resuming after step %d of %d", stage.progress.step, stage.steps)
    stage.run(start_only=arguments.calibrate_only)


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
        "--data",
        type=Path,
        default=Path("../shared/data/train"),
        help="folder of modalities to train on (default: %(default)s)",
    )
    parser.add_argument(
        "--val",
        type=Path,
        nargs="+",
        default=[Path("../shared/data/val")],
        metavar="DIR",
        help="folders of modalities to choose the best epoch by (default: ../shared/data/val)",
    )
    parser.add_argument(
        "--output-dir", type=Path, required=True, help="gets checkpoints, CSV and curves"
    )
    parser.add_argument(
        "--init",
        type=Path,
        default=DEFAULT_PATH,
        help="what to start from: best.pt of a stage, or published weights (default: %(default)s)",
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
    with join_processes() as rank:
        level = logging.INFO if rank.is_first else logging.ERROR
        logging.basicConfig(level=level, format="%(levelname)s: %(message)s")
        if may_meet_those_before():
            logger.warning("Restarts may fail; set TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1")
        try:
            with stop_requests() as stop:
                run_stage(arguments, rank, stop)
        except UNUSABLE as error:
            logger.error("%s", error)
            return NOTHING_RAN
        except Stopped as stopped:
            logger.error("Stopped by %s; the same command with --resume goes on", stopped)
            return stopped.status
    return DONE


if __name__ == "__main__":
    sys.exit(main())
