"""Write a network as ONNX and OpenVINO IR, with a manifest that inference checks.

    python -m training.export

The graphs have batch normalization folded and compute only the one mask that is used. The export
is held to the PyTorch network before anything is put in place.
"""

from __future__ import annotations

import argparse
import copy
import json
import logging
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import openvino
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from inference import __version__
from inference.config import Settings
from inference.contract import (
    BOXES_NAME,
    CONTRACT_VERSION,
    DECODER_FILE,
    EMBEDDING_SHAPE,
    ENCODER_FILE,
    IMAGE_EMBEDDING_NAME,
    IMAGE_NAME,
    LOW_RES_LOGITS_NAME,
    MANIFEST_FILE,
)
from inference.model import CompiledNetwork, file_sha256
from training.checkpoint import DEFAULT_PATH, CheckpointError, load_lite_medsam, load_medsam
from training.layers import fold_batch_norm
from training.network import ImageEncoderGraph, MaskDecoderGraph, PromptableNetwork

logger = logging.getLogger(__name__)

OPSET = 20
# Float rounding in another order of operations; logits span about -45 to 45.
LOGIT_TOLERANCE = 1e-3
CHECKED_BOXES = 3
SEED = 0


@dataclass(frozen=True)
class Source:
    """A network and where its weights came from.

    Attributes:
        checkpoint: None of random weights, which serve to measure speed.
    """

    name: str
    network: PromptableNetwork
    checkpoint: Path | None


class ExportError(Exception):
    """An exported model does not compute what its network does."""


def export_network(source: Source, output_dir: Path) -> None:
    """Write encoder and decoder, as ONNX and IR, and the manifest into `output_dir`.

    Raises:
        ExportError: the exported model does not compute what the network does.
    """
    network = copy.deepcopy(source.network).eval()
    fold_batch_norm(network)
    output_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output_dir.parent) as name:
        folder = Path(name)
        _write_onnx(network, folder)
        for stem in (Path(ENCODER_FILE).stem, Path(DECODER_FILE).stem):
            graph = openvino.convert_model(folder / f"{stem}.onnx")
            # Only what the conversion did on this machine is in there, and paths with it.
            del graph.get_rt_info()["conversion_parameters"]
            openvino.save_model(graph, folder / f"{stem}.xml", compress_to_fp16=False)
        manifest = json.dumps(_manifest(source, folder), indent=2) + "\n"
        (folder / MANIFEST_FILE).write_text(manifest, encoding="utf-8")
        difference = logit_difference(source.network, folder)
        logger.info("Largest difference of a logit from the PyTorch network: %.1e", difference)
        if not difference <= LOGIT_TOLERANCE:
            raise ExportError(f"Logits differ by {difference}, tolerance is {LOGIT_TOLERANCE}")
        put_in_place(folder, output_dir)


def put_in_place(folder: Path, output_dir: Path) -> None:
    """Move a finished model from a folder of the same file system to where it is read.

    The old manifest goes first and the new one comes last, so that no mixture of two has one.
    """
    (output_dir / MANIFEST_FILE).unlink(missing_ok=True)
    for path in sorted(folder.iterdir(), key=lambda path: path.name == MANIFEST_FILE):
        os.replace(path, output_dir / path.name)


def logit_difference(network: PromptableNetwork, model_dir: Path) -> float:
    """Return the largest difference of a logit between a model in f32 and its network."""
    generator = np.random.default_rng(SEED)
    size = network.image_size
    image = generator.random((1, 3, size, size), dtype=np.float32)
    boxes = _example_boxes(generator, CHECKED_BOXES, size)
    compiled = CompiledNetwork(model_dir, Settings(precision="f32"))
    logits = compiled.decode(compiled.encode(image), boxes)
    with torch.inference_mode():
        expected = network(torch.from_numpy(image), torch.from_numpy(boxes)).numpy()
    return float(np.abs(logits - expected).max())


