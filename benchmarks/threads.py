"""How the encoder scales with threads, and how far it stands from what the processor can do.

The processor's peak is measured, too: the best of some products of matrices that OpenVINO computes
in the same precision and with as many threads. That of int8 includes rounding what goes in and what
comes out, so that the share of it is rather too high.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openvino
from openvino import opset13 as ops

from benchmarks.harness.command import Command
from benchmarks.harness.options import add_count
from benchmarks.harness.record import RESULTS_DIR, write_record
from qmedsam import Settings
from qmedsam.model.manifest import encoder_paths
from qmedsam.model.network import CompiledNetwork, runnable_precisions
from qmedsam.model.variant import default_model_dir
from qmedsam.options import at_least

WARM_UPS = 3
# Rows, inner and outer width of products of which the fastest counts as the peak.
PRODUCTS = ((4096, 320, 1280), (4096, 1024, 1024), (2048, 2048, 2048))


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


def encoder_multiply_accumulates(model_dir: Path) -> int:
    """Return those of an image in the encoder of an exported model."""
    core = openvino.Core()
    return sum(multiply_accumulates(core.read_model(path)) for path in encoder_paths(model_dir))


def float_product(rows: int, inner: int, outer: int) -> openvino.Model:
    """Return a graph of one linear layer."""
    weight = np.random.default_rng(0).random((outer, inner), dtype=np.float32)
    x = ops.parameter([rows, inner], np.float32)
    return openvino.Model([ops.matmul(x, ops.constant(weight), False, True)], [x], "product")


def int8_product(rows: int, inner: int, outer: int) -> openvino.Model:
    """Return a graph of one linear layer in int8, as quantized networks have it."""
    generator = np.random.default_rng(0)
    x = ops.parameter([rows, inner], np.float32)
    low, high = ops.constant(np.float32(0)), ops.constant(np.float32(2.55))
    steps = ops.constant(generator.integers(-127, 128, (outer, inner)).astype(np.int8))
    scales = ops.constant(np.full((outer, 1), 0.01, dtype=np.float32))
    rounded = ops.fake_quantize(x, low, high, low, high, 256)
    product = ops.matmul(rounded, ops.multiply(ops.convert(steps, "f32"), scales), False, True)
    again = ops.fake_quantize(product, low, high, low, high, 256)  # the sum leaves in 8 bits
    return openvino.Model([again], [x], "product")


def peak_rate(precision: str, threads: int, runs: int) -> float:
    """Return the most multiply-accumulates in a second.

    Args:
        precision: int8, or of a float product.
        threads: of OpenVINO.
        runs: of each product, whose median counts.
    """
    is_int8 = precision == "int8"
    config = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "f32" if is_int8 else precision,
    }
    rates = []
    for shape in PRODUCTS:
        model = int8_product(*shape) if is_int8 else float_product(*shape)
        request = openvino.Core().compile_model(model, "CPU", config).create_infer_request()
        request.set_input_tensor(openvino.Tensor(np.ones(shape[:2], dtype=np.float32)))
        rates.append(math.prod(shape) / median_seconds(request.infer, runs))
    return max(rates)


def median_seconds(call: Callable[[], Any], runs: int) -> float:
    """Return the median seconds of a function after some warm-up."""
    seconds = []
    for index in range(-WARM_UPS, runs):
        started = time.perf_counter()
        call()
        if index >= 0:
            seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def measure_rows(threads: int, runs: int) -> list[dict[str, Any]]:
    """Return a row for each encoder that ships and each precision of its other layers."""
    image = np.random.default_rng(0).random((1, 3, 256, 256), dtype=np.float32)
    rows = []
    peaks = {
        precision: peak_rate(precision, threads, runs)
        for precision in ("int8", *runnable_precisions())
    }
    for variant in ("float", "int8"):
        folder = default_model_dir(variant)
        work = encoder_multiply_accumulates(folder)
        for precision in runnable_precisions():
            network = CompiledNetwork(folder, Settings(precision=precision, threads=threads))
            seconds = median_seconds(lambda network=network: network.encode(image), runs)
            words = precision if variant == "float" else f"int8, other layers in {precision}"
            peak = peaks["int8" if variant == "int8" else precision]
            rows.append(
                {
                    "precision": words,
                    "threads": threads,
                    "encoder_s": seconds,
                    "gmac": work / 1e9,
                    "gmac_per_s": work / seconds / 1e9,
                    "peak_gmac_per_s": peak / 1e9,
                }
            )
    return rows


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add numbers of threads and how often."""
    cores = len(os.sched_getaffinity(0))
    parser.add_argument(
        "--threads",
        nargs="+",
        type=at_least(1),
        default=sorted({1, cores}),
        help="(default: 1, and one a core)",
    )
    add_count(parser, "--runs", 15)


def run(arguments: argparse.Namespace) -> int:
    """Measure, print a line each and write the record."""
    rows = [row for threads in arguments.threads for row in measure_rows(threads, arguments.runs)]
    for row in rows:
        print(
            f"{row['precision']:26} {row['threads']} threads: "
            f"{1000 * row['encoder_s']:.0f} ms, {row['gmac_per_s']:.0f} GMAC/s of "
            f"{row['peak_gmac_per_s']:.0f}"
        )
    write_record(arguments.json, {"rows": rows})
    return 0


COMMAND = Command(
    "threads",
    __doc__,
    run,
    add_options,
    record=RESULTS_DIR / "threads.json",
    selecting=("threads",),
)
