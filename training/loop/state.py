"""Checkpoints of training: whole or not at all, and enough to go on at the very next step."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO, cast

import torch
from pydantic import ValidationError

from qmedsam.system.files import write_bytes
from training.checkpoint import load_lite_medsam, load_medsam, read_tensors
from training.graphs.model_folder import Source
from training.loop.recipe import Recipe, RecipeError, differences, recipe_of
from training.networks.network import (
    PromptableNetwork,
    build_lite_medsam,
    build_medsam,
    build_qmedsam,
)
from training.options import LITE_MEDSAM, MEDSAM
from training.published import SHA256, CheckpointError
from training.quantization.calibration import Images, quantize_and_calibrate
from training.quantization.config import QuantConfig
from training.quantization.quantize import prepare_ops, quantize_network
from training.settings import explain

FORMAT = 1
# What a stage under way keeps beside the network.
RESUME_KEYS = ("recipe", "optimizer", "scheduler", "ema", "progress", "origin")
BUILDERS = {
    LITE_MEDSAM: build_lite_medsam,
    MEDSAM: build_medsam,
    "qmedsam": build_qmedsam,  # of which nothing is published; `training.reshape` makes its start
}
LOADERS = {LITE_MEDSAM: load_lite_medsam, MEDSAM: load_medsam}


@dataclass
class Trained:
    """A network and how it came to be.

    Attributes:
        name: of the network, a key of `BUILDERS`.
        network: in eval mode.
        quantized: its quantized parts.
        quant: of those parts; None of a float network.
        history: of each stage: its recipe, steps, images and scores.
        source_sha256: of the published checkpoint that all began with.
    """

    name: str
    network: PromptableNetwork
    quantized: tuple[str, ...]
    quant: QuantConfig | None
    history: list[dict[str, Any]]
    source_sha256: str | None


def load_start(name: str, path: Path) -> Trained:
    """Load what a stage begins with: a checkpoint of training or a published one.

    Raises:
        CheckpointError: it is neither.
    """
    if path.is_file() and is_trained(document := read_tensors(path)):
        return trained_of(document, path)
    network = LOADERS[name](path)
    return Trained(name, network, (), None, [], SHA256 if name == LITE_MEDSAM else None)


def load_source(name: str, path: Path, *, in_float: bool = False) -> Source:
    """Load what an export takes: a checkpoint of training, or published weights of a network.

    Args:
        name: of the network, where the weights are published.
        path: of the checkpoint.
        in_float: leave the quantizers of a quantized network out; its weights stay.

    Raises:
        CheckpointError: it is neither.
    """
    trained = load_start(name, path)
    if in_float and trained.quant is not None:
        trained = dequantized(trained)
    return Source(
        trained.name,
        trained.network,
        path,
        quant=trained.quant,
        history=trained.history,
        published_sha256=trained.source_sha256,
    )


def dequantized(trained: Trained) -> Trained:
    """Return a float network with the weights of a quantized one, as they are without rounding."""
    network = BUILDERS[trained.name]()
    for part in trained.quantized:
        # As `quantize_network` does before it swaps any op.
        prepare_ops(getattr(network, part), cast(QuantConfig, trained.quant), part)
    weights = trained.network.state_dict()
    network.load_state_dict({name: weights[name] for name in network.state_dict()}, strict=True)
    network.rates = trained.network.rates
    return dataclasses.replace(trained, network=network.eval(), quantized=(), quant=None)


def quantize_further(
    trained: Trained,
    recipe: Recipe,
    images: Images,
    parts: Sequence[str],
    progress: TextIO | None = None,
) -> None:
    """Quantize and calibrate parts, some of `unquantized_parts`, in place."""
    quantize_and_calibrate(trained.network, recipe.quant, images, parts, progress)
    trained.quantized = (*trained.quantized, *parts)
    trained.quant = recipe.quant


def unquantized_parts(trained: Trained, recipe: Recipe) -> list[str]:
    """Return the parts that the recipe wants quantized and that are not.

    Raises:
        CheckpointError: the network has been quantized otherwise.
    """
    if trained.quant is not None and trained.quant != recipe.quant:
        raise CheckpointError(
            f"Quantization must be {recipe.quant!r}, checkpoint has {trained.quant!r}"
        )
    return [part for part in recipe.quantized if part not in trained.quantized]


def trained_document(trained: Trained) -> dict[str, Any]:
    """Return what `load_trained` needs, with the weights as they are now."""
    return {
        "format": FORMAT,
        "name": trained.name,
        "network": trained.network.state_dict(),
        "quantized": list(trained.quantized),
        "quant": None if trained.quant is None else trained.quant.model_dump(),
        "history": trained.history,
        "source_sha256": trained.source_sha256,
    }


def save_document(document: dict[str, Any], path: Path) -> None:
    """Write a checkpoint so that it appears whole or not at all."""
    content = io.BytesIO()
    torch.save(document, content)
    write_bytes(path, content.getvalue())


def read_document(path: Path) -> dict[str, Any]:
    """Read a checkpoint of training.

    Raises:
        CheckpointError: the file is missing or something else.
    """
    document = read_tensors(path)
    if not is_trained(document):
        raise CheckpointError(f"{path} must be a checkpoint of training of format {FORMAT}")
    return document


def is_trained(document: object) -> bool:
    """Say whether what was read from a file is a checkpoint of training."""
    return isinstance(document, dict) and document.get("format") == FORMAT


def load_trained(path: Path) -> Trained:
    """Build the network of a checkpoint of training.

    Raises:
        CheckpointError: the file is missing, something else, or does not fit.
    """
    return trained_of(read_document(path), path)


def trained_of(document: dict[str, Any], path: Path) -> Trained:
    """Build the network of a checkpoint that `read_document` read from `path`."""
    try:
        network = BUILDERS[document["name"]]()
        quant = None if document["quant"] is None else QuantConfig(**document["quant"])
    except ValidationError as error:
        told = explain(error, QuantConfig)
        raise CheckpointError(f"{path} is of another version: {told}") from error
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is of another version: {error!r}") from error
    if quant is not None:
        quantize_network(network, quant, document["quantized"])
    try:
        network.load_state_dict(document["network"], strict=True)
    except RuntimeError as error:
        raise CheckpointError(f"{path} does not fit the network: {error}") from error
    network.rates = any(_taught_quality(account) for account in document["history"])
    return Trained(
        name=document["name"],
        network=network.eval(),
        quantized=tuple(document["quantized"]),
        quant=quant,
        history=list(document["history"]),
        source_sha256=document["source_sha256"],
    )


def _taught_quality(account: Mapping[str, Any]) -> bool:
    """Say whether the head that predicts IoU was trained in a stage of a history."""
    return bool(account["recipe"].get("loss", {}).get("quality", 0.0))


def check_resumable(
    document: dict[str, Any], path: Path, recipe: Recipe, origin: Mapping[str, str]
) -> None:
    """Check that a checkpoint is of a stage that was under way, and of this one.

    Args:
        document: read from `path`.
        path: for the message.
        recipe: of the stage that is to go on.
        origin: what it began with: data, weights, number of processes, each a digest or a count.

    Raises:
        CheckpointError: it is not.
    """
    if missing := [key for key in RESUME_KEYS if key not in document]:
        raise CheckpointError(
            f"{path} must be of a run to go on with, is a network alone or of another version: "
            f"it lacks {', '.join(missing)}"
        )
    try:
        kept = recipe_of(document["recipe"])
    except RecipeError as error:
        raise CheckpointError(f"{path} is of another version: {error}") from error
    if kept != recipe:
        raise CheckpointError(
            f"{path} is of another recipe: it has {'; '.join(differences(kept, recipe))}. Go on "
            "with that, or begin anew in another --output-dir"
        )
    began = document["origin"]
    if changed := [name for name in {**began, **origin} if began.get(name) != origin.get(name)]:
        raise CheckpointError(
            f"{path} began with another {', another '.join(changed)}; go on with what it began "
            "with, or begin anew in another --output-dir"
        )
