"""Exported models are held to their networks on grids for which their graphs are rewritten."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="training/requirements.txt is not installed")

import openvino  # noqa: E402
from torch import nn  # noqa: E402

from qmedsam.core.contract import (  # noqa: E402
    CONTRACT_VERSION,
    DECODER_FILE,
    ENCODER_FILE,
    MANIFEST_FILE,
    grids_up_to,
)
from qmedsam.model.grids import encoder_on_grid  # noqa: E402
from qmedsam.model.manifest import encoder_paths, file_sha256, read_manifest  # noqa: E402
from qmedsam.model.variant import default_model_dir  # noqa: E402
from tests.conftest import ROOT  # noqa: E402
from training.checkpoint import load_lite_medsam  # noqa: E402
from training.graphs.check import RECTANGLE, ExportError, check_export, check_on_grid  # noqa: E402
from training.graphs.inference_graphs import inference_graphs  # noqa: E402
from training.networks import tiny_vit  # noqa: E402
from training.networks.network import PromptableNetwork, build_lite_medsam  # noqa: E402
from training.published import DEFAULT_PATH  # noqa: E402
from training.quantization import fake_quant  # noqa: E402
from training.quantization.calibration import set_ranges  # noqa: E402
from training.quantization.config import QuantConfig  # noqa: E402
from training.quantization.quantize import quantize_network  # noqa: E402
from training.run_time import run_time_ops  # noqa: E402

pytestmark = [pytest.mark.training, pytest.mark.model]

GRIDS = [(64, 64), (64, 256), (192, 128), RECTANGLE]
# LiteMedSAM has the windows; less of all else makes it quick.
SMALL = {"WIDTHS": (16, 16, 32, 32), "DEPTHS": (1, 1, 1, 1), "HEADS": (2, 2, 2, 2)}
# Of 7 bits, of which no processor's sums of products saturate.
CONFIG = QuantConfig(weight_bits=7, ranges="percentile", smoothing=0, correct_biases=False)


@dataclass(frozen=True)
class Exported:
    network: PromptableNetwork
    model_dir: Path
    is_quantized: bool


@pytest.fixture(scope="module", params=["float", "int8"])
def exported(request, tmp_path_factory) -> Iterator[Exported]:
    """A LiteMedSAM with few channels and random weights."""
    is_quantized = request.param == "int8"
    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SMALL.items():
            patch.setattr(tiny_vit, name, value)
        network = uneven(build_lite_medsam()).eval()
    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(fake_quant, "_compiled_forward", fake_quant._forward)
        if is_quantized:
            quantize_network(network, CONFIG, ("image_encoder",))
            image = torch.rand(1, 3, 128, 128)
            set_ranges(network.image_encoder, CONFIG, lambda: network.encode(image))
        model_dir = tmp_path_factory.mktemp(request.param)
        write_model(network, model_dir, is_quantized=is_quantized)
        yield Exported(network, model_dir, is_quantized)


def write_model(network: PromptableNetwork, folder: Path, *, is_quantized: bool) -> None:
    """Write what an export does, but for the ONNX files."""
    quantized = {ENCODER_FILE: is_quantized, DECODER_FILE: False}
    for name, graph in inference_graphs(network, folder, quantized).items():
        openvino.save_model(graph, folder / name, compress_to_fp16=False)
    manifest = {
        "contract_version": CONTRACT_VERSION,
        "name": "lite_medsam",
        "precision": "int8" if is_quantized else "f32",
        "image_size": 256,
        "sha256": {path.name: file_sha256(path) for path in folder.iterdir()},
    }
    (folder / MANIFEST_FILE).write_text(json.dumps(manifest), encoding="utf-8")


def uneven(network: PromptableNetwork) -> PromptableNetwork:
    """Let normalizations do something, and attention see how far pixels are apart."""
    for module in network.modules():
        if isinstance(module, nn.LayerNorm):
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.normal_(module.bias, std=0.3)
        elif isinstance(module, tiny_vit.Attention):
            nn.init.normal_(module.attention_biases)
    return network


@pytest.mark.parametrize("grid_hw", GRIDS, ids=str)
def test_rewritten_graphs_compute_what_the_network_does_on_a_grid(exported, grid_hw):
    check_on_grid(exported.network, exported.model_dir, grid_hw, is_quantized=exported.is_quantized)


def test_another_network_is_told_on_a_grid(exported):
    """The measure sees what a wrong graph would do."""
    network = copy.deepcopy(exported.network)
    network.prompt_encoder.pe_layer.positional_encoding_gaussian_matrix.mul_(1.5)
    with pytest.raises(ExportError, match="128 x 192"):
        check_on_grid(network, exported.model_dir, RECTANGLE, is_quantized=exported.is_quantized)


def test_an_export_is_held_on_a_rectangle_too(exported, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "training.graphs.check.check_on_grid",
        lambda network, model_dir, grid_hw, **_: asked.append(grid_hw),
    )
    check_export(exported.network, exported.model_dir, is_quantized=exported.is_quantized)
    assert asked == [(256, 256), RECTANGLE]


def int8_ops(path: Path, grid_hw) -> list[tuple[str, str]]:
    """Name and kind of the ops of a graph on a grid that run in int8."""
    graph = openvino.Core().read_model(path)
    encoder_on_grid(graph, grid_hw)
    ops = [op for op in run_time_ops(graph, "f32") if op.is_quantized]
    assert all(op.is_as_meant for op in ops)
    return [(op.name, op.kind) for op in ops]


@pytest.mark.parametrize("grid_hw", [(64, 64), (128, 192)], ids=str)
def test_all_ops_that_ship_in_int8_run_in_it_on_a_grid(grid_hw):
    paths = encoder_paths(read_manifest(default_model_dir("int8")))
    found = [int8_ops(path, grid_hw) for path in paths]
    assert found == [int8_ops(path, (256, 256)) for path in paths]
    assert sum(map(len, found)) == 109


@pytest.mark.parametrize("grid_hw", [(64, 64), (256, 128)], ids=str)
def test_the_float_model_that_ships_equals_the_published_network_on_a_grid(grid_hw):
    if not (ROOT / DEFAULT_PATH).is_file():
        pytest.skip("run `python -m training.checkpoint fetch` first")
    network = load_lite_medsam(ROOT / DEFAULT_PATH)
    check_on_grid(network, default_model_dir("float"), grid_hw, is_quantized=False)


def test_an_export_of_lite_medsam_can_be_put_on_all_grids(exported):
    assert read_manifest(exported.model_dir).grids == grids_up_to(256)
