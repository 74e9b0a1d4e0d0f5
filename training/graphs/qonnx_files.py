"""A quantized network as QONNX files, in which each quantizer is one `Quant` node.

They hold the network as it was trained, not as inference runs it, and are for FINN and the package
`qonnx` (docs/finn.md); nothing here needs either. Both know fixed shapes alone, so the files are of
one image and one box. A `Quant` node has the name of the quantizer in the network.
"""

from __future__ import annotations

import ast
import copy
import os
import re
import tempfile
import warnings
from pathlib import Path

import onnx
import torch
from torch import nn

from qmedsam.core.contract import (
    BOXES_NAME,
    EMBEDDING_SHAPE,
    IMAGE_EMBEDDING_NAME,
    IMAGE_NAME,
)
from training.graphs.check import ExportError
from training.graphs.onnx_files import OPSET, clean_up, decoder_outputs
from training.networks.network import ImageEncoderGraph, MaskDecoderGraph, PromptableNetwork
from training.quantization.config import Part
from training.quantization.quantize import activation_quantizers

with warnings.catch_warnings():  # Brevitas warns of what its own parts are
    warnings.simplefilter("ignore")
    from brevitas.export.onnx.qonnx.manager import QONNXDynamoManager

QONNX_FILES: dict[Part, str] = {
    "image_encoder": "encoder.qonnx.onnx",
    "mask_decoder": "decoder.qonnx.onnx",
}
# Where the exporter keeps the modules that a node was traced in, outermost first.
SCOPES_KEY = "pkg.torch.onnx.name_scopes"
HANDLER = ".export_handler"  # of a quantizer, in whose place Brevitas exports
BEGINNING = re.compile(r"\.slice\(None, [^.]+, None\)")  # of a list of modules


def export_qonnx(network: PromptableNetwork, output_dir: Path) -> None:
    """Write those of encoder and decoder that are quantized, whole or not at all.

    Args:
        network: in eval mode; it is not changed.
        output_dir: folder to write; what an earlier export wrote there is replaced or removed.

    Raises:
        ExportError: the network is float.
    """
    files = {
        part: file
        for part, file in QONNX_FILES.items()
        if activation_quantizers(getattr(network, part))
    }
    if not files:
        raise ExportError("A network must be quantized to be written as QONNX, this one is float")
    output_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output_dir.parent) as name:
        for part, file in files.items():
            write_qonnx(network, part, Path(name) / file)
        for file in QONNX_FILES.values():  # so that no mixture of two exports is ever there
            (output_dir / file).unlink(missing_ok=True)
        for file in files.values():
            os.replace(Path(name) / file, output_dir / file)


def write_qonnx(network: PromptableNetwork, part: Part, path: Path) -> None:
    """Write the graph of a quantized part."""
    network = copy.deepcopy(network)
    for proxy in activation_quantizers(network).values():
        proxy.skip_create_quant_tensor = False  # Brevitas reads the ranges from its tensors
    size = network.image_size
    graph: nn.Module
    if part == "image_encoder":
        graph, outputs = ImageEncoderGraph(network), [IMAGE_EMBEDDING_NAME]
        inputs = {IMAGE_NAME: torch.zeros(1, 3, size, size)}
    else:
        graph, outputs = MaskDecoderGraph(network), decoder_outputs(network)
        box = torch.tensor([[0.25, 0.25, 0.75, 0.75]]) * size
        inputs = {IMAGE_EMBEDDING_NAME: torch.zeros(EMBEDDING_SHAPE), BOXES_NAME: box}
    QONNXDynamoManager.export(
        graph.eval(),
        args=tuple(inputs.values()),
        export_path=str(path),
        dynamo=True,
        optimize=True,
        input_names=list(inputs),
        output_names=outputs,
        opset_version=OPSET,
        external_data=False,
        verbose=False,
    )
    model = onnx.load(path)
    _name_quantizers(model)
    # The package takes the first one's version for that of the standard ops.
    opsets = sorted(model.opset_import, key=lambda opset: opset.domain)
    del model.opset_import[:]
    model.opset_import.extend(opsets)
    clean_up(model)
    onnx.save(model, path)


def _name_quantizers(model: onnx.ModelProto) -> None:
    """Name each `Quant` node after its quantizer, as `named_modules` of the network does."""
    for node in model.graph.node:
        if node.op_type == "Quant":
            kept = next(item.value for item in node.metadata_props if item.key == SCOPES_KEY)
            handler = next(scope for scope in ast.literal_eval(kept) if scope.endswith(HANDLER))
            name = handler.removesuffix(HANDLER).removeprefix("network.")
            node.name = BEGINNING.sub("", name)
