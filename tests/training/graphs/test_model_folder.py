"""A quantized network goes through the whole export, or nothing of it is put in place."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training/requirements.txt is not installed")

import onnx  # noqa: E402
from onnx import TensorProto, helper  # noqa: E402
from openvino.tools.ovc import convert_model  # noqa: E402

from qmedsam.core.contract import (  # noqa: E402
    CONTRACT_VERSION,
    DECODER_FILE,
    ENCODER_FILE,
    MANIFEST_FILE,
)
from qmedsam.model.manifest import file_sha256, read_manifest  # noqa: E402
from training.graphs import check as export_check  # noqa: E402
from training.graphs import model_folder  # noqa: E402
from training.graphs.check import (  # noqa: E402
    EMBEDDING_TOLERANCE,
    LOGIT_TOLERANCE,
    QUANTIZED_LOGIT_TOLERANCE,
    ExportError,
)
from training.graphs.model_folder import Source, export_network  # noqa: E402
from training.networks.network import build_medsam  # noqa: E402
from training.quantization import fake_quant  # noqa: E402
from training.quantization.calibration import set_ranges  # noqa: E402
from training.quantization.config import PARTS, QuantConfig  # noqa: E402
from training.quantization.quantize import quantize_network  # noqa: E402
from training.run_time import Op  # noqa: E402

pytestmark = [pytest.mark.training, pytest.mark.model]

CONFIG = QuantConfig(weight_bits=7, ranges="percentile", smoothing=0, correct_biases=False)
HISTORY = [{"recipe": "stage 1", "steps": 10}]
# One block has four linear layers and two ops; patches are one convolution, the neck two.
ENCODER_OPS = 3 + 4 + 2
# Seven attentions of four linear layers and two ops, two MLPs of two layers, one of
# three, two transposed convolutions and the op that makes the mask.
DECODER_OPS = 7 * (4 + 2) + 2 * 2 + 3 + 2 + 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scheme", "parts", "counts"),
    [
        ("deploy", ("image_encoder",), (ENCODER_OPS, 0)),
        ("paper", PARTS, (ENCODER_OPS, DECODER_OPS)),
    ],
    ids=["deploy, encoder", "paper, encoder and decoder"],
)
def test_a_quantized_medsam_is_exported_in_8_bits(scheme, parts, counts, tmp_path, monkeypatch):
    monkeypatch.setattr(fake_quant, "_compiled_forward", fake_quant._forward)
    network = build_medsam(depth=1).eval()
    image, boxes = torch.rand(1, 3, 1024, 1024), torch.tensor([[100.0, 200, 500, 900]])
    config = CONFIG.model_copy(update={"scheme": scheme})
    quantize_network(network, config, parts)

    @torch.no_grad()
    def run():
        network(image, boxes)

    for part in parts:
        set_ranges(getattr(network, part), config, run)
    checkpoint = tmp_path / "medsam_vit_b.pth"
    checkpoint.write_bytes(b"random weights")
    export_network(Source("medsam", network, checkpoint, config, HISTORY), tmp_path / "model")
    manifest = json.loads((tmp_path / "model" / MANIFEST_FILE).read_text(encoding="utf-8"))
    assert manifest["precision"] == "int8"
    assert manifest["quantization"] == config.model_dump()
    assert manifest["int8_products"] == dict(zip((ENCODER_FILE, DECODER_FILE), counts, strict=True))
    assert manifest["source_checkpoint"] == "medsam_vit_b.pth"
    assert read_manifest(tmp_path / "model").image_size == 1024


def graphs_as_written(network, folder, is_quantized):
    files = {file: (folder / file).with_suffix(".onnx") for file in is_quantized}
    return {file: convert_model(path) for file, path in files.items()}


@pytest.fixture
def source(monkeypatch):
    """A network whose files are one node each; the encoder's counts as quantized."""

    def write(network, folder):
        values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in "xy"]
        for name in ("encoder", "decoder"):
            node = helper.make_node("Relu", ["x"], ["y"])
            graph = helper.make_graph([node], name, values[:1], values[1:])
            opsets = [helper.make_opsetid("", 20)]
            model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
            onnx.save(model, folder / f"{name}.onnx")
        return {ENCODER_FILE: True, DECODER_FILE: False}

    monkeypatch.setattr(model_folder, "write_onnx", write)
    return Source("medsam", SimpleNamespace(image_size=1024), None, CONFIG, HISTORY, "ab12")


@pytest.fixture
def earlier_model(tmp_path):
    """A folder with a model that has been exported before."""
    folder = tmp_path / "model"
    folder.mkdir()
    for name in (ENCODER_FILE, "encoder.bin", MANIFEST_FILE):
        (folder / name).write_text(f"the earlier {name}", encoding="utf-8")
    return folder


def assert_untouched(folder):
    """All of the earlier model is there, and nothing else in or beside its folder."""
    found = {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()}
    assert found == {
        name: f"the earlier {name}" for name in (ENCODER_FILE, "encoder.bin", MANIFEST_FILE)
    }
    assert list(folder.parent.iterdir()) == [folder]


def ops(*precisions):
    return [
        Op(f"layer {i}", "MatMul", "FullyConnected", precision, "jit", precision != "bf16")
        for i, precision in enumerate(precisions)
    ]


