"""A profile by kind of layer, and multiply-accumulates by hand."""

from __future__ import annotations

import numpy as np
import openvino
import pytest
from openvino import opset13 as ops

from benchmarks.layers import (
    INT8,
    layer_kind,
    model_milliseconds,
    model_multiply_accumulates,
    multiply_accumulates,
)
from qmedsam.core.contract import BOXES_NAME, CROPS_NAME, DECODER_FILE, embedding_hw
from qmedsam.core.crops import SIDES
from qmedsam.core.work import decoder_gmacs, encoder_gmacs
from qmedsam.model.grids import encoder_on_grid
from qmedsam.model.manifest import encoder_paths, read_manifest
from qmedsam.model.positions import open_pixels
from qmedsam.model.variant import default_model_dir

GRIDS = [(64, 64), (64, 256), (192, 128), (256, 256)]


@pytest.mark.model
def test_all_kinds_of_layers_of_a_model_are_counted():
    """Whether attention is fused, and what runs in int8, is the processor's to say."""
    parts = model_milliseconds(default_model_dir("int8"), "f32", 1)
    others = {"element by element", "moving values", "normalization"}
    encoder = {kind.removesuffix(INT8) for kind in parts["encoder"]}
    assert encoder >= {"convolutions", "depth-wise convolutions", "linear layers"} | others
    assert encoder & {"fused attention", "products of two activations"}
    assert parts["decoder"].keys() >= {"linear layers", "products of two activations"} | others
    for taken in parts.values():
        assert all(value > 0 for value in taken.values())


@pytest.mark.parametrize(
    ("node_type", "exec_type", "is_attention", "kind"),
    [
        ("Convolution", "brgconv_avx512_u8", False, "convolutions, int8"),
        ("Convolution", "brgconv_avx512_f32", False, "convolutions"),
        ("GroupConvolution", "jit_avx2_i8", False, "depth-wise convolutions, int8"),
        ("FullyConnectedQuantizedLegacy", "brgemm_u8", False, "linear layers, int8"),
        ("MatMul", "brgemm_avx2_f32", False, "products of two activations"),
        ("Subgraph", "jit_avx512_i8", True, "fused attention, int8"),
        ("Subgraph", "jit_avx512_f32", True, "fused attention"),
        ("Subgraph", "jit_avx2_i8", False, "element by element"),
        ("Softmax", "jit_avx2_f32", False, "element by element"),
    ],
)
def test_a_layer_is_named_by_its_node_and_kernel(node_type, exec_type, is_attention, kind):
    assert layer_kind(node_type, exec_type, is_attention=is_attention) == kind


def model_of(build, *shapes) -> openvino.Model:
    inputs = [ops.parameter(shape, np.float32) for shape in shapes]
    return openvino.Model([build(*inputs)], inputs, "made")


def weights(*shape):
    return ops.constant(np.zeros(shape, dtype=np.float32))


PAD = ([1, 1], [1, 1], [1, 1], [1, 1])  # strides, padding before and after, dilations
MODELS = {
    # 4 x 5 pixels and 6 channels, each of 3 channels in 3 x 3
    "convolution": (
        lambda x: ops.convolution(x, weights(6, 3, 3, 3), *PAD),
        [(1, 3, 4, 5)],
        4 * 5 * 6 * 3 * 9,
    ),
    "depth-wise": (
        lambda x: ops.group_convolution(x, weights(6, 1, 1, 3, 3), *PAD),
        [(1, 6, 4, 5)],
        4 * 5 * 6 * 9,
    ),
    "linear": (
        lambda x: ops.matmul(x, weights(8, 3), False, True),
        [(2, 7, 3)],
        2 * 7 * 8 * 3,
    ),
    # 7 queries of 3 channels on 8 keys, and values of 5 channels
    "attention": (
        lambda q, k, v: ops.scaled_dot_product_attention(q, k, v),
        [(2, 7, 3), (2, 8, 3), (2, 8, 5)],
        2 * 7 * 8 * (3 + 5),
    ),
    "transposed": (
        lambda x, y: ops.matmul(x, y, True, False),
        [(2, 3, 7), (2, 3, 8)],
        2 * 7 * 8 * 3,
    ),
}


@pytest.mark.model
@pytest.mark.parametrize(("build", "shapes", "expected"), MODELS.values(), ids=MODELS)
def test_multiply_accumulates_of_one_layer(build, shapes, expected):
    assert multiply_accumulates(model_of(build, *shapes)) == expected


@pytest.mark.model
def test_a_case_takes_as_many_in_int8_as_in_float():
    plain, int8 = (
        model_multiply_accumulates(default_model_dir(name)) for name in ("float", "int8")
    )
    assert plain["encoder"] == pytest.approx(37.9e9, rel=0.02)
    assert plain["decoder"] == pytest.approx(0.85e9, rel=0.02)
    assert int8 == pytest.approx(plain, rel=0.01)


@pytest.mark.model
@pytest.mark.parametrize("grid_hw", GRIDS, ids=str)
def test_what_encoding_costs_is_what_the_graphs_multiply(grid_hw):
    work = 0
    for path in encoder_paths(read_manifest(default_model_dir("float"))):
        graph = openvino.Core().read_model(path)
        if grid_hw != (256, 256):
            encoder_on_grid(graph, grid_hw)
        work += multiply_accumulates(graph)
    assert encoder_gmacs(grid_hw) == pytest.approx(work / 1e9, rel=1e-9)


@pytest.mark.model
@pytest.mark.parametrize("grid_hw", GRIDS, ids=str)
def test_what_decoding_costs_is_what_the_graph_multiplies_for_the_smallest_crop(grid_hw):
    graph = openvino.Core().read_model(default_model_dir("float") / DECODER_FILE)
    open_pixels(graph)
    height, width = embedding_hw(grid_hw, stride=4)
    shapes = {BOXES_NAME: [1, 4], CROPS_NAME: [1, SIDES[0], SIDES[0]]}
    for entry in graph.inputs:
        if entry.any_name not in shapes:
            channels = entry.get_partial_shape()[2].get_length()
            shapes[entry.any_name] = [1, height * width, channels]
    graph.reshape(shapes)
    assert decoder_gmacs(grid_hw) == pytest.approx(multiply_accumulates(graph) / 1e9, rel=1e-9)
