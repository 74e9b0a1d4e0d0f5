"""A network as a model folder: ONNX, OpenVINO IR, and a manifest that inference checks.

The graphs have batch normalization folded and compute only the one mask that is used. The export
is held to the PyTorch network before anything is put in place.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import openvino  # type: ignore[import-untyped]
import torch

from qmedsam import __version__
from qmedsam.core.contract import (
    CONTRACT_VERSION,
    DECODER_FILE,
    ENCODER_FILE,
    ENCODER_REST_FILE,
    MANIFEST_FILE,
)
from qmedsam.model.compiling import runnable_precisions
from qmedsam.model.manifest import file_sha256
from training.graphs.check import ExportError, check_export
from training.graphs.inference_graphs import inference_graphs
from training.graphs.lowering import count_quantized_ops
from training.graphs.onnx_files import OPSET, write_onnx
from training.networks.network import PromptableNetwork
from training.quantization.config import QuantConfig
from training.run_time import Op, run_time_ops

logger = logging.getLogger(__name__)

SHARED_DIR = "shared"
GraphsOf = Callable[[PromptableNetwork, Path, Mapping[str, bool]], dict[str, openvino.Model]]


@dataclass(frozen=True)
class Source:
    """A network and where its weights came from.

    Attributes:
        checkpoint: None of random weights, which serve to measure speed.
        quant: how parts of it are quantized; None of a float network.
        history: the stages of training that it went through.
        published_sha256: of the checkpoint that training began with, where it is known.
    """

    name: str
    network: PromptableNetwork
    checkpoint: Path | None
    quant: QuantConfig | None = None
    history: Sequence[Mapping[str, Any]] = ()
    published_sha256: str | None = None


def export_network(
    source: Source, output_dir: Path, graphs_of: GraphsOf = inference_graphs
) -> None:
    """Write encoder and decoder, as ONNX and IR, and the manifest into `output_dir`.

    Args:
        source: to export.
        output_dir: folder to write, which may hold an earlier model.
        graphs_of: the network, the ONNX files' folder and which of them are quantized to the
            graphs of the IR; `plain_graphs` serves to compare.

    Raises:
        ExportError: the exported model does not compute what the network does, or an op that
            is meant for int8 runs in float on this processor.
    """
    output_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output_dir.parent) as name:
        folder = Path(name)
        is_quantized = write_onnx(source.network, folder)
        graphs = graphs_of(source.network, folder, is_quantized)
        ops: dict[str, list[Op]] = {file: [] for file in is_quantized}
        for file, graph in graphs.items():
            role = DECODER_FILE if file == DECODER_FILE else ENCODER_FILE
            ops[role] += _write_ir(graph, folder / file, is_quantized=is_quantized[role])
        for file, found in ops.items():
            if is_quantized[file]:
                _check_count(folder / Path(file).with_suffix(".onnx"), found)
        manifest = json.dumps(_manifest(source, folder, ops), indent=2) + "\n"
        (folder / MANIFEST_FILE).write_text(manifest, encoding="utf-8")
        check_export(source.network, folder, is_quantized=source.quant is not None)
        put_in_place(folder, output_dir)


def export_both(quantized: Source, in_float: Source, output_dir: Path) -> None:
    """Write a network in int8 and in float, in folders of these names, equal files once.

    Args:
        quantized: to export.
        in_float: the same weights.
        output_dir: gets `int8`, `float` and, for the files that both have, `shared`.

    Raises:
        ExportError: as of `export_network`.
    """
    sources = {"int8": quantized, "float": in_float}
    output_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output_dir) as name:
        scratch = Path(name)
        for variant, source in sources.items():
            export_network(source, scratch / variant)
        _share([scratch / variant for variant in sources], scratch / SHARED_DIR)
        for variant in sources:
            (output_dir / variant / MANIFEST_FILE).unlink(missing_ok=True)
        for folder in (SHARED_DIR, *sources):
            (output_dir / folder).mkdir(exist_ok=True)
            put_in_place(scratch / folder, output_dir / folder)


def _share(folders: Sequence[Path], shared: Path) -> None:
    """Move graphs that are equal in all folders to one beside them, which their manifests name."""
    shared.mkdir()
    paths = [folder / MANIFEST_FILE for folder in folders]
    documents = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    first, *others = (document["sha256"] for document in documents)
    for graph in [name for name in first if name.endswith(".xml")]:
        files = (graph, str(Path(graph).with_suffix(".bin")))
        if not all(other.get(file) == first[file] for other in others for file in files):
            continue
        for file in files:
            os.replace(folders[0] / file, shared / file)
            for folder in folders[1:]:
                (folder / file).unlink()
        for document in documents:
            document["shared"] = shared.name
    for path, document in zip(paths, documents, strict=True):
        path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def _write_ir(graph: openvino.Model, path: Path, *, is_quantized: bool) -> list[Op]:
    """Write a graph as IR, and return its quantized ops as they run.

    Raises:
        ExportError: some do not run in int8.
    """
    openvino.save_model(graph, path, compress_to_fp16=False)
    if not is_quantized:
        return []
    for precision in runnable_precisions():
        try:
            found = run_time_ops(graph, precision)
        except RuntimeError as error:
            raise ExportError(f"{path.name}: {error}") from error
        ops = [op for op in found if op.is_quantized]
        in_float = [f"{item.name} ({item.precision})" for item in ops if not item.is_as_meant]
        if in_float:
            raise ExportError(f"Ops meant for int8 run in float: {', '.join(in_float)}")
    return ops


def _check_count(onnx_path: Path, ops: Sequence[Op]) -> None:
    meant = count_quantized_ops(onnx.load(onnx_path))
    if len(ops) != meant:
        raise ExportError(
            f"The {onnx_path.stem} must have {meant} quantized ops as {onnx_path.name} has, "
            f"got {len(ops)}"
        )
    logger.info("%s: all %d quantized ops run in int8", onnx_path.stem, len(ops))


def put_in_place(folder: Path, output_dir: Path) -> None:
    """Move a finished model from a folder of the same file system to where it is read.

    The old manifest goes first and the new one comes last, so that no mixture of two has one.
    """
    (output_dir / MANIFEST_FILE).unlink(missing_ok=True)
    for graph in (ENCODER_FILE, ENCODER_REST_FILE, DECODER_FILE):
        for name in (graph, Path(graph).with_suffix(".bin")):
            (output_dir / name).unlink(missing_ok=True)  # the new model may lack it
    for path in sorted(folder.iterdir(), key=lambda path: path.name == MANIFEST_FILE):
        os.replace(path, output_dir / path.name)


def _manifest(source: Source, folder: Path, ops: Mapping[str, Sequence[Op]]) -> dict[str, object]:
    digests = {path.name: file_sha256(path) for path in sorted(folder.iterdir())}
    return {
        "contract_version": CONTRACT_VERSION,
        "name": source.name,
        "precision": "f32" if source.quant is None else "int8",
        "image_size": source.network.image_size,
        "source_checkpoint": source.checkpoint and source.checkpoint.name,
        "source_checkpoint_sha256": source.checkpoint and file_sha256(source.checkpoint),
        "exporters": {
            "qmedsam": __version__,
            "torch": torch.__version__,
            "onnx": onnx.__version__,
            "onnx_opset": OPSET,
            "openvino": openvino.__version__,
        },
        **_account(source, ops),
        # What inference needs; the ONNX files are written beside them and are not shipped.
        "sha256": {name: d for name, d in digests.items() if not name.endswith(".onnx")},
        "onnx_sha256": {name: d for name, d in digests.items() if name.endswith(".onnx")},
    }


def _account(source: Source, ops: Mapping[str, Sequence[Op]]) -> dict[str, object]:
    """Say how a quantized or trained model came to be."""
    account: dict[str, object] = {}
    if source.quant is not None:
        account["quantization"] = source.quant.model_dump()
        account["int8_products"] = {file: len(found) for file, found in ops.items()}
    if source.history:
        account["published_checkpoint_sha256"] = source.published_sha256
        account["training"] = list(source.history)
    return account
