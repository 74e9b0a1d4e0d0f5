"""The precision in which small graphs run, and that an export refuses a float op."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("torch", reason="training/requirements.txt is not installed")

import onnx
import openvino
from onnx import TensorProto, helper, numpy_helper
from openvino import opset15 as ops

from qmedsam.core.contract import CONTRACT_VERSION, DECODER_FILE, ENCODER_FILE, MANIFEST_FILE
from training.graphs import model_folder
from training.graphs.check import ExportError
from training.graphs.lowering import read_lowered
from training.run_time import Op, main, ops_table, run_time_ops

pytestmark = pytest.mark.training

CHANNELS = 16


def quantized(name, source, scale, *, zero_point=0, kind=np.uint8):
    """The two nodes that round an activation, and their constants."""
    constants = {f"{name}_scale": np.asarray(scale, np.float32)}
    constants[f"{name}_zero"] = np.full(np.shape(scale), zero_point, kind)
    steps = [f"{name}_scale", f"{name}_zero"]
    nodes = [
        helper.make_node("QuantizeLinear", [source, *steps], [f"{name}_steps"], axis=1),
        helper.make_node("DequantizeLinear", [f"{name}_steps", *steps], [name], axis=1),
    ]
    return nodes, constants


def weight(name, shape):
    """The node that reads a weight of integers with a scale for each output channel."""
    generator = np.random.default_rng(0)
    scale = np.full(shape[0], 0.01, np.float32)
    constants = {
        f"{name}_scale": scale,
        f"{name}_steps": generator.integers(-127, 128, shape, np.int8),
    }
    node = helper.make_node("DequantizeLinear", [f"{name}_steps", f"{name}_scale"], [name], axis=0)
    return [node], constants


def written(path, parts, shape):
    """Write a model of an input x and an output y, made of pairs of nodes and constants."""
    nodes = [node for part, _ in parts for node in part]
    constants = {name: value for _, part in parts for name, value in part.items()}
    for node in nodes:
        node.name = f"node_{node.output[0]}"
    graph = helper.make_graph(
        nodes,
        "written",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * len(shape))],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, path)
    return path


def convolutions(path, scale):
    """A float convolution, and behind it one whose input is rounded."""
    dense = np.random.default_rng(1).normal(size=(CHANNELS, 3, 3, 3)).astype(np.float32)
    parts = [
        ([helper.make_node("Conv", ["x", "dense"], ["first"])], {"dense": dense}),
        quantized("rounded", "first", scale, zero_point=100),  # with 128 some run in i8
        weight("w", (CHANNELS, CHANNELS, 3, 3)),
        ([helper.make_node("Conv", ["rounded", "w"], ["y"])], {}),
    ]
    return written(path, parts, [1, 3, 20, 20])


def linear_and_product(path):
    """A linear layer behind rounding, and the op of two signed activations."""
    signed = {"kind": np.int8}
    turned = helper.make_node("Transpose", ["w"], ["w_turned"], perm=[1, 0])
    op = helper.make_node("MatMul", ["left", "right"], ["y"])
    parts = [
        quantized("rounded", "x", 0.02, zero_point=128),
        weight("w", (CHANNELS, CHANNELS)),
        ([turned, helper.make_node("MatMul", ["rounded", "w_turned"], ["tokens"])], {}),
        quantized("left", "tokens", 0.1, **signed),
        ([helper.make_node("Transpose", ["tokens"], ["columns"], perm=[0, 2, 1])], {}),
        quantized("right", "columns", 0.05, **signed),
        ([op], {}),
    ]
    return written(path, parts, [1, 32, CHANNELS])


def by_output(ops):
    """Ops by the tensor that they make in the file."""
    return {item.name.removeprefix("node_"): item for item in ops}


SAME_SCALE = np.float32(0.02)
# An ordinary convolution sums over channels, which therefore must share their scale.
SCALE_OF_EACH_CHANNEL = np.linspace(0.01, 0.05, CHANNELS, dtype=np.float32)


def test_convolutions_are_listed_with_their_precision(tmp_path):
    graph = read_lowered(convolutions(tmp_path / "encoder.onnx", SAME_SCALE))
    ops = run_time_ops(graph, "f32")
    assert [(item.kind, item.is_quantized) for item in ops] == [
        ("Convolution", False),
        ("Convolution", True),
    ]
    in_float, rounded = ops
    assert in_float.precision == "f32"
    assert rounded.precision == "u8"
    assert in_float.is_as_meant
    assert rounded.is_as_meant
    assert {item.node for item in ops} == {"Convolution"}
    assert all(item.kernel for item in ops)
    assert len({item.name for item in ops}) == 2


def test_linear_layers_and_products_of_activations_run_in_8_bits(tmp_path):
    graph = read_lowered(linear_and_product(tmp_path / "encoder.onnx"))
    ops = run_time_ops(graph, "f32")
    assert [item.kind for item in ops] == ["MatMul", "MatMul"]
    assert [item.is_quantized for item in ops] == [True, True]
    assert [item.precision for item in ops] == ["u8", "i8"]
    assert [item.node for item in ops] == ["FullyConnected", "MatMul"]


def test_a_product_that_stays_in_float_is_told(tmp_path):
    graph = read_lowered(convolutions(tmp_path / "encoder.onnx", SCALE_OF_EACH_CHANNEL))
    ops = run_time_ops(graph, "f32")
    assert [item.is_quantized for item in ops] == [False, True]
    assert [item.precision for item in ops] == ["f32", "f32"]
    assert [item.is_as_meant for item in ops] == [True, False]


@pytest.mark.parametrize(
    ("precision", "is_quantized", "is_as_meant"),
    [
        ("u8", True, True),
        ("i8", True, True),
        ("f32", True, False),
        ("bf16", True, False),
        ("f32", False, True),
        ("u8", False, True),
    ],
)
def test_only_what_is_meant_for_8_bits_has_to_run_in_them(precision, is_quantized, is_as_meant):
    op = Op("layer", "MatMul", "MatMul", precision, "jit", is_quantized)
    assert op.is_as_meant is is_as_meant


def model_of_one_product(name, *, is_quantized):
    """A model of one op, which has a name."""
    x = ops.parameter([1, 4, 8], np.float32)
    factor = x
    if is_quantized:
        low, high = (ops.constant(np.float32(value)) for value in (0, 2.55))
        factor = ops.fake_quantize(x, low, high, low, high, 256)
    dense = np.random.default_rng(0).normal(size=(8, 8)).astype(np.float32)
    op = ops.matmul(factor, ops.constant(dense), False, False)
    op.set_friendly_name(name)
    return openvino.Model([op], [x])


@pytest.fixture
def another_name(monkeypatch):
    """Has the plugin run a float op named `another`, whatever the model."""
    core = openvino.Core()
    other = model_of_one_product("another", is_quantized=False)

    class Renaming:
        def compile_model(self, model, device, options):
            return core.compile_model(other, device, options)

    monkeypatch.setattr(openvino, "Core", Renaming)


def test_a_quantized_product_that_does_not_run_is_missed(another_name):
    model = model_of_one_product("mine", is_quantized=True)
    with pytest.raises(RuntimeError, match=r"missing from the run-time graph: \['mine'\]"):
        run_time_ops(model, "f32")


def test_a_float_product_is_listed_by_the_name_that_the_plugin_gives_it(another_name):
    (op,) = run_time_ops(model_of_one_product("mine", is_quantized=False), "f32")
    assert (op.name, op.kind, op.precision) == ("another", "FullyConnected", "f32")
    assert not op.is_quantized


def test_a_table_has_a_line_for_each_op_and_counts_them(cells):
    ops = [
        Op("one", "Convolution", "Convolution", "u8", "brgconv", True),
        Op("two", "MatMul", "FullyConnected", "u8", "brgemm", True),
        Op("three", "MatMul", "MatMul", "f32", "gemm", False),
        Op("four", "MatMul", "FullyConnected", "u8", "brgemm", True),
    ]
    lines = ops_table(ops).splitlines()
    rows = cells(ops_table(ops))
    assert rows[2] == ["one", "Convolution", "Convolution", "u8", "brgconv"]
    assert rows[4] == ["three", "MatMul", "MatMul", "f32", "gemm"]
    assert lines[6:] == ["", "Convolution in u8: 1", "MatMul in f32: 1", "MatMul in u8: 2"]


def saved(folder, scale):
    """A folder with an encoder whose second convolution is quantized, and a decoder."""
    folder.mkdir()
    graph = read_lowered(convolutions(folder / "encoder.onnx", scale))
    openvino.save_model(graph, folder / ENCODER_FILE, compress_to_fp16=False)
    graph = read_lowered(linear_and_product(folder / "decoder.onnx"))
    openvino.save_model(graph, folder / DECODER_FILE, compress_to_fp16=False)
    digests = {path.name: "any" for path in folder.iterdir()}
    manifest = {"name": "small", "precision": "int8", "image_size": 256, "sha256": digests}
    document = json.dumps({"contract_version": CONTRACT_VERSION, **manifest})
    (folder / MANIFEST_FILE).write_text(document)
    return str(folder)


def test_the_command_lists_encoder_and_decoder_and_tells_a_float_product(tmp_path, capsys):
    assert main([saved(tmp_path / "good", SAME_SCALE)]) == 0
    lines = capsys.readouterr().out.splitlines()
    for line in ("Convolution in f32: 1", "Convolution in u8: 1", "MatMul in i8: 1"):
        assert line in lines
    assert main([saved(tmp_path / "bad", SCALE_OF_EACH_CHANNEL)]) == 1
    assert "Convolution in f32: 2" in capsys.readouterr().out.splitlines()


def test_the_command_asks_for_an_exported_model(tmp_path, capsys):
    assert main([str(tmp_path)]) == 2
    assert f"Model folder {tmp_path} has no readable manifest.json" in capsys.readouterr().err


def test_an_export_in_8_bits_returns_its_quantized_products(tmp_path):
    graph = read_lowered(convolutions(tmp_path / "encoder.onnx", SAME_SCALE))
    (op,) = model_folder._write_ir(graph, tmp_path / "encoder.xml", is_quantized=True)
    assert (op.kind, op.precision) == ("Convolution", "u8")
    assert (tmp_path / "encoder.bin").is_file()


def test_an_export_fails_when_a_product_meant_for_8_bits_runs_in_float(tmp_path):
    graph = read_lowered(convolutions(tmp_path / "encoder.onnx", SCALE_OF_EACH_CHANNEL))
    with pytest.raises(ExportError, match=r"meant for int8 run in float: .*y \(f32\)"):
        model_folder._write_ir(graph, tmp_path / "encoder.xml", is_quantized=True)


def test_a_float_export_asks_for_no_products(tmp_path, monkeypatch):
    monkeypatch.setattr(model_folder, "run_time_ops", lambda *_: pytest.fail("not to be asked"))
    graph = read_lowered(convolutions(tmp_path / "encoder.onnx", SAME_SCALE))
    assert model_folder._write_ir(graph, tmp_path / "encoder.xml", is_quantized=False) == []
