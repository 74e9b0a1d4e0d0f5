"""From QCDQ ONNX to a graph that OpenVINO's CPU plugin runs in int8.

The plugin recognises a weight that is stored as integers and an activation whose quantization is
one operation; a `Clip` between `QuantizeLinear` and `DequantizeLinear` hides both. So weights are
rounded here and stored, and the clip of an activation of fewer than 8 bits moves in front of it.
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import openvino  # type: ignore[import-untyped]
from numpy.typing import NDArray
from onnx import numpy_helper
from openvino.tools.ovc import convert_model  # type: ignore[import-untyped]

OPS = {"Conv", "ConvTranspose", "Gemm", "MatMul"}
# Operations that only move values, between a quantization and the op that it is for.
MOVES = {"Concat", "Flatten", "Identity", "Pad", "Reshape", "Slice", "Split", "Squeeze"}
MOVES |= {"Transpose", "Unsqueeze"}
# Of these those that keep all values, through which a zero point is followed.
REARRANGEMENTS = {"Identity", "Reshape", "Transpose"}


class _Graph:
    """An ONNX graph with the look-ups that rewriting needs."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.graph = model.graph
        self.made_by = {name: node for node in self.graph.node for name in node.output}
        self.outputs = {item.name for item in self.graph.output}
        self.read_by: dict[str, list[onnx.NodeProto]] = defaultdict(list)
        for node in self.graph.node:
            for name in node.input:
                self.read_by[name].append(node)
        self.constants = {item.name: numpy_helper.to_array(item) for item in self.graph.initializer}

    def rounded_weight(self, node: onnx.NodeProto) -> NDArray[Any]:
        """Return what a `QuantizeLinear` makes of a constant weight."""
        weight, scale, zero_point = (self.constants[name] for name in node.input)
        axis = next((item.i for item in node.attribute if item.name == "axis"), 1)
        if scale.ndim:
            shape = [-1 if i == axis % weight.ndim else 1 for i in range(weight.ndim)]
            scale, zero_point = scale.reshape(shape), zero_point.reshape(shape)
        steps = np.rint(weight / scale) + zero_point.astype(np.float32)
        limits = np.iinfo(zero_point.dtype)
        return steps.clip(limits.min, limits.max).astype(zero_point.dtype)

    def readers(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        """Return what reads a node's output, rearranged or as it is; itself if the graph does."""
        found = [node] if node.output[0] in self.outputs else []
        for reader in self.read_by[node.output[0]]:
            found += self.readers(reader) if reader.op_type in REARRANGEMENTS else [reader]
        return found

    def stored_weight(self, matmul: onnx.NodeProto) -> NDArray[np.float32] | None:
        """Return the (in, out) weight of a linear layer whose integers are stored."""
        node = self.made_by.get(matmul.input[1]) if matmul.op_type == "MatMul" else None
        if node is not None and node.op_type == "Transpose":
            node = self.made_by.get(node.input[0])
        if node is None or node.op_type != "DequantizeLinear" or len(node.input) > 2:
            return None
        steps, scale = (self.constants.get(name) for name in node.input)
        if steps is None or scale is None:
            return None
        return (steps.astype(np.float32) * scale.reshape(-1, *[1] * (steps.ndim - 1))).T


def count_quantized_ops(model: onnx.ModelProto) -> int:
    """Return how many ops of a QCDQ model read values that have been quantized."""
    graph = _Graph(model)
    count = 0
    for node in model.graph.node:
        if node.op_type in OPS:
            source = graph.made_by.get(node.input[0])
            while source is not None and source.op_type in MOVES:
                source = graph.made_by.get(source.input[0])
            count += source is not None and source.op_type == "DequantizeLinear"
    return count


def lower_qcdq(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return an equal model without a clip between quantization and its reverse."""
    lowered = onnx.ModelProto()
    lowered.CopyFrom(model)
    graph = _Graph(lowered)
    added: list[onnx.NodeProto] = []
    moved: set[str] = set()
    for node in list(lowered.graph.node):
        if node.op_type != "DequantizeLinear":
            continue
        clip = graph.made_by.get(node.input[0])
        if clip is None:
            continue
        quantize = graph.made_by[clip.input[0]] if clip.op_type == "Clip" else clip
        if quantize.op_type != "QuantizeLinear":
            continue
        if quantize.input[0] in graph.constants:
            steps = graph.rounded_weight(quantize)
            if clip is not quantize:
                low, high = (graph.constants[name] for name in clip.input[1:3])
                steps = steps.clip(low, high)
            name = f"{quantize.input[0]}_{node.output[0]}_steps"
            lowered.graph.initializer.append(numpy_helper.from_array(steps, name))
            node.input[0] = name
            if not graph.constants[node.input[2]].any():
                del node.input[2]
        elif clip is not quantize:
            if clip.output[0] not in moved:
                moved.add(clip.output[0])
                added += _clip_in_front(graph, quantize, clip)
            node.input[0] = quantize.output[0]
    _insert_and_prune(lowered, added)
    _insert_and_prune(lowered, _shift_linear_inputs(_Graph(lowered)))
    onnx.checker.check_model(lowered)
    return lowered


def _clip_in_front(
    graph: _Graph, quantize: onnx.NodeProto, clip: onnx.NodeProto
) -> list[onnx.NodeProto]:
    """Clip the values instead of the steps that they become."""
    scale, zero_point = (graph.constants[name] for name in quantize.input[1:3])
    limits = []
    for bound in clip.input[1:3]:
        value = (graph.constants[bound].astype(np.float32) - zero_point.astype(np.float32)) * scale
        if value.size > 1:  # a scale for each channel of (B, C, H, W)
            value = value.reshape(-1, 1, 1)
        name = f"{clip.name}_{bound}_value"
        graph.graph.initializer.append(numpy_helper.from_array(value.astype(np.float32), name))
        limits.append(name)
    name = f"{quantize.input[0]}_{clip.name}_clipped"
    # Two operations, since a bound of `Clip` is a scalar and scales may differ by channel.
    before = onnx.helper.make_node("Max", [quantize.input[0], limits[0]], [f"{name}_low"])
    after = onnx.helper.make_node("Min", [f"{name}_low", limits[1]], [name])
    quantize.input[0] = name
    return [before, after]


def _shift_linear_inputs(graph: _Graph) -> list[onnx.NodeProto]:
    """Take the zero points of linear layers' inputs into their biases.

    (q - z) s W + b is q s W + (b - z s sum W). The plugin does the same after the op, but as
    an operation of its own over the whole output where an activation function or a quantization
    follows: the queries, keys and values of a window attention take twice the time.
    """
    added = []
    for dequantize in graph.graph.node:
        if dequantize.op_type != "DequantizeLinear" or len(dequantize.input) < 3:
            continue
        readers = graph.readers(dequantize)
        found = [graph.stored_weight(reader) for reader in readers]
        weights = [weight for weight in found if weight is not None]
        scale, zero_point = (graph.constants[name] for name in dequantize.input[1:3])
        if not zero_point.any() or not weights or len(weights) < len(found):
            continue
        del dequantize.input[2]
        for matmul, weight in zip(readers, weights, strict=True):
            shift = (-float(zero_point) * float(scale) * weight.sum(0)).astype(np.float32)
            name = f"{matmul.output[0]}_unshifted"
            graph.graph.initializer.append(numpy_helper.from_array(shift, f"{name}_shift"))
            op, matmul.output[0] = matmul.output[0], name
            added.append(onnx.helper.make_node("Add", [name, f"{name}_shift"], [op]))
    return added


def _insert_and_prune(model: onnx.ModelProto, added: list[onnx.NodeProto]) -> None:
    """Put nodes in an order in which each follows what it reads, and drop what nothing reads."""
    nodes = [*model.graph.node, *added]
    made_by = {name: node for node in nodes for name in node.output}
    ordered: list[onnx.NodeProto] = []
    done: set[int] = set()
    stack = [made_by[item.name] for item in model.graph.output]
    while stack:
        node = stack[-1]
        missing = [
            made_by[name]
            for name in node.input
            if name in made_by and id(made_by[name]) not in done
        ]
        if missing:
            stack += missing
            continue
        stack.pop()
        if id(node) not in done:
            done.add(id(node))
            ordered.append(node)
    read = {name for node in ordered for name in node.input}
    kept = [item for item in model.graph.initializer if item.name in read]
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.extend(ordered)
    model.graph.initializer.extend(kept)


def read_lowered(path: Path) -> openvino.Model:
    """Read a QCDQ ONNX file as the graph that the plugin runs in int8."""
    with tempfile.TemporaryDirectory() as folder:
        lowered = Path(folder) / path.name
        onnx.save(lower_qcdq(onnx.load(path)), lowered)
        return convert_model(lowered)
