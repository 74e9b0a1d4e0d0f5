"""In which precision a compiled model runs its products, read from its run-time graph."""

from __future__ import annotations

from dataclasses import dataclass

import openvino

QUANTIZED_PRODUCTS = {"Convolution", "GroupConvolution", "ConvolutionBackpropData", "MatMul"}
INT8 = {"i8", "u8"}


@dataclass(frozen=True)
class Product:
    """A convolution or matrix product as it runs.

    Attributes:
        name: of the layer in the model.
        kind: of the model's operation.
        node: of the plugin, which may have fused several operations.
        precision: in which it reads its inputs, such as u8, i8, bf16 or f32.
        kernel: that the plugin chose.
        is_quantized: whether the model means it for int8.
    """

    name: str
    kind: str
    node: str
    precision: str
    kernel: str
    is_quantized: bool

    @property
    def is_as_meant(self) -> bool:
        """Whether a product meant for int8 runs in it."""
        return not self.is_quantized or self.precision in INT8


def run_time_products(model: openvino.Model, precision: str) -> list[Product]:
    """Compile a model for this processor and list how its products run.

    Args:
        model: as it is saved.
        precision: of what is not quantized, f32 or bf16.

    Raises:
        RuntimeError: a product is not to be found in the run-time graph.
    """
    meant = {
        op.get_friendly_name(): (op.get_type_name(), _is_quantized(op))
        for op in model.get_ordered_ops()
        if op.get_type_name() in QUANTIZED_PRODUCTS
    }
    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": precision})
    runs: dict[str, dict[str, str]] = {}
    for node in compiled.get_runtime_model().get_ordered_ops():
        info = {key: value.astype(str) for key, value in node.get_rt_info().items()}
        for name in info.get("originalLayersNames", "").split(","):
            runs[name.removesuffix("/DequantizationMultiply")] = info
    missing = sorted(set(meant) - set(runs))
    if missing:
        raise RuntimeError(f"Products are missing from the run-time graph: {missing}")
    return [
        Product(
            name,
            kind,
            runs[name]["layerType"],
            runs[name]["runtimePrecision"],
            runs[name]["primitiveType"],
            is_quantized,
        )
        for name, (kind, is_quantized) in meant.items()
    ]


def _is_quantized(op: openvino.Node) -> bool:
    """Say whether the first input of a product has been quantized."""
    node = op.input_value(0).get_node()
    while node.get_type_name() in ("Transpose", "Reshape"):
        node = node.input_value(0).get_node()
    return bool(node.get_type_name() == "FakeQuantize")
