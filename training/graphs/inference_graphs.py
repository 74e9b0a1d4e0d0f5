"""The graphs that inference runs, from those of the ONNX files.

The ONNX files hold the plain network: image to embedding, embedding and boxes to logits. Inference
runs what computes the same in less time: the folded decoder where the decoder is float, with what
it reads of an image as further outputs of the encoder. The folded decoder decodes crops of the
embedding only; a plain one decodes it whole and cuts them out, so that both take the same inputs.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import openvino  # type: ignore[import-untyped]
import torch
from openvino import opset13 as ops
from openvino.tools.ovc import convert_model  # type: ignore[import-untyped]
from torch import Tensor, nn

from qmedsam.core.contract import (
    BOXES_NAME,
    CROPS_NAME,
    DECODER_FILE,
    EMBEDDING_SHAPE,
    EMBEDDING_SIZE,
    ENCODER_FILE,
    ENCODER_REST_FILE,
    IMAGE_NAME,
    LOW_RES_LOGITS_NAME,
    QUALITY_NAME,
    UPSCALING,
)
from training.graphs.cut_graph import cut_in_two
from training.graphs.folded_decoder import FoldedDecoder, ImageTerms
from training.graphs.lowering import read_lowered
from training.graphs.onnx_files import (
    EXAMPLE_BOXES,
    SEED,
    decoder_outputs,
    example_boxes,
    export_onnx,
    for_export,
)
from training.networks.network import PromptableNetwork
from training.networks.tiny_vit import to_tokens

PIXELS_NAME = "pixels"
TERM_NAMES = (PIXELS_NAME, "keys", "values", "queries")
# With the rest the other core has the decoder to compile: a process is ready in 0.45 s on two cores
# where the whole encoder took 0.69 s. An image takes 1 % longer to encode.
SHARE_BEFORE_CUT = 0.36
EXAMPLE_CROP = (24, 16)  # any height and width that differ


class EncoderGraph(nn.Module):
    """The encoder and what the folded decoder reads of an image."""

    def __init__(self, network: PromptableNetwork) -> None:
        super().__init__()
        self.image_encoder = network.image_encoder
        self.terms = ImageTerms(network)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Encode (1, 3, S, S) as the terms of `ImageTerms`."""
        return self.terms(to_tokens(self.image_encoder(image)))


def inference_graphs(
    network: PromptableNetwork, folder: Path, is_quantized: Mapping[str, bool]
) -> dict[str, openvino.Model]:
    """Return encoder, in two parts, and decoder by the names of their files.

    Args:
        network: of which the ONNX files are, in eval mode; it is not changed.
        folder: of `encoder.onnx` and `decoder.onnx`.
        is_quantized: which of them are, by the names of their IR.
    """
    if is_quantized[DECODER_FILE]:
        return plain_graphs(network, folder, is_quantized)
    network = for_export(network)
    size = network.image_size
    encoder = _exported(
        EncoderGraph(network),
        {IMAGE_NAME: torch.zeros(1, 3, size, size)},
        outputs=TERM_NAMES,
        is_quantized=is_quantized[ENCODER_FILE],
    )
    first, rest = cut_in_two(encoder, SHARE_BEFORE_CUT)
    return {
        ENCODER_FILE: first,
        ENCODER_REST_FILE: rest,
        DECODER_FILE: folded_decoder(network),
    }


def plain_graphs(
    network: PromptableNetwork, folder: Path, is_quantized: Mapping[str, bool]
) -> dict[str, openvino.Model]:
    """Return what the ONNX files compute, as they do; see `inference_graphs`."""
    graphs = {
        file: _read(folder / Path(file).with_suffix(".onnx"), is_quantized=quantized)
        for file, quantized in is_quantized.items()
    }
    return graphs | {DECODER_FILE: with_crops(graphs[DECODER_FILE])}


def folded_decoder(network: PromptableNetwork) -> openvino.Model:
    """Return the decoder of a float network, which reads the image's terms."""
    with torch.no_grad():
        terms = ImageTerms(network)(to_tokens(torch.zeros(EMBEDDING_SHAPE)))
    boxes = example_boxes(np.random.default_rng(SEED), EXAMPLE_BOXES, network.image_size)
    crops = torch.zeros(EXAMPLE_BOXES, *EXAMPLE_CROP, dtype=torch.int64)
    inputs = {
        **dict(zip(TERM_NAMES, terms, strict=True)),
        BOXES_NAME: torch.from_numpy(boxes),
        CROPS_NAME: crops,
    }
    return _exported(
        FoldedDecoder(network), inputs, outputs=decoder_outputs(network), is_quantized=False
    )


def with_crops(decoder: openvino.Model) -> openvino.Model:
    """Return a plain decoder that cuts crops out of the logits that it computes whole."""
    logits = decoder.output(LOW_RES_LOGITS_NAME).get_node().input_value(0)
    crops = ops.parameter([-1, -1, -1], np.int64, name=CROPS_NAME)
    crops.output(0).set_names({CROPS_NAME})
    # (N, 256, 256) to the 4 x 4 logits of each pixel of the embedding, (N, 4096, 4, 4)
    split = ops.reshape(logits, [0, EMBEDDING_SIZE, UPSCALING, EMBEDDING_SIZE, UPSCALING], True)
    by_pixel = ops.reshape(
        ops.transpose(split, [0, 1, 3, 2, 4]), [0, EMBEDDING_SIZE**2, UPSCALING, UPSCALING], True
    )
    chosen = ops.gather(by_pixel, crops, ops.constant(1), batch_dims=1)  # (N, h, w, 4, 4)
    count_height_width = ops.shape_of(crops)
    sides = np.array([1, UPSCALING, UPSCALING], dtype=np.int64)
    shape = ops.multiply(count_height_width, ops.constant(sides))
    joined = ops.reshape(ops.transpose(chosen, [0, 1, 3, 2, 4]), shape, False)
    joined.output(0).set_names({LOW_RES_LOGITS_NAME})
    kept = [
        output.get_node().input_value(0)
        for output in decoder.outputs
        if QUALITY_NAME in output.names
    ]
    parameters = [*decoder.get_parameters(), crops]
    return openvino.Model([joined.output(0), *kept], parameters, decoder.get_name())


def _exported(
    graph: nn.Module, inputs: dict[str, Tensor], *, outputs: Sequence[str], is_quantized: bool
) -> openvino.Model:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.onnx"
        export_onnx(graph, path, inputs=inputs, outputs=outputs, is_quantized=is_quantized)
        return _read(path, is_quantized=is_quantized)


def _read(path: Path, *, is_quantized: bool) -> openvino.Model:
    graph = read_lowered(path) if is_quantized else convert_model(path)
    # Only what the conversion did on this machine is in there, and paths with it.
    del graph.get_rt_info()["conversion_parameters"]
    return graph
