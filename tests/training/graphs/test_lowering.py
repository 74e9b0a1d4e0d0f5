"""The lowered graph computes what the QCDQ graph does, which computes what the network does.

Small graphs are written down here, with their results; one with each kind of op comes from the
exporter.
"""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training/requirements.txt is not installed")

import onnx  # noqa: E402
from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from onnx.reference import ReferenceEvaluator  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from tests.training.small_networks import EncoderOnly  # noqa: E402
from training.graphs.export_layers import Quantize  # noqa: E402
from training.graphs.lowering import count_quantized_ops, lower_qcdq, read_lowered  # noqa: E402
from training.graphs.onnx_files import export_onnx  # noqa: E402
from training.networks.layers import MatMul  # noqa: E402
from training.networks.tiny_vit import to_tokens  # noqa: E402
from training.quantization import fake_quant  # noqa: E402
from training.quantization.calibration import set_ranges  # noqa: E402
from training.quantization.config import QuantConfig  # noqa: E402
from training.quantization.quantize import quantize_network, tensor_quant  # noqa: E402

pytestmark = pytest.mark.training

# Order of float operations only.
TOLERANCE = 1e-5
# A value that lies between two steps goes to either, by the order of float operations, and moves
# what is computed from it; the output is compared in its own steps.
VALUES_THAT_MAY_DIFFER = 0.01


def written(nodes, constants, shape):
    """A model of an input x and an output y; nodes are (kind, inputs, output, attributes)."""
    graph = helper.make_graph(
        [
            helper.make_node(kind, inputs, [output], name=f"node_{output}", **attributes)
            for kind, inputs, output, attributes in nodes
        ],
        "written",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * len(shape))],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    return model


def evaluate(model, x):
    return ReferenceEvaluator(model).run(None, {"x": np.asarray(x, dtype=np.float32)})[0]


def nodes_of(model, kind):
    return [node for node in model.graph.node if node.op_type == kind]


def constants_of(model):
    return {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}


QUANTIZED_X = [
    ("QuantizeLinear", ["x", "x_scale", "x_zero"], "x_steps", {"axis": 1}),
    ("DequantizeLinear", ["x_steps", "x_scale", "x_zero"], "x_rounded", {"axis": 1}),
]
X_CONSTANTS = {"x_scale": np.float32(0.5), "x_zero": np.uint8(10)}
# As Brevitas writes the weight of a linear layer, (out, in), of four bits.
QUANTIZED_WEIGHT = [
    ("QuantizeLinear", ["w", "w_scale", "w_zero"], "w_steps", {"axis": 0}),
    ("Clip", ["w_steps", "w_low", "w_high"], "w_clipped", {}),
    ("DequantizeLinear", ["w_clipped", "w_scale", "w_zero"], "w_rounded", {"axis": 0}),
]
WEIGHT_CONSTANTS = {
    "w": np.array([[0.1, 0.2, -0.3], [0.4, -2.0, 0.06], [0, 0, 0.7]], dtype=np.float32),
    "w_scale": np.array([0.1, 0.2, 0.1], dtype=np.float32),
    "w_zero": np.zeros(3, dtype=np.int8),
    "w_low": np.int8(-7),
    "w_high": np.int8(7),
}
WEIGHT_STEPS = [[1, 2, -3], [2, -7, 0], [0, 0, 7]]


def clipped_x(**constants):
    nodes = [
        QUANTIZED_X[0],
        ("Clip", ["x_steps", "x_low", "x_high"], "x_clipped", {}),
        ("DequantizeLinear", ["x_clipped", "x_scale", "x_zero"], "y", {"axis": 1}),
    ]
    limits = {"x_low": np.uint8(3), "x_high": np.uint8(12)}
    return nodes, X_CONSTANTS | limits | constants


def test_the_clip_of_an_activation_moves_in_front_of_it():
    model = written(*clipped_x(), shape=[7])
    lowered = lower_qcdq(model)
    x = [-100, -3.5, -0.3, 0, 0.26, 0.9, 100]
    expected = [-3.5, -3.5, -0.5, 0, 0.5, 1, 1]
    assert evaluate(model, x).tolist() == expected
    assert evaluate(lowered, x).tolist() == expected
    kinds = [node.op_type for node in lowered.graph.node]
    assert kinds == ["Max", "Min", "QuantizeLinear", "DequantizeLinear"]


def test_the_clip_of_an_activation_has_limits_for_each_of_its_scales():
    scales = {
        "x_scale": np.array([0.5, 0.25], dtype=np.float32),
        "x_zero": np.array([10, 4], dtype=np.uint8),
    }
    model = written(*clipped_x(**scales), shape=[1, 2, 1, 3])
    lowered = lower_qcdq(model)
    x = [[[[-100, 0.3, 100]], [[-100, 0.3, 100]]]]
    expected = [[[[-3.5, 0.5, 1]], [[-0.25, 0.25, 2]]]]
    assert evaluate(model, x).tolist() == expected
    assert evaluate(lowered, x).tolist() == expected


