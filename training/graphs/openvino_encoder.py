"""A float encoder run by OpenVINO, which on a processor takes a fraction of PyTorch's time."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import openvino  # type: ignore[import-untyped]
import torch
from openvino.tools.ovc import convert_model  # type: ignore[import-untyped]
from torch import Tensor

from qmedsam.core.contract import IMAGE_EMBEDDING_NAME, IMAGE_NAME, Grid
from qmedsam.model.grids import encoder_on_grid
from training.graphs.onnx_files import export_onnx, for_export
from training.networks.network import ImageEncoderGraph, PromptableNetwork


class OpenVinoEncoder:
    """Encodes as the network does, in bf16 where the processor has it.

    Args:
        network: float; it is not changed.
    """

    def __init__(self, network: PromptableNetwork) -> None:
        size = network.image_size
        self._square: Grid = size, size
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "encoder.onnx"
            export_onnx(
                ImageEncoderGraph(for_export(network)),
                path,
                inputs={IMAGE_NAME: torch.zeros(1, 3, size, size)},
                outputs=[IMAGE_EMBEDDING_NAME],
                is_quantized=False,
            )
            self._graph = convert_model(path)
        self._requests: dict[Grid, openvino.InferRequest] = {}

    def __call__(self, images: Tensor) -> Tensor:
        """Encode (B, 3, h, w) of a grid as (B, 256, h / 4, w / 4)."""
        request = self._request((images.shape[2], images.shape[3]))
        found = []
        for image in images:
            values = np.ascontiguousarray(image.float().cpu().numpy()[None])
            result = request.infer({IMAGE_NAME: values})
            found.append(torch.from_numpy(result[IMAGE_EMBEDDING_NAME]))
        return torch.cat(found)

    def _request(self, grid_hw: Grid) -> openvino.InferRequest:
        if grid_hw not in self._requests:
            graph = self._graph.clone()
            if grid_hw != self._square:
                encoder_on_grid(graph, grid_hw)
            compiled = openvino.Core().compile_model(graph, "CPU")
            self._requests[grid_hw] = compiled.create_infer_request()
        return self._requests[grid_hw]
