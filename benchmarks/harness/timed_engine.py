"""One engine timed in this process: encoder, decoder and both, on one image with one box.

    python -m benchmarks.harness.timed_engine openvino --model-dir models/float --precision bf16

`python -m benchmarks engines` runs it once per row, so that no two engines share a process.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections.abc import Callable
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
from qmedsam.model.manifest import read_manifest
from qmedsam.model.network import CompiledNetwork
from qmedsam.model.variant import default_model_dir
from qmedsam.options import at_least
from training.checkpoint import load_lite_medsam, load_medsam
from training.networks.network import PromptableNetwork, build_medsam

SEED = 0
# What --precision can be; other precisions are in the model's files.
PRECISIONS = {
    "pytorch": ("f32", "bf16", "int8"),
    "onnxruntime": ("f32",),
    "openvino": ("f32", "bf16"),
}
Array = NDArray[np.float32]


class Engine(Protocol):
    """A network ready to run."""

    def encode(self, image: Array) -> Any:
        """Encode (1, 3, S, S) as what `decode` reads of it."""
        ...

    def decode(self, encoded: Any, boxes: Array) -> Array:
        """Decode (N, 4) boxes as low_res_logits (N, 256, 256)."""
        ...


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


def load_engine(arguments: argparse.Namespace) -> Engine:
    """Make the engine that the arguments name ready."""
    if arguments.engine == "openvino":
        settings = Settings(precision=arguments.precision, threads=arguments.threads)
        return CompiledNetwork(arguments.model_dir, settings)
    if arguments.engine == "onnxruntime":
        return OnnxRuntimeEngine(arguments.model_dir, arguments.threads)
    network = torch_network(arguments.network, arguments.checkpoint)
    return TorchEngine(network, arguments.precision, arguments.threads)


def torch_network(name: str, checkpoint: Path | None) -> PromptableNetwork:
    """Build a network in PyTorch; without its checkpoint MedSAM gets random weights."""
    if name == "lite_medsam":
        return load_lite_medsam(checkpoint) if checkpoint else load_lite_medsam()
    if checkpoint:
        return load_medsam(checkpoint)
    torch.manual_seed(SEED)
    return build_medsam().eval()


def time_engine(
    engine: Engine, image_size: int, *, warmups: int, runs: int, budget_s: float
) -> dict[str, list[float]]:
    """Return seconds of encoder, decoder and both in each run.

    Args:
        engine: to run.
        image_size: side of the model frame.
        warmups: runs before those that count.
        runs: most runs that count.
        budget_s: no further run begins after so long; three are made in any case.
    """
    generator = np.random.default_rng(SEED)
    image = generator.random((1, 3, image_size, image_size), dtype=np.float32)
    boxes = np.array([[0.2, 0.3, 0.7, 0.8]], dtype=np.float32) * image_size
    seconds: dict[str, list[float]] = {"encoder": [], "decoder": [], "whole": []}
    started = time.perf_counter()
    for run in range(-warmups, runs):
        if run >= 3 and time.perf_counter() - started > budget_s:
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


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of `python -m benchmarks.harness.timed_engine`."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.harness.timed_engine",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("engine", choices=["pytorch", "onnxruntime", "openvino"])
    parser.add_argument(
        "--network",
        choices=["lite_medsam", "medsam"],
        default="lite_medsam",
        help="for PyTorch (default: %(default)s)",
    )
    parser.add_argument(
        "--model-dir",
        type=Path,
        default=default_model_dir("float"),
        help="for ONNX Runtime and OpenVINO (default: the one that ships)",
    )
    parser.add_argument(
        "--checkpoint", type=Path, help="for PyTorch (default: LiteMedSAM's, or random weights)"
    )
    parser.add_argument(
        "--precision",
        choices=["f32", "bf16", "int8"],
        default="f32",
        help="of layers not in int8, or of PyTorch's linear layers (default: %(default)s)",
    )
    parser.add_argument(
        "--threads", type=at_least(1), default=2, metavar="N", help="(default: %(default)s)"
    )
    parser.add_argument(
        "--warmups",
        type=at_least(0),
        default=2,
        metavar="N",
        help="first runs (default: %(default)s)",
    )
    parser.add_argument(
        "--runs",
        type=at_least(1),
        default=10,
        metavar="N",
        help="most that count (default: %(default)s)",
    )
    parser.add_argument(
        "--budget",
        type=float,
        default=15,
        metavar="S",
        help="no further run begins after so long (default: %(default)s s)",
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Print the seconds as JSON."""
    parser = build_parser()
    arguments = parser.parse_args(argv)
    if arguments.precision not in PRECISIONS[arguments.engine]:
        parser.error(f"{arguments.engine} has --precision {PRECISIONS[arguments.engine]} only")
    engine = load_engine(arguments)
    if arguments.engine != "pytorch":
        image_size = read_manifest(arguments.model_dir).image_size
    else:
        image_size = MEDSAM_IMAGE_SIZE if arguments.network == "medsam" else LITE_MEDSAM_IMAGE_SIZE
    seconds = time_engine(
        engine,
        image_size,
        warmups=arguments.warmups,
        runs=arguments.runs,
        budget_s=arguments.budget,
    )
    json.dump(seconds, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
