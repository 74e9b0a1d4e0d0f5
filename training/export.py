"""Write a network as ONNX and OpenVINO IR, with a manifest that inference checks.

    python -m training.export

The graphs have batch normalization folded and compute only the one mask that is used. The export
is held to the PyTorch network before anything is put in place.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import openvino
import torch
from numpy.typing import NDArray

from inference import __version__
from inference.config import Settings
from inference.contract import CONTRACT_VERSION, MANIFEST_FILE
from inference.model import CompiledNetwork, file_sha256
from training.checkpoint import DEFAULT_PATH, CheckpointError
from training.lowering import read_lowered
from training.network import PromptableNetwork
from training.onnx_files import EXAMPLE_BOXES, OPSET, SEED, example_boxes, write_onnx
from training.quant_config import QuantConfig
from training.run_time import Product, run_time_products
from training.state import load_start

logger = logging.getLogger(__name__)

# Float rounding in another order of operations; logits span about -45 to 45.
LOGIT_TOLERANCE = 1e-3
# A sum rounded another way moves an activation by a step of its scale, and what follows with it: a
# change of the image by 1e-6 moves the embedding of a quantized network by 0.02 on this measure.
QUANTIZED_TOLERANCE = 0.1


@dataclass(frozen=True)
class Source:
    """A network and where its weights came from.

    Attributes:
        checkpoint: None of random weights, which serve to measure speed.
        quant: how parts of it are quantized; None of a float network.
        history: the stages of training that it went through.
    """

    name: str
    network: PromptableNetwork
    checkpoint: Path | None
    quant: QuantConfig | None = None
    history: Sequence[Mapping[str, Any]] = ()


class ExportError(Exception):
    """An exported model does not compute what its network does, or not as it is meant to."""


def export_network(source: Source, output_dir: Path) -> None:
    """Write encoder and decoder, as ONNX and IR, and the manifest into `output_dir`.

    Raises:
        ExportError: the exported model does not compute what the network does, or a product that
            is meant for int8 runs in float on this processor.
    """
    output_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output_dir.parent) as name:
        folder = Path(name)
        products = {
            file: _write_ir(folder / file, is_quantized=is_quantized)
            for file, is_quantized in write_onnx(source.network, folder).items()
        }
        manifest = json.dumps(_manifest(source, folder, products), indent=2) + "\n"
        (folder / MANIFEST_FILE).write_text(manifest, encoding="utf-8")
        check_export(source, folder)
        put_in_place(folder, output_dir)


def check_export(source: Source, model_dir: Path) -> None:
    """Hold an exported model to its network.

    Raises:
        ExportError: they differ more than rounding explains.
    """
    if source.quant is None:
        difference = logit_difference(source.network, model_dir)
        logger.info("Largest difference of a logit from the PyTorch network: %.1e", difference)
        is_equal = difference <= LOGIT_TOLERANCE
    else:
        difference = relative_distance(source.network, model_dir)
        logger.info("Relative distance of logits from the quantized network: %.1e", difference)
        is_equal = difference <= QUANTIZED_TOLERANCE
    if not is_equal:
        raise ExportError(f"The model in {model_dir} differs from its network by {difference}")


def _write_ir(path: Path, *, is_quantized: bool) -> list[Product]:
    """Turn the ONNX file beside `path` into IR, and say how its quantized products run."""
    onnx_path = path.with_suffix(".onnx")
    graph = read_lowered(onnx_path) if is_quantized else openvino.convert_model(onnx_path)
    # Only what the conversion did on this machine is in there, and paths with it.
    del graph.get_rt_info()["conversion_parameters"]
    openvino.save_model(graph, path, compress_to_fp16=False)
    if not is_quantized:
        return []
    products = [product for product in run_time_products(graph, "f32") if product.is_quantized]
    in_float = [f"{item.name} ({item.precision})" for item in products if not item.is_as_meant]
    if in_float:
        raise ExportError(f"Products meant for int8 run in float: {', '.join(in_float)}")
    logger.info("%s: all %d quantized products run in int8", path.stem, len(products))
    return products


def put_in_place(folder: Path, output_dir: Path) -> None:
    """Move a finished model from a folder of the same file system to where it is read.

    The old manifest goes first and the new one comes last, so that no mixture of two has one.
    """
    (output_dir / MANIFEST_FILE).unlink(missing_ok=True)
    for path in sorted(folder.iterdir(), key=lambda path: path.name == MANIFEST_FILE):
        os.replace(path, output_dir / path.name)


def logit_difference(network: PromptableNetwork, model_dir: Path) -> float:
    """Return the largest difference of a logit between a model in f32 and its network."""
    logits, expected = _compared(network, model_dir)
    return float(np.abs(logits - expected).max())


def relative_distance(network: PromptableNetwork, model_dir: Path) -> float:
    """Return the mean squared difference of logits, relative to their mean square."""
    logits, expected = _compared(network, model_dir)
    return float(np.square(logits - expected).mean() / np.square(expected).mean())


def _compared(
    network: PromptableNetwork, model_dir: Path
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the logits of a model in f32 and of its network for one random image."""
    generator = np.random.default_rng(SEED)
    size = network.image_size
    image = generator.random((1, 3, size, size), dtype=np.float32)
    boxes = example_boxes(generator, EXAMPLE_BOXES, size)
    compiled = CompiledNetwork(model_dir, Settings(precision="f32"))
    logits = compiled.decode(compiled.encode(image), boxes)
    with torch.no_grad():
        expected = network(torch.from_numpy(image), torch.from_numpy(boxes)).numpy()
    return logits, expected


