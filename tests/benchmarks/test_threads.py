"""Multiply-accumulates by hand, and that the peak is one."""

from __future__ import annotations

import numpy as np
import openvino
import pytest
from openvino import opset13 as ops

from benchmarks.threads import encoder_multiply_accumulates, int8_product, multiply_accumulates
from qmedsam.model.variant import default_model_dir

pytestmark = pytest.mark.model


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


@pytest.mark.parametrize(("build", "shapes", "expected"), MODELS.values(), ids=MODELS)
def test_multiply_accumulates_of_one_layer(build, shapes, expected):
    assert multiply_accumulates(model_of(build, *shapes)) == expected


def test_an_image_takes_as_many_in_int8_as_in_float():
    works = [encoder_multiply_accumulates(default_model_dir(name)) for name in ("float", "int8")]
    assert works[0] == pytest.approx(37.9e9, rel=0.02)
    assert works[1] == pytest.approx(works[0], rel=0.01)


def test_the_product_in_int8_runs_in_int8():
    compiled = openvino.Core().compile_model(int8_product(64, 64, 64), "CPU")
    kinds = {
        node.get_rt_info()["layerType"].astype(str): node.get_rt_info()["runtimePrecision"].astype(
            str
        )
        for node in compiled.get_runtime_model().get_ordered_ops()
    }
    linear = [precision for kind, precision in kinds.items() if kind.startswith("FullyConnected")]
    assert linear in (["u8"], ["i8"])
