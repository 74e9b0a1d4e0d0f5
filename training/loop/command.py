"""What `python -m training.train` does with its arguments, in each of its processes."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Mapping
from pathlib import Path

from qmedsam.exit_status import DONE, NOTHING_RAN
from qmedsam.system.signals import Stopped
from training.data.index import DataIndex
from training.data.sampler import EpochSampler
from training.data.volumes import DataError
from training.graphs.onnx_files import silence_exporters
from training.graphs.openvino_encoder import OpenVinoEncoder
from training.loop.beginning import begin, make_dataset, make_teacher
from training.loop.distributed import Rank, from_first, join_processes, may_meet_those_before
from training.loop.recipe import RecipeError, read_recipe
from training.loop.stage import Stage
from training.loop.starting import LAST_FILE
from training.loop.state import trained_of
from training.loop.stopping import StopRequest, stop_requests
from training.loop.validation import validation_slices
from training.networks.tiny_vit import TinyViT
from training.published import CheckpointError

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
        seen=begun.seen,
        origin=begun.origin,
        output_dir=arguments.output_dir,
        stream=sys.stderr if rank.is_first else None,
        stop=stop,
    )
    for name, index in {"train on": begun.index, **_validated(begun.val_indices)}.items():
        logger.info("To %s: %s", name, _counted(index))
    if begun.is_resumed:
        stage.resume(begun.document)
        logger.info("Resuming after step %d of %d", stage.progress.step, stage.steps)
    stage.run(start_only=arguments.calibrate_only)


def _validated(indices: Mapping[Path, DataIndex]) -> dict[str, DataIndex]:
    return {f"validate on, {root}": index for root, index in indices.items()}


def _counted(index: DataIndex) -> str:
    """Return files and slices of an index in words, in all and by modality."""
    files = sum(len(part.entries) for part in index.values())
    slices = sum(len(part) for part in index.values())
    parts = (f"{name} {len(part.entries)} ({len(part)})" for name, part in index.items())
    return f"{files} files with {slices} slices: {', '.join(parts)}"


def train(arguments: argparse.Namespace) -> int:
    """Train one stage; 0 when it is done, 2 when nothing could run."""
    silence_exporters()
    with join_processes() as rank:
        level = logging.INFO if rank.is_first else logging.ERROR
        logging.getLogger().setLevel(level)
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