def linear_model(after=()):
    nodes = [
        *QUANTIZED_X,
        *QUANTIZED_WEIGHT,
        ("Transpose", ["w_rounded"], "w_turned", {"perm": [1, 0]}),
        ("MatMul", ["x_rounded", "w_turned"], "op" if after else "y", {}),
        *after,
    ]
    return written(nodes, X_CONSTANTS | WEIGHT_CONSTANTS, shape=[2, 3])


X_OF_LINEAR = [[0.4, -0.6, 5], [-9, 0.1, 1.3]]


def test_a_weight_is_stored_as_integers():
    model = linear_model()
    lowered = lower_qcdq(model)
    stored = {name: value for name, value in constants_of(lowered).items() if value.ndim == 2}
    ((name, steps),) = stored.items()
    assert steps.dtype == np.int8
    assert steps.tolist() == WEIGHT_STEPS
    (dequantize,) = (node for node in nodes_of(lowered, "DequantizeLinear") if name in node.input)
    assert list(dequantize.input) == [name, "w_scale"]  # no zero point, since it is zero
    assert [node.input[0] for node in nodes_of(lowered, "QuantizeLinear")] == ["x"]
    assert not nodes_of(lowered, "Clip")


def test_the_zero_point_of_a_linear_input_goes_into_the_bias():
    model = linear_model()
    lowered = lower_qcdq(model)
    (matmul,) = nodes_of(lowered, "MatMul")
    (dequantize,) = (
        node for node in nodes_of(lowered, "DequantizeLinear") if matmul.input[0] in node.output
    )
    assert list(dequantize.input) == ["x_steps", "x_scale"]
    (add,) = nodes_of(lowered, "Add")
    # Ten steps of 0.5, times the sums of the weights: 0 * 0.1, -5 * 0.2 and 7 * 0.1.
    shift = next(value for name, value in constants_of(lowered).items() if name in add.input)
    assert shift.tolist() == pytest.approx([0, 5, -3.5], abs=TOLERANCE)
    # Rounded to halves, at least -5: [0.5, -0.5, 5] and [-5, 0, 1.5].
    expected = [[-1.55, 0.2 + 0.7, 3.5], [-0.95, -2, 1.05]]
    for found in (evaluate(model, X_OF_LINEAR), evaluate(lowered, X_OF_LINEAR)):
        np.testing.assert_allclose(found, expected, atol=TOLERANCE)


def zero_points_kept(lowered):
    return [len(node.input) > 2 for node in nodes_of(lowered, "DequantizeLinear")]


def test_a_zero_point_that_something_else_reads_stays():
    model = linear_model(after=[("Add", ["op", "x_rounded"], "y", {})])
    lowered = lower_qcdq(model)
    found = evaluate(lowered, X_OF_LINEAR)
    np.testing.assert_allclose(found, evaluate(model, X_OF_LINEAR), atol=TOLERANCE)
    assert sorted(zero_points_kept(lowered)) == [False, True]


def test_a_zero_point_stays_that_a_further_quantization_reads():
    nodes, constants = clipped_x()
    again = [
        (kind, ["x_rounded" if name == "x" else name for name in inputs], output, attributes)
        for kind, inputs, output, attributes in nodes
    ]
    again[0] = (*again[0][:2], "again_steps", again[0][3])
    again[1] = ("Clip", ["again_steps", "x_low", "x_high"], "x_clipped", {})
    model = written([*QUANTIZED_X, *again], constants, shape=[7])
    x = [-100, -3.5, -0.3, 0, 0.26, 0.9, 100]
    np.testing.assert_array_equal(evaluate(lower_qcdq(model), x), evaluate(model, x))


def linear_layers_of_moved_values(move, **constants):
    """Two linear layers whose input, once quantized, is moved."""
    nodes = [
        *QUANTIZED_X,
        move,
        *QUANTIZED_WEIGHT,
        ("Transpose", ["w_rounded"], "w_turned", {"perm": [1, 0]}),
        ("MatMul", ["x_moved", "w_turned"], "op", {}),
        ("MatMul", ["x_moved", "w_turned"], "product_2", {}),
        ("Mul", ["op", "product_2"], "y", {}),
    ]
    return written(nodes, X_CONSTANTS | WEIGHT_CONSTANTS | constants, shape=[2, 3])


def test_the_zero_point_of_rearranged_values_goes_into_the_biases_of_all_that_read_them():
    move = ("Reshape", ["x_rounded", "shape"], "x_moved", {})
    model = linear_layers_of_moved_values(move, shape=np.array([1, 2, 3]))
    lowered = lower_qcdq(model)
    assert not any(zero_points_kept(lowered))
    assert len(nodes_of(lowered, "Add")) == 2
    found = evaluate(lowered, X_OF_LINEAR)
    np.testing.assert_allclose(found, evaluate(model, X_OF_LINEAR), atol=TOLERANCE)
    assert np.abs(found).max() > 1


