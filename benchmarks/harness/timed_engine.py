"""One engine timed in this process: encoder, decoder and both, on one image with one box.

    python -m benchmarks.harness.timed_engine '{"engine": "openvino", "precision": "bf16"}'

`python -m benchmarks engines` runs it once per row, so that no two engines share a process.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import nn

from qmedsam import Settings
from qmedsam.core.contract import (
    BOXES_NAME,
    DECODER_FILE,
    ENCODER_FILE,
    IMAGE_EMBEDDING_NAME,
    IMAGE_NAME,
    LITE_MEDSAM_IMAGE_SIZE,
    MEDSAM_IMAGE_SIZE,
)
from qmedsam.core.embeddings import EncodedImage
from qmedsam.model.manifest import read_manifest
from qmedsam.model.network import CompiledNetwork
from qmedsam.model.variant import default_model_dir
from training.checkpoint import load_lite_medsam, load_medsam
from training.networks.network import PromptableNetwork, build_medsam

SEED = 0
# Of the layers that are not in int8, or of PyTorch's linear layers; what else is in the files.
PRECISIONS = {
    "pytorch": ("f32", "bf16", "int8"),
    "onnxruntime": ("f32",),
    "openvino": ("f32", "bf16"),
}
PARTS = ("encoder", "decoder", "whole")
Array = NDArray[np.float32]


@dataclass(frozen=True)
class Task:
    """What is timed.

    Attributes:
        engine: a key of `PRECISIONS`.
        network: lite_medsam or medsam, for PyTorch.
        model_dir: for ONNX Runtime and OpenVINO; empty takes the float model that ships.
        checkpoint: for PyTorch; empty takes LiteMedSAM's, or random weights.
        warmups: first runs, which do not count.
        runs: most runs that count.
        budget_s: no further run begins after so long; three are made in any case.

    Raises:
        ValueError: the engine does not have the precision.
    """

    engine: str
    precision: str = "f32"
    network: str = "lite_medsam"
    model_dir: str = ""
    checkpoint: str = ""
    threads: int = 2
    warmups: int = 2
    runs: int = 10
    budget_s: float = 15.0

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS[self.engine]:
            raise ValueError(
                f"{self.engine} has {PRECISIONS[self.engine]} only, got {self.precision}"
            )

    @property
    def folder(self) -> Path:
        """The exported model."""
        return Path(self.model_dir) if self.model_dir else default_model_dir("float")

    @property
    def image_size(self) -> int:
        """Side of the model frame."""
        if self.engine != "pytorch":
            return read_manifest(self.folder).image_size
        return MEDSAM_IMAGE_SIZE if self.network == "medsam" else LITE_MEDSAM_IMAGE_SIZE


class Engine(Protocol):
    """A network ready to run."""

    def encode(self, image: Array) -> Any:
        """Encode (1, 3, S, S) as what `decode` reads of it."""
        ...

    def decode(self, encoded: Any, boxes: Array) -> Array:
        """Decode (N, 4) boxes as low_res_logits (N, 256, 256)."""
        ...


class OpenVinoEngine:
    """The service's own."""

    def __init__(self, network: CompiledNetwork) -> None:
        self._network = network
        self.encode = network.encode

    def decode(self, encoded: EncodedImage, boxes: Array) -> Array:
        """See `Engine`."""
        return self._network.decode(encoded, boxes).low_res_logits


class TorchEngine:
    """PyTorch eager: f32, bf16 by autocast, or int8 by dynamic quantization of linear layers."""

    def __init__(self, network: PromptableNetwork, precision: str, threads: int) -> None:
        torch.set_num_threads(threads)
        self._network = network.eval()
        self._has_autocast = precision == "bf16"
        if precision == "int8":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch.ao is being moved elsewhere
                self._network = torch.ao.quantization.quantize_dynamic(
                    self._network, {nn.Linear}, dtype=torch.qint8
                )

    def encode(self, image: Array) -> Array:
        """See `Engine`."""
        return self._run(self._network.encode, image)

    def decode(self, image_embedding: Array, boxes: Array) -> Array:
        """See `Engine`."""
        return self._run(self._network.decode, image_embedding, boxes)

    @torch.inference_mode()
    def _run(self, function: Callable[..., torch.Tensor], *arrays: Array) -> Array:
        with torch.autocast("cpu", torch.bfloat16, enabled=self._has_autocast):
            result = function(*map(torch.from_numpy, arrays))
        return result.float().numpy()


class OnnxRuntimeEngine:
    """ONNX Runtime on the CPU; the precision is what the files hold."""

    def __init__(self, model_dir: Path, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._encoder, self._decoder = (
            onnxruntime.InferenceSession(
                model_dir / Path(file).with_suffix(".onnx"), options, ["CPUExecutionProvider"]
            )
            for file in (ENCODER_FILE, DECODER_FILE)
        )

    def encode(self, image: Array) -> Array:
        """See `Engine`."""
        return self._encoder.run(None, {IMAGE_NAME: image})[0]

    def decode(self, image_embedding: Array, boxes: Array) -> Array:
        """See `Engine`."""
        inputs = {IMAGE_EMBEDDING_NAME: image_embedding, BOXES_NAME: boxes}
        return self._decoder.run(None, inputs)[0]


def load_engine(task: Task) -> Engine:
    """Make the engine of a task ready."""
    if task.engine == "openvino":
        settings = Settings(precision=task.precision, threads=task.threads)
        return OpenVinoEngine(CompiledNetwork(task.folder, settings))
    if task.engine == "onnxruntime":
        return OnnxRuntimeEngine(task.folder, task.threads)
    network = torch_network(task.network, Path(task.checkpoint) if task.checkpoint else None)
    return TorchEngine(network, task.precision, task.threads)


def torch_network(name: str, checkpoint: Path | None) -> PromptableNetwork:
    """Build a network in PyTorch; without its checkpoint MedSAM gets random weights."""
    if name == "lite_medsam":
        return load_lite_medsam(checkpoint) if checkpoint else load_lite_medsam()
    if checkpoint:
        return load_medsam(checkpoint)
    torch.manual_seed(SEED)
    return build_medsam().eval()


def time_engine(engine: Engine, task: Task) -> dict[str, list[float]]:
    """Return seconds of encoder, decoder and both in each run."""
    generator = np.random.default_rng(SEED)
    image = generator.random((1, 3, task.image_size, task.image_size), dtype=np.float32)
    boxes = np.array([[0.2, 0.3, 0.7, 0.8]], dtype=np.float32) * task.image_size
    seconds: dict[str, list[float]] = {part: [] for part in PARTS}
    started = time.perf_counter()
    for run in range(-task.warmups, task.runs):
        if run >= 3 and time.perf_counter() - started > task.budget_s:
            break
        begin = time.perf_counter()
        embedding = engine.encode(image)
        middle = time.perf_counter()
        engine.decode(embedding, boxes)
        end = time.perf_counter()
        if run >= 0:
            seconds["encoder"].append(middle - begin)
            seconds["decoder"].append(end - middle)
            seconds["whole"].append(end - begin)
    return seconds


def main() -> None:
    """Print the seconds of the task of the argument as JSON."""
    task = Task(**json.loads(sys.argv[1]))
    json.dump(time_engine(load_engine(task), task), sys.stdout)


if __name__ == "__main__":
    main()
