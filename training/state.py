"""Checkpoints of training: whole or not at all, and enough to go on at the very next step."""

from __future__ import annotations

import dataclasses
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from inference.cases import write_bytes
from training.calibration import Images, quantize_and_calibrate
from training.checkpoint import SHA256, CheckpointError, load_lite_medsam, load_medsam
from training.network import PromptableNetwork, build_lite_medsam, build_medsam
from training.quantization import quantize_network
from training.recipe import QuantConfig, Recipe, recipe_of

FORMAT = 1
BUILDERS = {"lite_medsam": build_lite_medsam, "medsam": build_medsam}
LOADERS = {"lite_medsam": load_lite_medsam, "medsam": load_medsam}


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
    if is_trained(path):
        return load_trained(path)
    network = LOADERS[name](path)
    return Trained(name, network, (), None, [], SHA256 if name == "lite_medsam" else None)


def quantize_further(trained: Trained, recipe: Recipe, images: Images) -> None:
    """Quantize and calibrate the parts that the recipe wants quantized and that are not.

    Raises:
        CheckpointError: the network has been quantized otherwise.
    """
    if missing := unquantized_parts(trained, recipe):
        quantize_and_calibrate(trained.network, recipe.quant, images, missing)
        trained.quantized = (*trained.quantized, *missing)
        trained.quant = recipe.quant


def unquantized_parts(trained: Trained, recipe: Recipe) -> list[str]:
    """Return the parts that the recipe wants quantized and that are not.

    Raises:
        CheckpointError: the network has been quantized otherwise.
    """
    if trained.quant is not None and trained.quant != recipe.quant:
        raise CheckpointError(
            f"Quantization must be {recipe.quant}, checkpoint has {trained.quant}"
        )
    return [part for part in recipe.quantized if part not in trained.quantized]


def trained_document(trained: Trained) -> dict[str, Any]:
    """Return what `load_trained` needs, with the weights as they are now."""
    return {
        "format": FORMAT,
        "name": trained.name,
        "network": trained.network.state_dict(),
        "quantized": list(trained.quantized),
        "quant": None if trained.quant is None else dataclasses.asdict(trained.quant),
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
    try:
        document = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    except Exception as error:  # a broken pickle raises whatever its bytes happen to mean
        raise CheckpointError(f"{path} is no checkpoint: {error}") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise CheckpointError(f"{path} must be a checkpoint of training of format {FORMAT}")
    return document


def is_trained(path: Path) -> bool:
    """Say whether a file is a checkpoint of training."""
    try:
        read_document(path)
    except CheckpointError:
        return False
    return True


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
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} is of another version: {error!r}") from error
    if quant is not None:
        quantize_network(network, quant, document["quantized"])
    try:
        network.load_state_dict(document["network"], strict=True)
    except RuntimeError as error:
        raise CheckpointError(f"{path} does not fit the network: {error}") from error
    return Trained(
        name=document["name"],
        network=network.eval(),
        quantized=tuple(document["quantized"]),
        quant=quant,
        history=list(document["history"]),
        source_sha256=document["source_sha256"],
    )


def recipe_in(document: dict[str, Any]) -> Recipe:
    """Return the recipe of the stage that a checkpoint belongs to."""
    return recipe_of(document["recipe"])
