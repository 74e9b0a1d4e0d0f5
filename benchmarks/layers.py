"""Where the time of a model goes: milliseconds by kind of layer, and multiply-accumulates.

OpenVINO's profile counts the milliseconds. It costs time itself, so that its sum is more than a run
without one. Multiply-accumulates are counted in the graphs.
"""

from __future__ import annotations

import argparse
import math
import re
from collections import defaultdict
from pathlib import Path

import numpy as np
import openvino
from numpy.typing import NDArray

from benchmarks.harness.command import Command
from benchmarks.harness.options import add_count, add_precision
from benchmarks.harness.record import RESULTS_DIR, write_record
from qmedsam.core.contract import BOXES_NAME, CROPS_NAME, DECODER_FILE, EMBEDDING_SIZE
from qmedsam.model.manifest import encoder_paths, read_manifest
from qmedsam.model.variant import default_model_dir

WARM_UPS = 3
BOX = (30.0, 40.0, 150.0, 200.0)  # xyxy, of the model frame
# The plugin's kinds of nodes, in a user's words; a kernel's precision decides where both exist.
MOVING = (
    *("Transpose", "Reorder", "Pad", "Slice", "Split", "Concatenation", "Concat"),
    *("GatherND", "Tile"),
)
KINDS = {
    "Convolution": "convolutions",
    "GroupConvolution": "depth-wise convolutions",
    "Deconvolution": "transposed convolutions",
    "FullyConnected": "linear layers",
    "FullyConnectedQuantizedLegacy": "linear layers",
    "MatMul": "products of two activations",
    "MVN": "normalization",
    **dict.fromkeys(MOVING, "moving values"),
}
ELEMENTWISE, ATTENTION = "element by element", "fused attention"
INT8 = ", int8"  # behind a kind


def layer_kind(node_type: str, exec_type: str, *, is_attention: bool) -> str:
    """Name the kind of a layer.

    Args:
        node_type: of the plugin.
        exec_type: the kernel, which ends in its precision.
        is_attention: whether it is a fused attention.
    """
    kind = ATTENTION if is_attention else KINDS.get(node_type, ELEMENTWISE)
    is_int8 = re.search(r"[iuIU]8$", exec_type) and kind != ELEMENTWISE
    return f"{kind}{INT8}" if is_int8 else kind


def layer_milliseconds(path: Path, precision: str, runs: int) -> dict[str, float]:
    """Return the milliseconds of one inference of a graph by kind of layer.

    Args:
        path: of the IR.
        precision: of what is not int8.
        runs: whose mean is taken.
    """
    config = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
    compiled = openvino.Core().compile_model(path, "CPU", {**config, "PERF_COUNT": True})
    attention = {
        node.get_friendly_name()
        for node in compiled.get_runtime_model().get_ordered_ops()
        if "oftmax" in node.get_rt_info()["originalLayersNames"].astype(str)
        and node.get_rt_info()["layerType"].astype(str) == "Subgraph"
    }
    inputs = _inputs(compiled)
    request = compiled.create_infer_request()
    for _ in range(WARM_UPS):
        request.infer(inputs)
    taken: dict[str, float] = defaultdict(float)
    for _ in range(runs):
        request.infer(inputs)
        for layer in request.profiling_info:
            milliseconds = 1000 * layer.real_time.total_seconds() / runs
            if milliseconds:
                kind = layer_kind(
                    layer.node_type, layer.exec_type, is_attention=layer.node_name in attention
                )
                taken[kind] += milliseconds
    return dict(sorted(taken.items(), key=lambda item: -item[1]))


def model_milliseconds(model_dir: Path, precision: str, runs: int) -> dict[str, dict[str, float]]:
    """Return the milliseconds of encoder and decoder, for one box, by kind of layer."""
    encoder: dict[str, float] = defaultdict(float)
    manifest = read_manifest(model_dir)
    for path in encoder_paths(manifest):
        for kind, value in layer_milliseconds(path, precision, runs).items():
            encoder[kind] += value
    decoder = layer_milliseconds(manifest.path(DECODER_FILE), precision, runs)
    return {"encoder": dict(encoder), "decoder": decoder}


def multiply_accumulates(model: openvino.Model) -> int:
    """Return the multiply-accumulates of a graph's convolutions and matrix products."""
    total = 0
    for op in model.get_ops():
        kind = op.get_type_name()
        if kind not in ("Convolution", "GroupConvolution", "MatMul", "ScaledDotProductAttention"):
            continue
        outputs = math.prod(op.get_output_shape(0))
        weights = list(op.get_input_shape(1))
        if kind == "Convolution":
            total += outputs * math.prod(weights[1:])
        elif kind == "GroupConvolution":
            total += outputs * math.prod(weights[2:])
        elif kind == "ScaledDotProductAttention":  # scores, and the mixing by them
            queries, keys, values = (op.get_input_shape(index) for index in range(3))
            total += math.prod(queries[:-1]) * keys[-2] * (queries[-1] + values[-1])
        else:
            is_transposed = op.get_attributes()["transpose_a"]
            total += outputs * op.get_input_shape(0)[-2 if is_transposed else -1]
    return total


def model_multiply_accumulates(model_dir: Path) -> dict[str, int]:
    """Return those of encoder and decoder for one image, and one box on the whole embedding."""
    core, manifest = openvino.Core(), read_manifest(model_dir)
    decoder = core.read_model(manifest.path(DECODER_FILE))
    decoder.reshape({BOXES_NAME: [1, 4], CROPS_NAME: [1, EMBEDDING_SIZE, EMBEDDING_SIZE]})
    encoder = (core.read_model(path) for path in encoder_paths(manifest))
    return {
        "encoder": sum(map(multiply_accumulates, encoder)),
        "decoder": multiply_accumulates(decoder),
    }


def _inputs(compiled: openvino.CompiledModel) -> dict[str, NDArray[np.generic]]:
    """Return one input of each name, a box and the whole embedding for its crop."""
    known: dict[str, NDArray[np.generic]] = {
        BOXES_NAME: np.array([BOX], dtype=np.float32),
        CROPS_NAME: np.arange(EMBEDDING_SIZE**2).reshape(1, EMBEDDING_SIZE, EMBEDDING_SIZE),
    }
    generator = np.random.default_rng(0)
    return {
        entry.any_name: known[entry.any_name]
        if entry.any_name in known
        else generator.random(tuple(entry.shape), dtype=np.float32)
        for entry in compiled.inputs
    }


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the model, its precision and how often."""
    parser.add_argument(
        "--model-dir",
        type=Path,
        default=default_model_dir("int8"),
        help="exported model (default: models/int8)",
    )
    add_precision(parser, "bf16")
    add_count(parser, "--runs", 10)


def run(arguments: argparse.Namespace) -> int:
    """Profile the model, print its layers and write the record."""
    parts = model_milliseconds(arguments.model_dir, arguments.precision, arguments.runs)
    works = model_multiply_accumulates(arguments.model_dir)
    gmac = {part: work / 1e9 for part, work in works.items()}
    for part, taken in parts.items():
        print(f"{part}: {sum(taken.values()):.1f} ms, {gmac[part]:.2f} GMAC")
        for kind, value in taken.items():
            print(f"  {value:7.2f}  {kind}")
    results = {"precision": arguments.precision, "milliseconds": parts, "gmac": gmac}
    write_record(arguments.json, results)
    return 0


COMMAND = Command(
    "layers",
    __doc__,
    run,
    add_options,
    record=RESULTS_DIR / "layers.json",
    selecting=("model_dir", "precision"),
)