def test_the_zero_point_of_values_that_are_padded_behind_it_stays():
    move = ("Pad", ["x_rounded", "pads"], "x_moved", {})
    model = linear_layers_of_moved_values(move, pads=np.array([0, 0, 1, 0]))
    lowered = lower_qcdq(model)
    assert sorted(zero_points_kept(lowered)) == [False, True]
    found = evaluate(lowered, X_OF_LINEAR)
    np.testing.assert_allclose(found, evaluate(model, X_OF_LINEAR), atol=TOLERANCE)


def test_the_input_of_a_convolution_keeps_its_zero_point():
    shape = {"w": WEIGHT_CONSTANTS["w"].reshape(3, 3, 1, 1)}
    nodes = [*QUANTIZED_X, *QUANTIZED_WEIGHT, ("Conv", ["x_rounded", "w_rounded"], "y", {})]
    model = written(nodes, X_CONSTANTS | WEIGHT_CONSTANTS | shape, shape=[2, 3, 1, 1])
    lowered = lower_qcdq(model)
    (conv,) = nodes_of(lowered, "Conv")
    (dequantize,) = (
        node for node in nodes_of(lowered, "DequantizeLinear") if conv.input[0] in node.output
    )
    assert list(dequantize.input) == ["x_steps", "x_scale", "x_zero"]
    x = np.reshape(X_OF_LINEAR, (2, 3, 1, 1))
    np.testing.assert_allclose(evaluate(lowered, x), evaluate(model, x), atol=TOLERANCE)


def test_products_of_quantized_values_are_counted_through_what_only_moves_them():
    assert count_quantized_ops(linear_model()) == 1
    shape = {"rows": np.array([3, 2], dtype=np.int64), "ones": np.ones((2, 1), dtype=np.float32)}
    moved = [
        ("Transpose", ["x_rounded"], "columns", {}),
        ("Reshape", ["columns", "rows"], "moved", {}),
        ("MatMul", ["moved", "ones"], "y", {}),
    ]
    assert (
        count_quantized_ops(written([*QUANTIZED_X, *moved], X_CONSTANTS | shape, shape=[2, 3])) == 1
    )
    changed = [("Relu", ["x_rounded"], "above", {}), ("Transpose", ["above"], "columns", {})]
    again = [*QUANTIZED_X, *changed, *moved[1:]]
    assert count_quantized_ops(written(again, X_CONSTANTS | shape, shape=[2, 3])) == 0


def test_a_model_is_not_changed_by_being_lowered():
    model = linear_model()
    before = model.SerializeToString()
    lower_qcdq(model)
    assert model.SerializeToString() == before


class EachProduct(nn.Module):
    """An ordinary and a depth-wise convolution, an attention, and rounding of what comes out."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3, padding=1)
        self.conv2 = nn.Conv2d(6, 6, 3, padding=1, groups=6)
        self.qkv = nn.Linear(6, 18)
        self.scores, self.mix = MatMul(), MatMul()
        self.last = nn.Linear(6, 1)

    def forward(self, x):
        x = to_tokens(F.gelu(self.conv2(F.gelu(self.conv1(x)))))
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        return self.last(self.mix(self.scores(q, k.transpose(1, 2)).softmax(-1), v))


class Exported:
    """A quantized network of each op, what it computes, its file and its output's step."""

    def __init__(self, folder, bits):
        torch.manual_seed(0)
        self.bits = bits
        self.network = EachProduct().eval()
        with torch.no_grad():
            # Channels that differ as those behind an expansion do.
            self.network.conv1.weight.mul_(torch.logspace(-1, 1, 6)[:, None, None, None])
            self.network.qkv.weight.mul_(3)
        config = QuantConfig(weight_bits=bits, activation_bits=bits, ranges="percentile")
        wrapped = EncoderOnly(self.network)
        quantize_network(wrapped, config, parts=("image_encoder",))
        self.weights = {
            name: layer.quant_weight().int().numpy()
            for name, layer in self.network.named_children()
            if name in ("conv1", "conv2", "qkv")
        }
        x = torch.randn(1, 3, 7, 5)
        set_ranges(self.network, config, lambda: self.network(x))
        proxy = self.network.last.input_quant
        self.step = (2 ** tensor_quant(proxy).scaling_impl.value / (2**bits - 1)).item()
        self.network.last = Quantize(proxy)
        self.images = [x, torch.randn(1, 3, 7, 5), 5 * torch.randn(1, 3, 7, 5)]
        self.expected = [self.network(image).numpy() for image in self.images]
        self.path = folder / "each.onnx"
        export_onnx(self.network, self.path, inputs={"x": x}, outputs=["y"], is_quantized=True)

    def assert_same(self, found, expected):
        """They differ by one step of the output at most, and that in few values."""
        steps = np.abs(found - expected) / self.step
        assert steps.max() < 1.01
        assert np.mean(steps > 0.01) <= VALUES_THAT_MAY_DIFFER
        assert len(np.unique(expected)) > 2