def _manifest(
    source: Source, folder: Path, products: Mapping[str, Sequence[Product]]
) -> dict[str, object]:
    digests = {path.name: file_sha256(path) for path in sorted(folder.iterdir())}
    return {
        "contract_version": CONTRACT_VERSION,
        "name": source.name,
        "precision": "f32" if source.quant is None else "int8",
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
        **({} if source.quant is None else _account(source, products)),
        # What inference needs; the ONNX files are written beside them and are not shipped.
        "sha256": {name: d for name, d in digests.items() if not name.endswith(".onnx")},
        "onnx_sha256": {name: d for name, d in digests.items() if name.endswith(".onnx")},
    }


def _account(source: Source, products: Mapping[str, Sequence[Product]]) -> dict[str, object]:
    """Say how a quantized model came to be."""
    return {
        "quantization": None if source.quant is None else dataclasses.asdict(source.quant),
        "int8_products": {file: len(found) for file, found in products.items()},
        "training": list(source.history),
    }


def load_source(name: str, checkpoint: Path) -> Source:
    """Load a checkpoint of training, or published weights of the network `name`.

    Raises:
        CheckpointError: it is neither.
    """
    trained = load_start(name, checkpoint)
    return Source(trained.name, trained.network, checkpoint, trained.quant, trained.history)


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of `python -m training.export`."""
    parser = argparse.ArgumentParser(prog="python -m training.export", description=__doc__)
    parser.add_argument(
        "--network",
        choices=["lite_medsam", "medsam"],
        default="lite_medsam",
        help="which network published weights are of (default: %(default)s)",
    )
    parser.add_argument(
        "--checkpoint",
        type=Path,
        default=DEFAULT_PATH,
        help="best.pt of a stage of training, or published weights (default: %(default)s)",
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
    for chatty in ("onnxscript", "onnx_ir"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    try:
        export_network(load_source(arguments.network, arguments.checkpoint), arguments.output_dir)
    except (CheckpointError, ExportError) as error:
        logger.error("%s", error)
        return 2
    logger.info("Wrote %s", arguments.output_dir)
    return 0


if __name__ == "__main__":
    sys.exit(main())
