"""A profile by kind of layer."""

from __future__ import annotations

import pytest

from benchmarks.layers import INT8, layer_kind, model_milliseconds
from qmedsam.model.variant import default_model_dir


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
