"""In which precision a compiled model runs its ops, read from its run-time graph.

python -m training.run_time models/int8
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import openvino  # type: ignore[import-untyped]
from tabulate import tabulate

from qmedsam import ModelError
from qmedsam.core.contract import DECODER_FILE
from qmedsam.exit_status import DONE, NOTHING_RAN, SOME_FAILED
from qmedsam.model.manifest import encoder_paths, read_manifest

QUANTIZED_OPS = {"Convolution", "GroupConvolution", "ConvolutionBackpropData", "MatMul"}
OP_NODES = {"Convolution", "Deconvolution", "FullyConnected", "MatMul"}
INT8 = {"i8", "u8"}


@dataclass(frozen=True)
class Op:
    """A convolution or matrix op as it runs.

    Attributes:
        name: of the layer in the model.
        kind: of the model's operation, or the plugin's where the name is the plugin's.
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
        """Whether an op meant for int8 runs in it."""
        return not self.is_quantized or self.precision in INT8


def run_time_ops(model: openvino.Model, precision: str) -> list[Op]:
    """Compile a model for this processor and list how its ops run.

    Args:
        model: as it is saved.
        precision: of what is not quantized, f32 or bf16.

    Raises:
        RuntimeError: a quantized op is not to be found in the run-time graph.
    """
    meant = {
        op.get_friendly_name(): (op.get_type_name(), _is_quantized(op))
        for op in model.get_ordered_ops()
        if op.get_type_name() in QUANTIZED_OPS
    }
    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": precision})
    runs: dict[str, dict[str, str]] = {}
    renamed = []
    for node in compiled.get_runtime_model().get_ordered_ops():
        info = {key: value.astype(str) for key, value in node.get_rt_info().items()}
        originals = info.get("originalLayersNames", "").split(",")
        names = {name.removesuffix("/DequantizationMultiply") for name in originals}
        runs |= dict.fromkeys(names, info)
        # The plugin gives a float op a new name where it rewrites what is around it.
        has_op = info["layerType"] in OP_NODES or (
            info["layerType"] == "Subgraph" and any("MatMul" in name for name in names)
        )
        if has_op and names.isdisjoint(meant):
            renamed.append(_op(node.get_friendly_name(), info["layerType"], info))
    missing = sorted(
        name for name, (_, quantized) in meant.items() if quantized and name not in runs
    )
    if missing:
        raise RuntimeError(f"Ops are missing from the run-time graph: {missing}")
    named = [
        _op(name, kind, runs[name], is_quantized=is_quantized)
        for name, (kind, is_quantized) in meant.items()
        if name in runs
    ]
    return named + renamed


def _op(name: str, kind: str, info: Mapping[str, str], *, is_quantized: bool = False) -> Op:
    precision, kernel = info["runtimePrecision"], info["primitiveType"]
    return Op(name, kind, info["layerType"], precision, kernel, is_quantized)


def _is_quantized(op: openvino.Node) -> bool:
    """Say whether the first input of an op has been quantized."""
    node = op.input_value(0).get_node()
    while node.get_type_name() in ("Transpose", "Reshape"):
        node = node.input_value(0).get_node()
    return bool(node.get_type_name() == "FakeQuantize")


def ops_table(ops: Sequence[Op]) -> str:
    """Return a table in Markdown, a line for each op and their numbers by precision below."""
    rows = [[item.name, item.kind, item.node, item.precision, item.kernel] for item in ops]
    header = ["op", "kind", "runs as", "precision", "kernel"]
    lines = [tabulate(rows, header, tablefmt="pipe")]
    counts = Counter((item.kind, item.precision) for item in ops)
    lines += ["", *(f"{kind} in {run}: {count}" for (kind, run), count in sorted(counts.items()))]
    return "\n".join(lines)


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of `python -m training.run_time`."""
    parser = argparse.ArgumentParser(
        prog="python -m training.run_time",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model_dir", type=Path, help="exported model")
    parser.add_argument(
        "--precision",
        choices=["f32", "bf16"],
        default="f32",
        help="of what is not quantized (default: %(default)s)",
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Print a table for encoder and decoder; 1 when a quantized op runs in float."""
    arguments = build_parser().parse_args(argv)
    all_as_meant = True
    try:
        manifest = read_manifest(arguments.model_dir)
    except ModelError as error:
        print(error, file=sys.stderr)
        return NOTHING_RAN
    for path in (*encoder_paths(manifest), manifest.path(DECODER_FILE)):
        ops = run_time_ops(openvino.Core().read_model(path), arguments.precision)
        print(f"## {path}\n\n{ops_table(ops)}\n")
        all_as_meant = all_as_meant and all(item.is_as_meant for item in ops)
    return DONE if all_as_meant else SOME_FAILED


if __name__ == "__main__":
    sys.exit(main())