def set_up(monkeypatch, *, precisions, embedding=0.0, logits=0.0, meant=None):
    distances = {"e": embedding, "l": logits}
    found = ops(*precisions)
    monkeypatch.setattr(model_folder, "run_time_ops", lambda *_: found)
    count = sum(op.is_quantized for op in found) if meant is None else meant
    monkeypatch.setattr(model_folder, "count_quantized_ops", lambda _: count)
    # Embedding and logits of the exported model and of its network.
    monkeypatch.setattr(export_check, "_outputs", lambda *_: (("e", "l"), ("e", "l")))
    monkeypatch.setattr(export_check, "relative_distance", lambda found, _: distances[found])
    monkeypatch.setattr(
        export_check, "largest_difference", lambda *_: pytest.fail("the measure of float networks")
    )


def test_a_float_op_fails_the_export_and_leaves_the_earlier_model(
    source, earlier_model, monkeypatch
):
    set_up(monkeypatch, precisions=["u8", "f32", "i8"])
    with pytest.raises(ExportError, match=r"^Ops meant for int8 run in float: layer 1 \(f32\)$"):
        export_network(source, earlier_model, graphs_as_written)
    assert_untouched(earlier_model)


def test_an_op_whose_quantization_was_lost_fails_the_export(source, earlier_model, monkeypatch):
    set_up(monkeypatch, precisions=["u8", "i8"], meant=3)
    with pytest.raises(ExportError, match=r"must have 3 quantized ops .*, got 2"):
        export_network(source, earlier_model, graphs_as_written)
    assert_untouched(earlier_model)


def test_an_op_that_is_not_found_again_fails_the_export(source, earlier_model, monkeypatch):
    def find_none(*_):
        raise RuntimeError("Ops are missing from the run-time graph: ['conv']")

    set_up(monkeypatch, precisions=["u8"])
    monkeypatch.setattr(model_folder, "run_time_ops", find_none)
    with pytest.raises(ExportError, match=r"encoder\.xml: Ops are missing"):
        export_network(source, earlier_model, graphs_as_written)
    assert_untouched(earlier_model)


@pytest.mark.parametrize(
    ("distances", "message"),
    [
        ({"embedding": EMBEDDING_TOLERANCE * 1.01}, r"The embedding .* differ .* by 0\.101"),
        ({"logits": QUANTIZED_LOGIT_TOLERANCE * 1.01}, r"The logits .* differ .* by 0\.0101"),
        ({"logits": np.nan}, "The logits .* by nan"),
    ],
)
def test_another_result_fails_the_export_and_leaves_the_earlier_model(
    source, earlier_model, monkeypatch, distances, message
):
    set_up(monkeypatch, precisions=["u8"], **distances)
    with pytest.raises(ExportError, match=message):
        export_network(source, earlier_model, graphs_as_written)
    assert_untouched(earlier_model)


def test_the_manifest_tells_how_a_quantized_model_came_to_be(source, earlier_model, monkeypatch):
    # bf16 stands for an op that is not meant for 8 bits, which may run in anything.
    set_up(monkeypatch, precisions=["u8", "bf16", "i8"], logits=10 * LOGIT_TOLERANCE)
    export_network(source, earlier_model, graphs_as_written)
    manifest = json.loads((earlier_model / MANIFEST_FILE).read_text(encoding="utf-8"))
    assert manifest["precision"] == "int8"
    assert manifest["quantization"] == CONFIG.model_dump()
    assert manifest["quantization"]["weight_bits"] == 7
    assert manifest["int8_products"] == {ENCODER_FILE: 2, DECODER_FILE: 0}
    assert manifest["training"] == HISTORY
    assert manifest["published_checkpoint_sha256"] == "ab12"
    assert manifest["source_checkpoint"] is None
    files = {"decoder.bin", "decoder.xml", "encoder.bin", "encoder.xml"}
    assert set(manifest["sha256"]) == files
    assert set(manifest["onnx_sha256"]) == {"decoder.onnx", "encoder.onnx"}
    digests = manifest["sha256"] | manifest["onnx_sha256"]
    assert all(file_sha256(earlier_model / name) == digest for name, digest in digests.items())
    assert {path.name for path in earlier_model.iterdir()} == {*digests, MANIFEST_FILE}


def model_of(folder, **files):
    """A folder with files and a manifest of them."""
    folder.mkdir()
    for name, content in files.items():
        for kind in ("xml", "bin"):
            (folder / f"{name}.{kind}").write_text(content + kind)
    digests = {path.name: file_sha256(path) for path in sorted(folder.iterdir())}
    manifest = {"name": "any", "precision": "f32", "image_size": 256, "sha256": digests}
    document = {"contract_version": CONTRACT_VERSION, **manifest}
    (folder / MANIFEST_FILE).write_text(json.dumps(document))
    return folder


def test_graphs_that_two_models_have_alike_are_kept_once(tmp_path):
    folders = [
        model_of(tmp_path / "int8", encoder="a", decoder="same", encoder_rest="c"),
        model_of(tmp_path / "float", encoder="b", decoder="same", encoder_rest="d"),
    ]
    model_folder._share(folders, tmp_path / "shared")
    assert {path.name for path in (tmp_path / "shared").iterdir()} == {"decoder.xml", "decoder.bin"}
    for folder in folders:
        manifest = read_manifest(folder)  # which finds all of its files
        assert manifest.path("decoder.xml").parent.name == "shared"
        assert manifest.path("encoder.xml").parent == folder
        assert len(list(folder.iterdir())) == 5


def test_models_that_have_nothing_alike_share_nothing(tmp_path):
    folders = [
        model_of(tmp_path / "int8", encoder="a", decoder="one"),
        model_of(tmp_path / "float", encoder="b", decoder="two"),
    ]
    model_folder._share(folders, tmp_path / "shared")
    assert list((tmp_path / "shared").iterdir()) == []
    assert [read_manifest(folder).shared for folder in folders] == ["", ""]
