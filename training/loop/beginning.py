"""What a stage begins with: data, network, teacher, and what a killed run left."""

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
from training.data.augment import Augmentation
from training.data.dataset import SliceDataset
from training.data.index import DataIndex, build_index, index_digest, without
from training.data.sampler import Draw, shuffled_draws
from training.data.terms import described, permitted, read_terms
from training.loop.recipe import Recipe
from training.loop.starting import LAST_FILE, check_beforehand
from training.loop.state import (
    LOADERS,
    Trained,
    check_resumable,
    load_start,
    quantize_further,
    read_document,
    trained_document,
    unquantized_parts,
)
from training.loop.teacher import Teacher

logger = logging.getLogger(__name__)

INDEX_DIR = Path("runs/index")
# An epoch that no training has, so that calibration draws slices of its own.
CALIBRATION_EPOCH = 1_000_000
PLAIN = Augmentation(flip_horizontal=0.0, flip_vertical=0.0, own_box=1.0)


@dataclass(frozen=True, eq=False)
class Beginning:
    """What all processes of a stage begin with; the first one reads it for all.

    Attributes:
        seen: cases and terms of each folder of the training data.
        document: of the network, and of what a killed run left where it goes on.
        origin: see `state.check_resumable`.
    """

    index: DataIndex
    val_indices: dict[Path, DataIndex]
    seen: dict[str, str]
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
        regions=recipe.data.regions,
        other_boxes=recipe.data.other_boxes,
    )


def calibration_images(
    root: Path, index: DataIndex, recipe: Recipe, image_size: int
) -> list[tuple[Tensor, Tensor]]:
    """Draw unchanged images, or regions, with boxes of the files, modalities in equal numbers."""
    dataset = make_dataset(root, index, recipe, image_size=image_size, settings=PLAIN)
    each = -(-recipe.calibration_images // len(index))
    balance = "files" if recipe.data.balance == "slices" else recipe.data.balance
    modalities, numbers = shuffled_draws(
        index, each, seed=recipe.seed, epoch=CALIBRATION_EPOCH, balance=balance
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
    check_beforehand(arguments)
    last = arguments.output_dir / LAST_FILE
    terms = read_terms(arguments.data)
    index = without(_index(arguments.data), recipe.data.exclude)
    index = permitted(index, terms, recipe.data.terms)
    val_indices = {root: _index(root) for root in arguments.val}
    origin = {
        "set of training data": index_digest(index),
        "set of validation data": " ".join(index_digest(one) for one in val_indices.values()),
        "checkpoint to start from": _file_digest(arguments.init),
        "teacher": _file_digest(arguments.teacher or arguments.checkpoint),
    }
    if not recipe.data.global_batch:
        origin["number of processes"] = str(world_size)
    if last.is_file():
        document = read_document(last)
        check_resumable(document, last, recipe, origin)
        is_resumed = True
    else:
        document = trained_document(start(arguments, recipe, index))
        is_resumed = False
    seen = described(index, terms)
    return Beginning(index, val_indices, seen, origin, document, is_resumed)


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


def _index(root: Path) -> DataIndex:
    """Index a folder, with what is known of it from before."""
    folder = root.resolve()
    name = f"{folder.name}-{hashlib.sha256(str(folder).encode()).hexdigest()[:8]}"
    INDEX_DIR.mkdir(parents=True, exist_ok=True)
    return build_index(root, INDEX_DIR / f"{name}.json", sys.stderr)
