"""The peer: int8 by NNCF's post-training quantization of an exported model.

It is what an OpenVINO user would reach for, with NNCF's own settings for transformers. The folder
it writes runs like any other model (`--model-dir`); the ONNX files beside it are for ONNX Runtime.
"""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
from collections.abc import Sequence
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any

import nncf
import numpy as np
import onnx
import openvino
from numpy.typing import NDArray

from benchmarks.harness.command import Command
from benchmarks.harness.options import add_count, add_path
from benchmarks.harness.peers import NNCF_DIR, NNCF_TITLE, PLAIN_DIR, SOURCE_KEY, is_exported
from qmedsam import Settings
from qmedsam.batch.cases import read_case
from qmedsam.core.contract import (
    BOXES_NAME,
    CONTRACT_VERSION,
    CROPS_NAME,
    DECODER_FILE,
    ENCODER_FILE,
    ENCODER_REST_FILE,
    IMAGE_NAME,
    LITE_MEDSAM_IMAGE_SIZE,
    MANIFEST_FILE,
)
from qmedsam.core.crops import WHOLE, crop_pixels
from qmedsam.core.geometry import ModelFrame
from qmedsam.core.preprocess import preprocess_image
from qmedsam.core.prompts import check_prompts
from qmedsam.core.propagation import boxes_2d, fixed_visits, image_visits
from qmedsam.model.manifest import file_sha256, read_manifest
from qmedsam.model.network import CompiledNetwork
from training.graphs.check import ExportError
from training.graphs.inference_graphs import plain_graphs
from training.graphs.model_folder import export_network, put_in_place
from training.loop.state import load_source
from training.published import DEFAULT_PATH, CheckpointError

logger = logging.getLogger(__name__)

DEFAULT_CALIBRATION = Path("../shared/data/train")
MOST_BOXES = 8  # of one image, so that a slide full of nuclei does not outweigh the rest
# The ONNX files serve to compare speeds, and calibrating them takes many times longer.
ONNX_SAMPLES = 32
# On these graphs as ONNX, SmoothQuant of NNCF 3.4 stops with an assertion.
WITHOUT_SMOOTHING = nncf.AdvancedQuantizationParameters(
    smooth_quant_alphas=nncf.AdvancedSmoothQuantParameters(convolution=-1, matmul=-1)
)
Inputs = dict[str, NDArray[np.float32]]
Sample = tuple[NDArray[np.float32], NDArray[np.float32]]


def calibration_samples(root: Path, image_size: int, count: int) -> list[Sample]:
    """Return prepared images with boxes of the model frame, modalities in turn.

    Raises:
        FileNotFoundError: `root` holds no case.
    """
    folders = sorted(folder for folder in root.glob("*") if folder.is_dir())
    in_turn = zip_longest(*(sorted(folder.glob("*.npz")) for folder in folders))
    paths = (path for turn in in_turn for path in turn if path is not None)
    made = (_sample(path, image_size) for path in paths)
    samples = list(islice((sample for sample in made if sample is not None), count))
    if not samples:
        raise FileNotFoundError(f"{root} must hold <Modality>/*.npz with boxes, got none")
    return samples


