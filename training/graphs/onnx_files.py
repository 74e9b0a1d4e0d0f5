"""A network as two ONNX files, float or QCDQ (quantize, clip, dequantize) where quantized."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from qmedsam.core.contract import (
    BOXES_NAME,
    CROPS_NAME,
    DECODER_FILE,
    EMBEDDING_SHAPE,
    ENCODER_FILE,
    IMAGE_EMBEDDING_NAME,
    IMAGE_NAME,
    LOW_RES_LOGITS_NAME,
    QUALITY_NAME,
)
from training.graphs.export_layers import use_export_layers
from training.networks.layers import ConvNorm, fold_batch_norm
from training.networks.network import ImageEncoderGraph, MaskDecoderGraph, PromptableNetwork
from training.networks.tiny_vit import TinyViT
from training.quantization.quantize import activation_quantizers

with warnings.catch_warnings():  # Brevitas warns of what its own parts are
    warnings.simplefilter("ignore")
    from brevitas.export.onnx.standard.qcdq.manager import StdQCDQONNXDynamoManager

OPSET = 20
EXAMPLE_BOXES = 3
SEED = 0


def silence_exporters() -> None:
    """Let the log be of this project: exporters tell of each node that they drop or share."""
    for name in ("onnxscript", "onnx_ir"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # warns of torchvision, not installed
    # Of a part of torch's own.
    warnings.filterwarnings("ignore", "`isinstance\\(treespec, LeafSpec\\)`", FutureWarning)


def write_onnx(network: PromptableNetwork, folder: Path) -> dict[str, bool]:
    """Write the plain encoder and decoder and say which of the files, by IR name, is quantized.

    Args:
        network: in eval mode; it is not changed.
        folder: gets `encoder.onnx` and `decoder.onnx`.
    """
    is_quantized = {
        ENCODER_FILE: bool(activation_quantizers(network.image_encoder)),
        DECODER_FILE: bool(activation_quantizers(network.mask_decoder)),
    }
    if is_quantized[ENCODER_FILE]:
        network = for_export(network)
    else:
        network = copy.deepcopy(network)
        fold_batch_norm(network.image_encoder)
    size = network.image_size
    boxes = torch.from_numpy(example_boxes(np.random.default_rng(SEED), EXAMPLE_BOXES, size))
    export_onnx(
        ImageEncoderGraph(network),
        folder / Path(ENCODER_FILE).with_suffix(".onnx"),
        inputs={IMAGE_NAME: torch.zeros(1, 3, size, size)},
        outputs=[IMAGE_EMBEDDING_NAME],
        is_quantized=is_quantized[ENCODER_FILE],
    )
    export_onnx(
        MaskDecoderGraph(network),
        folder / Path(DECODER_FILE).with_suffix(".onnx"),
        inputs={IMAGE_EMBEDDING_NAME: torch.zeros(EMBEDDING_SHAPE), BOXES_NAME: boxes},
        outputs=decoder_outputs(network),
        is_quantized=is_quantized[DECODER_FILE],
    )
    return is_quantized


def decoder_outputs(network: PromptableNetwork) -> list[str]:
    """Return the names of what a network's decoder puts out."""
    return [LOW_RES_LOGITS_NAME, QUALITY_NAME] if network.rates else [LOW_RES_LOGITS_NAME]


def for_export(network: PromptableNetwork) -> PromptableNetwork:
    """Return a copy whose encoder computes the same in layers that inference engines run faster."""
    network = copy.deepcopy(network)
    encoder = network.image_encoder
    if not activation_quantizers(encoder):
        fold_batch_norm(encoder)
    # The paper's scheme quantizes convolutions before their batch normalization, which then stays.
    is_folded = not any(isinstance(module, ConvNorm) for module in encoder.modules())
    if is_folded and isinstance(encoder, TinyViT):
        use_export_layers(encoder)
    return network


def example_boxes(generator: np.random.Generator, count: int, size: int) -> NDArray[np.float32]:
    """Draw (N, 4) boxes in a model frame of some size."""
    corners = np.sort(generator.uniform(0, size, (count, 2, 2)), axis=1)
    return corners.reshape(count, 4).astype(np.float32)


def export_onnx(
    graph: nn.Module,
    path: Path,
    *,
    inputs: dict[str, Tensor],
    outputs: Sequence[str],
    is_quantized: bool,
) -> None:
    """Write one graph.

    Args:
        graph: to write.
        path: of the file.
        inputs: examples by name; the number of boxes and the size of crops stay open.
        outputs: their names.
        is_quantized: whether there are quantizers in it.
    """
    count, height, width = map(torch.export.Dim, ("boxes_count", "height", "width"))
    open_axes = {BOXES_NAME: {0: count}, CROPS_NAME: {0: count, 1: height, 2: width}}
    graph.eval()
    arguments = tuple(inputs.values())
    options: dict[str, Any] = {
        "input_names": list(inputs),
        "output_names": list(outputs),
        "opset_version": OPSET,
        "dynamic_shapes": tuple(open_axes.get(name, {}) for name in inputs),
        "external_data": False,
        "verbose": False,
    }
    if is_quantized:
        for proxy in activation_quantizers(graph).values():
            proxy.skip_create_quant_tensor = False  # Brevitas reads the ranges from its tensors
        StdQCDQONNXDynamoManager.export(
            graph, args=arguments, export_path=str(path), dynamo=True, optimize=True, **options
        )
    else:
        with warnings.catch_warnings():
            # Boxes and crops share their number, and the exporter says that one name will do.
            warnings.filterwarnings("ignore", message=".*shares the same shape constraints")
            torch.onnx.export(graph, arguments, path, **options)
    model = onnx.load(path)
    clean_up(model)
    onnx.save(model, path)


def clean_up(model: onnx.ModelProto) -> None:
    """Take out of an exported model, in place, what is no part of the network, and check it."""
    for node in model.graph.node:  # stack traces and file names of this machine
        del node.metadata_props[:]
    # Brevitas lists constants among the inputs too, where a runtime may not fold them.
    constants = {item.name for item in model.graph.initializer}
    true_inputs = [item for item in model.graph.input if item.name not in constants]
    del model.graph.input[:]
    model.graph.input.extend(true_inputs)
    onnx.checker.check_model(model)