@pytest.fixture(scope="module", params=[8, 4], ids=["8 bits", "4 bits"])
def exported(request, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(fake_quant, "_compiled_forward", fake_quant._forward)
        yield Exported(tmp_path_factory.mktemp("exported"), request.param)


def in_onnx_runtime(model, x):
    """Run each node as it is written, without fusion."""
    runtime = pytest.importorskip("onnxruntime", reason="benchmarks/requirements.txt")
    options = runtime.SessionOptions()
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = runtime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, {"x": x.numpy()})[0]


def test_the_file_computes_in_onnx_runtime_what_the_network_does(exported):
    model = onnx.load(exported.path)
    for x, expected in zip(exported.images, exported.expected, strict=True):
        exported.assert_same(in_onnx_runtime(model, x), expected)


def test_the_lowered_graph_computes_what_the_file_does(exported):
    model = onnx.load(exported.path)
    lowered = lower_qcdq(model)
    for x in exported.images:
        exported.assert_same(in_onnx_runtime(lowered, x), in_onnx_runtime(model, x))


def test_no_clip_remains_between_quantization_and_its_reverse(exported):
    model = onnx.load(exported.path)
    lowered = lower_qcdq(model)
    for graph, has_clips in ((model, True), (lowered, False)):
        made_by = {name: node.op_type for node in graph.graph.node for name in node.output}
        before = {made_by.get(node.input[0]) for node in nodes_of(graph, "DequantizeLinear")}
        assert ("Clip" in before) == has_clips
    # Of weights nothing is left but integers, of activations one pair each.
    assert len(nodes_of(lowered, "QuantizeLinear")) == 3 + 4 + 1
    assert [item.name for item in lowered.graph.input] == ["x"]


def test_fewer_than_8_bits_are_still_clipped(exported):
    lowered = lower_qcdq(onnx.load(exported.path))
    clips = len(nodes_of(lowered, "Max")), len(nodes_of(lowered, "Min"))
    assert clips == ((0, 0) if exported.bits == 8 else (8, 8))
    found = in_onnx_runtime(lowered, exported.images[-1])
    assert len(np.unique(np.rint(found / exported.step))) <= 2**exported.bits


def test_the_stored_weights_are_those_of_the_network(exported):
    lowered = lower_qcdq(onnx.load(exported.path))
    constants = constants_of(lowered)
    names = [node.input[0] for node in nodes_of(lowered, "DequantizeLinear")]
    stored = [constants[name] for name in names if name in constants]
    assert len(stored) == 3
    assert {value.dtype for value in stored} == {np.dtype(np.int8)}
    for name, steps in exported.weights.items():
        assert any(np.array_equal(value, steps) for value in stored), name
        in_float = [value.shape for value in constants.values() if value.dtype == np.float32]
        assert steps.shape not in in_float, name
    assert max(np.abs(value).max() for value in stored) == 2 ** (exported.bits - 1) - 1


def test_only_convolutions_keep_the_zero_points_of_their_inputs(exported):
    lowered = lower_qcdq(onnx.load(exported.path))
    made_by = {name: node for node in lowered.graph.node for name in node.output}
    constants = constants_of(lowered)

    def has_zero_point(node):
        dequantize = made_by[node.input[0]]
        assert dequantize.op_type == "DequantizeLinear"
        return len(dequantize.input) > 2 and bool(constants[dequantize.input[2]].any())

    linear, _, mix = nodes_of(lowered, "MatMul")
    assert not has_zero_point(linear)
    assert not has_zero_point(mix)
    assert all(has_zero_point(conv) for conv in nodes_of(lowered, "Conv"))
    assert len(nodes_of(lowered, "Conv")) == 2


def test_openvino_reads_activations_as_one_operation_and_weights_as_integers(exported):
    graph = read_lowered(exported.path)
    kinds = [op.get_type_name() for op in graph.get_ordered_ops()]
    assert kinds.count("FakeQuantize") == 3 + 4 + 1
    integers = [
        op
        for op in graph.get_ordered_ops()
        if op.get_type_name() == "Constant" and op.get_element_type().get_type_name() == "i8"
    ]
    shapes = sorted(tuple(op.get_output_shape(0)) for op in integers)
    assert len(shapes) == 3
    assert sum(int(np.prod(shape)) for shape in shapes) == 6 * 3 * 9 + 6 * 9 + 6 * 18