def _sample(path: Path, image_size: int) -> Sample | None:
    """Prepare an image, or the middle one of the slices that the boxes of a volume cover."""
    case = read_case(path)
    prompts = check_prompts(case.pixels, case.boxes)
    if not prompts.objects:
        return None
    if prompts.is_volume:
        visits = fixed_visits(prompts.boxes, prompts.objects)
        visit = visits[len(visits) // 2]
        image, boxes = case.pixels[visit.z], boxes_2d(prompts.boxes)
    else:
        visit = image_visits(prompts.objects)[0]
        image, boxes = case.pixels, prompts.boxes
    frame = ModelFrame.square(image.shape[:2], image_size)
    chosen = boxes[list(visit.objects[:MOST_BOXES])]
    return preprocess_image(image, image_size), frame.boxes_to_model(chosen)


def graph_inputs(model_dir: Path, samples: Sequence[Sample]) -> dict[str, list[Inputs]]:
    """Return the inputs of encoder and decoder, by file, that the samples lead to."""
    network = CompiledNetwork(model_dir, Settings(precision="f32"))
    return {
        ENCODER_FILE: [{IMAGE_NAME: image} for image, _ in samples],
        DECODER_FILE: [
            {
                **network.encode(image).values,
                BOXES_NAME: boxes,
                CROPS_NAME: crop_pixels([WHOLE] * len(boxes), WHOLE.width),
            }
            for image, boxes in samples
        ],
    }


def quantize_model(model_dir: Path, samples: Sequence[Sample], output_dir: Path) -> None:
    """Quantize encoder and decoder, as IR and as ONNX where `model_dir` has it.

    Args:
        model_dir: exported in f32, with the graphs of its ONNX files.
        samples: of `calibration_samples`.
        output_dir: gets the model and its manifest.

    Raises:
        ExportError: `model_dir` has an encoder in two parts.
    """
    if (model_dir / ENCODER_REST_FILE).is_file():
        raise ExportError(
            f"{model_dir} must have the graphs of its ONNX files, got an encoder cut in two; "
            "export it with --plain"
        )
    manifest = read_manifest(model_dir)
    output_dir.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output_dir.parent) as name:
        folder = Path(name)
        for file, inputs in graph_inputs(model_dir, samples).items():
            graph = openvino.Core().read_model(model_dir / file)
            quantized = _quantize(graph, inputs, nncf.AdvancedQuantizationParameters())
            openvino.save_model(quantized, folder / file, compress_to_fp16=False)
            onnx_file = Path(file).with_suffix(".onnx")
            if (model_dir / onnx_file).is_file():
                graph = onnx.load(model_dir / onnx_file)
                names = [item.name for item in graph.graph.input]  # crops are not among them
                few = [{name: one[name] for name in names} for one in inputs[:ONNX_SAMPLES]]
                onnx.save(_quantize(graph, few, WITHOUT_SMOOTHING), folder / onnx_file)
        document = {
            "contract_version": CONTRACT_VERSION,
            "name": f"{manifest.name}, {NNCF_TITLE}",
            "precision": "int8",
            "image_size": manifest.image_size,
            "nncf": nncf.__version__,
            "calibration_images": len(samples),
            SOURCE_KEY: file_sha256(model_dir / MANIFEST_FILE),
            "sha256": {
                path.name: file_sha256(path)
                for path in sorted(folder.iterdir())
                if path.suffix != ".onnx"
            },
        }
        (folder / MANIFEST_FILE).write_text(json.dumps(document, indent=2) + "\n")
        output_dir.mkdir(exist_ok=True)
        put_in_place(folder, output_dir)


def _quantize(
    graph: Any, inputs: list[Inputs], advanced: nncf.AdvancedQuantizationParameters
) -> Any:
    return nncf.quantize(
        graph,
        nncf.Dataset(inputs),
        preset=nncf.QuantizationPreset.MIXED,
        model_type=nncf.ModelType.TRANSFORMER,
        subset_size=len(inputs),
        advanced_parameters=advanced,
    )


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the model and what it is calibrated with."""
    parser.add_argument(
        "--model-dir",
        type=Path,
        default=PLAIN_DIR,
        help="float model with the graphs of its ONNX files, as `python -m training.export "
        "--plain` writes it (default: %(default)s, made where it is missing)",
    )
    add_path(parser, "--calibration", DEFAULT_CALIBRATION, "folder of modalities")
    add_count(parser, "--samples", 300, "images to calibrate with")
    add_path(parser, "--output-dir", NNCF_DIR)


def run(arguments: argparse.Namespace) -> int:
    """Quantize a model."""
    is_missing = arguments.model_dir == PLAIN_DIR and not is_exported(PLAIN_DIR)
    size = LITE_MEDSAM_IMAGE_SIZE
    if not is_missing:
        size = read_manifest(arguments.model_dir).image_size
    samples = calibration_samples(arguments.calibration, size, arguments.samples)
    if is_missing:
        logger.info("Exporting %s", PLAIN_DIR)
        export_network(load_source("lite_medsam", DEFAULT_PATH), PLAIN_DIR, plain_graphs)
    quantize_model(arguments.model_dir, samples, arguments.output_dir)
    logger.info("Wrote %s, calibrated with %d images", arguments.output_dir, len(samples))
    return 0


COMMAND = Command("nncf-int8", __doc__, run, add_options, expected=(CheckpointError, ExportError))