def _write_onnx(network: PromptableNetwork, folder: Path) -> None:
    size = network.image_size
    boxes = torch.from_numpy(_example_boxes(np.random.default_rng(SEED), CHECKED_BOXES, size))
    _export(
        ImageEncoderGraph(network),
        folder / Path(ENCODER_FILE).with_suffix(".onnx"),
        inputs={IMAGE_NAME: torch.zeros(1, 3, size, size)},
        output=IMAGE_EMBEDDING_NAME,
    )
    _export(
        MaskDecoderGraph(network),
        folder / Path(DECODER_FILE).with_suffix(".onnx"),
        inputs={IMAGE_EMBEDDING_NAME: torch.zeros(EMBEDDING_SHAPE), BOXES_NAME: boxes},
        output=LOW_RES_LOGITS_NAME,
    )


def _export(graph: nn.Module, path: Path, *, inputs: dict[str, Tensor], output: str) -> None:
    boxes_count = torch.export.Dim("boxes_count")
    torch.onnx.export(
        graph.eval(),
        tuple(inputs.values()),
        path,
        input_names=list(inputs),
        output_names=[output],
        opset_version=OPSET,
        dynamic_shapes=tuple({0: boxes_count} if name == BOXES_NAME else {} for name in inputs),
        external_data=False,
        verbose=False,
    )
    model = onnx.load(path)
    for node in model.graph.node:  # stack traces and file names of this machine
        del node.metadata_props[:]
    onnx.checker.check_model(model)
    onnx.save(model, path)


def _example_boxes(generator: np.random.Generator, count: int, size: int) -> NDArray[np.float32]:
    corners = np.sort(generator.uniform(0, size, (count, 2, 2)), axis=1)
    return corners.reshape(count, 4).astype(np.float32)


def _manifest(source: Source, folder: Path) -> dict[str, object]:
    digests = {path.name: file_sha256(path) for path in sorted(folder.iterdir())}
    return {
        "contract_version": CONTRACT_VERSION,
        "name": source.name,
        "precision": "f32",
        "image_size": source.network.image_size,
        "source_checkpoint": source.checkpoint and source.checkpoint.name,
        "source_checkpoint_sha256": source.checkpoint and file_sha256(source.checkpoint),
        "exporters": {
            "qmedsam": __version__,
            "torch": torch.__version__,
            "onnx": onnx.__version__,
            "onnx_opset": OPSET,
            "openvino": openvino.__version__,
        },
        # What inference needs; the ONNX files are written beside them and are not shipped.
        "sha256": {name: d for name, d in digests.items() if not name.endswith(".onnx")},
        "onnx_sha256": {name: d for name, d in digests.items() if name.endswith(".onnx")},
    }


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of `python -m training.export`."""
    parser = argparse.ArgumentParser(prog="python -m training.export", description=__doc__)
    parser.add_argument(
        "--network",
        choices=["lite_medsam", "medsam"],
        default="lite_medsam",
        help="which network the checkpoint is of (default: %(default)s)",
    )
    parser.add_argument(
        "--checkpoint", type=Path, default=DEFAULT_PATH, help="weights (default: %(default)s)"
    )
    parser.add_argument(
        "--output-dir",
        type=Path,
        default=Path("models/float"),
        help="folder to write (default: %(default)s)",
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Export a checkpoint; 0 when the model is in place, 2 otherwise."""
    arguments = build_parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("onnxscript").setLevel(logging.WARNING)
    load = load_lite_medsam if arguments.network == "lite_medsam" else load_medsam
    try:
        source = Source(arguments.network, load(arguments.checkpoint), arguments.checkpoint)
        export_network(source, arguments.output_dir)
    except (CheckpointError, ExportError) as error:
        logger.error("%s", error)
        return 2
    logger.info("Wrote %s", arguments.output_dir)
    return 0


if __name__ == "__main__":
    sys.exit(main())
