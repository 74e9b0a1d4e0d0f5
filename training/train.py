"""Train one stage of a recipe.

    python -m training.train --recipe training/recipes/deploy-1-encoder.toml --output-dir runs/a

Under `torchrun` the same command trains on several devices and machines.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from qmedsam.model.manifest import file_sha256
from qmedsam.system.files import make_writable
from training.checkpoint import DEFAULT_PATH, CheckpointError
from training.data.augment import Augmentation
from training.data.dataset import SliceDataset
from training.data.index import DataIndex, build_index, index_digest
from training.data.sampler import Draw, EpochSampler, shuffled_draws
from training.data.volumes import DataError
from training.loop.distributed import Rank, from_first, join_processes, may_meet_those_before
from training.loop.recipe import Recipe, RecipeError, read_recipe
from training.loop.stage import LAST_FILE, Stage
from training.loop.state import (
    LOADERS,
    Trained,
    check_resumable,
    load_start,
    quantize_further,
    read_document,
    trained_document,
    trained_of,
    unquantized_parts,
)
from training.loop.teacher import Teacher
from training.loop.validation import validation_slices

logger = logging.getLogger(__name__)

NOTHING_RAN = 2
UNUSABLE = (CheckpointError, RecipeError, DataError, OSError)
INDEX_DIR = Path("runs/index")
# An epoch that no training has, so that calibration draws slices of its own.
CALIBRATION_EPOCH = 1_000_000
PLAIN = Augmentation(flip_horizontal=0.0, flip_vertical=0.0, own_box=1.0)


@dataclass(frozen=True, eq=False)
class Beginning:
    """What all processes of a stage begin with; the first one reads it for all.

    Attributes:
        document: of the network, and of what a killed run left where it goes on.
        origin: see `state.check_resumable`.
    """

    index: DataIndex
    val_index: DataIndex
    origin: dict[str, str]
    document: dict[str, Any]
    is_resumed: bool


def make_dataset(
    root: Path,
    index: DataIndex,
    recipe: Recipe,
    *,
    image_size: int,
    teacher_size: int | None = None,
    settings: Augmentation | None = None,
) -> SliceDataset:
    """Build the dataset of a recipe, by default with its augmentation."""
    return SliceDataset(
        root,
        index,
        settings=settings or recipe.augmentation,
        seed=recipe.seed,
        image_size=image_size,
        teacher_size=teacher_size,
        objects_per_image=recipe.data.objects_per_image,
        cache_bytes=recipe.data.cache_mb << 20,
    )


def calibration_images(
    root: Path, index: DataIndex, recipe: Recipe, image_size: int
) -> list[tuple[Tensor, Tensor]]:
    """Draw unchanged images with the boxes of their files, modalities in equal numbers."""
    dataset = make_dataset(root, index, recipe, image_size=image_size, settings=PLAIN)
    each = -(-recipe.calibration_images // len(index))
    modalities, numbers = shuffled_draws(
        index, each, seed=recipe.seed, epoch=CALIBRATION_EPOCH, balance_files=True
    )
    images = []
    for position, (modality, number) in enumerate(zip(modalities, numbers, strict=True)):
        sample = dataset[Draw(str(modality), int(number), CALIBRATION_EPOCH, position)]
        image = torch.from_numpy(sample.image)[None].contiguous(memory_format=torch.channels_last)
        images.append((image, torch.from_numpy(sample.boxes)))
    return images


def begin(arguments: argparse.Namespace, recipe: Recipe, world_size: int) -> Beginning:
    """Read the data and the network, or what a killed run left where `--resume` finds some.

    Raises:
        CheckpointError: a checkpoint is missing, broken, or of another recipe.
        DataError: a folder holds nothing to train with.
        OSError: a file cannot be written.
    """
    last = make_writable(arguments.output_dir) / LAST_FILE
    index, val_index = _index(arguments.data), _index(arguments.val)
    origin = {
        "set of training data": index_digest(index),
        "set of validation data": index_digest(val_index),
        "checkpoint to start from": _file_digest(arguments.init),
        "teacher": _file_digest(arguments.teacher or arguments.checkpoint),
    }
    if not recipe.data.global_batch:
        origin["number of processes"] = str(world_size)
    if last.is_file():
        if not arguments.resume:
            raise CheckpointError(f"{last} is there; pass --resume or another --output-dir")
        document = read_document(last)
        check_resumable(document, last, recipe, origin)
        return Beginning(index, val_index, origin, document, is_resumed=True)
    trained = start(arguments, recipe, index)
    return Beginning(index, val_index, origin, trained_document(trained), is_resumed=False)


def start(arguments: argparse.Namespace, recipe: Recipe, index: DataIndex) -> Trained:
    """Load the network and quantize what the recipe wants quantized.

    Raises:
        CheckpointError: a checkpoint is missing, broken, or was quantized otherwise.
    """
    trained = load_start(arguments.network, arguments.init)
    if missing := unquantized_parts(trained, recipe):
        images = calibration_images(arguments.data, index, recipe, trained.network.image_size)
        logger.info("Calibrating %s on %d images", ", ".join(missing), len(images))
        quantize_further(trained, recipe, images, missing, sys.stderr)
    return trained


def make_teacher(
    arguments: argparse.Namespace, recipe: Recipe, size: int, digest: str
) -> Teacher | None:
    """Load MedSAM where its checkpoint is given, else the float LiteMedSAM."""
    if not recipe.loss.distillation:
        return None
    kind = "lite_medsam" if arguments.teacher is None else "medsam"
    path = arguments.teacher or arguments.checkpoint
    network = LOADERS[kind](path)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Teacher(
        network,
        name=f"{kind}-{digest[:12]}",
        student_size=size,
        cache_dir=arguments.teacher_cache,
    )


def _file_digest(path: Path) -> str:
    """Return what tells the content of a file from that of another, also of a missing one."""
    return file_sha256(path) if path.is_file() else "missing"


def run_stage(arguments: argparse.Namespace, rank: Rank) -> None:
    """Train one stage in this process.

    Raises:
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
            balance_files=recipe.data.balance_files,
            **share,
        ),
        slices=validation_slices(arguments.val, begun.val_index, recipe.validation, size, **share),
        teacher=teacher,
        rank=rank,
        origin=begun.origin,
        output_dir=arguments.output_dir,
        stream=sys.stderr if rank.is_first else None,
    )
    if begun.is_resumed:
        stage.resume(begun.document)
        logger.info("Resuming after step %d of %d", stage.progress.step, stage.steps)
    stage.run(start_only=arguments.calibrate_only)


def _index(root: Path) -> DataIndex:
    """Index a folder, with what is known of it from before."""
    folder = root.resolve()
    name = f"{folder.name}-{hashlib.sha256(str(folder).encode()).hexdigest()[:8]}"
    INDEX_DIR.mkdir(parents=True, exist_ok=True)
    return build_index(root, INDEX_DIR / f"{name}.json", sys.stderr)


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
        default=Path("../shared/data/val"),
        help="folder of modalities to choose the best epoch by (default: %(default)s)",
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
    parser.add_argument(
        "--network",
        choices=["lite_medsam", "medsam"],
        default="lite_medsam",
        help="which network published weights are of (default: %(default)s)",
    )
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
            run_stage(arguments, rank)
        except UNUSABLE as error:
            logger.error("%s", error)
            return NOTHING_RAN
    return 0


if __name__ == "__main__":
    sys.exit(main())
