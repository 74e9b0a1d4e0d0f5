"""An exported model, held to the network that it was made of.

An image of blobs and some boxes go through both, on the whole grid and, where the model has others,
on a rectangle, for which its graphs are rewritten.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qmedsam.config import Settings
from qmedsam.core.contract import IMAGE_EMBEDDING_NAME, Grid
from qmedsam.core.preprocess import to_tensor
from qmedsam.model.manifest import read_manifest
from qmedsam.model.network import CompiledNetwork
from training.graphs.folded_decoder import ImageTerms
from training.graphs.inference_graphs import PIXELS_NAME
from training.graphs.onnx_files import EXAMPLE_BOXES, SEED, example_boxes
from training.networks.network import PromptableNetwork
from training.networks.sam_heads import dice_of
from training.networks.tiny_vit import to_tokens

logger = logging.getLogger(__name__)

# Float rounding in another order of operations; logits span about -45 to 45.
LOGIT_TOLERANCE = 1e-3
# A sum rounded another way moves an activation by a step of its scale, and what follows with it: a
# change of the image by 1e-6 moves the embedding of a quantized network by 0.02 on this measure.
# Measured of exports: embeddings 0.005 (`deploy`) and 0.06 (`paper`), logits 1e-4 and 1e-3.
EMBEDDING_TOLERANCE, QUANTIZED_LOGIT_TOLERANCE = 0.1, 0.01
QUALITY_TOLERANCE = 0.02  # of a DSC; of float networks 1e-4 is seen
BLOBS = 16  # of the image that is compared, along a side
RECTANGLE = (128, 192)  # has fewer windows than the whole grid, and not as many along its sides

Values = NDArray[np.float32]


class ExportError(Exception):
    """An exported model does not compute what its network does, or not as it is meant to."""


def check_export(network: PromptableNetwork, model_dir: Path, *, is_quantized: bool) -> None:
    """Hold an exported model to its network.

    Args:
        network: that was exported, in eval mode.
        model_dir: exported model.
        is_quantized: whether a part of the network is.

    Raises:
        ExportError: they differ more than rounding explains.
    """
    manifest = read_manifest(model_dir)
    check_on_grid(network, model_dir, manifest.whole_grid, is_quantized=is_quantized)
    if RECTANGLE in manifest.grids:
        check_on_grid(network, model_dir, RECTANGLE, is_quantized=is_quantized)


def check_on_grid(
    network: PromptableNetwork, model_dir: Path, grid_hw: Grid, *, is_quantized: bool
) -> None:
    """Hold an exported model to its network on one of the model's grids; see `check_export`."""
    found, expected = _outputs(network, model_dir, grid_hw)
    if not is_quantized:
        checks = [("logit", largest_difference(found[1], expected[1]), LOGIT_TOLERANCE)]
    else:
        distances = [relative_distance(*pair) for pair in zip(found, expected, strict=True)]
        checks = [
            ("embedding", distances[0], EMBEDDING_TOLERANCE),
            ("logits", distances[1], QUANTIZED_LOGIT_TOLERANCE),
        ]
    height, width = grid_hw
    for name, difference, tolerance in checks:
        logger.info(
            "Difference of %s from the PyTorch network on %d x %d: %.1e",
            name,
            height,
            width,
            difference,
        )
        if not difference <= tolerance:  # nor is it equal where it is no number
            raise ExportError(
                f"The {name} of the model in {model_dir} differ from its network's on {height} x "
                f"{width} by {difference}, at most {tolerance} is rounding"
            )


def largest_difference(found: Values, expected: Values) -> float:
    """Return the largest difference of two values at the same place."""
    return float(np.abs(found - expected).max())


def relative_distance(found: Values, expected: Values) -> float:
    """Return the mean squared difference, relative to the mean square of what is expected."""
    return float(np.square(found - expected).mean() / np.square(expected).mean())


def _outputs(
    network: PromptableNetwork, model_dir: Path, grid_hw: Grid
) -> tuple[tuple[Values, Values], tuple[Values, Values]]:
    """Return embedding and logits of a model in f32, and of its network, for one image of blobs."""
    generator = np.random.default_rng(SEED)
    height, width = grid_hw
    blobs = generator.random((BLOBS, BLOBS, 3), dtype=np.float32)
    resized: Any = cv2.resize(blobs, (width, height), interpolation=cv2.INTER_LINEAR)
    image = to_tensor(resized)
    boxes = example_boxes(generator, EXAMPLE_BOXES, min(grid_hw))
    compiled = CompiledNetwork(model_dir, Settings(precision="f32"), grids=[grid_hw])
    encoded = compiled.encode(image)
    values, decoded = encoded.values, compiled.decode(encoded, boxes)
    with torch.no_grad():
        own_embedding = network.encode(torch.from_numpy(image))
        own_logits, own_quality = _decode(network, own_embedding, torch.from_numpy(boxes))
    _check_quality(decoded.quality, own_quality)
    logits = decoded.low_res_logits
    if IMAGE_EMBEDDING_NAME in values:  # the decoder is quantized and reads nothing else
        return (values[IMAGE_EMBEDDING_NAME], logits), (own_embedding.numpy(), own_logits.numpy())
    height, width = own_embedding.shape[2:]
    with torch.no_grad():
        own_pixels = ImageTerms(network, (height, width))(to_tokens(own_embedding))[0]
    return (values[PIXELS_NAME], logits), (own_pixels.numpy(), own_logits.numpy())


def _decode(
    network: PromptableNetwork, embedding: Tensor, boxes: Tensor
) -> tuple[Tensor, Values | None]:
    """Return the logits, and the quality of a network that rates masks."""
    if not network.rates:
        return network.decode(embedding, boxes), None
    logits, iou = network.decode_rated(embedding, boxes)
    return logits, dice_of(iou).numpy()


def _check_quality(found: Values | None, expected: Values | None) -> None:
    """Hold the predicted quality of an exported model to its network's.

    Raises:
        ExportError: one of them does not say it, or they differ more than rounding explains.
    """
    if found is None and expected is None:
        return
    if found is None or expected is None:
        raise ExportError("Quality must be predicted where the network was trained to, and only so")
    difference = largest_difference(found, expected)
    logger.info("Difference of quality from the PyTorch network: %.1e", difference)
    if not difference <= QUALITY_TOLERANCE:
        raise ExportError(
            f"Quality of the exported model differs from its network's by {difference}, at most "
            f"{QUALITY_TOLERANCE} is rounding"
        )
