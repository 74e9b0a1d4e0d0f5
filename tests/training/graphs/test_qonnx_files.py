"""QONNX files are run by the package `qonnx` and held to the fake-quantized network."""

from __future__ import annotations

import copy
from functools import partial
from types import SimpleNamespace

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch", reason="training/requirements.txt is not installed")
pytest.importorskip("qonnx", reason="benchmarks/requirements.txt is not installed")

from qonnx.core.modelwrapper import ModelWrapper  # noqa: E402
from qonnx.core.onnx_exec import execute_node, execute_onnx  # noqa: E402
from qonnx.util.inference_cost import inference_cost  # noqa: E402

from qmedsam.core.contract import (  # noqa: E402
    BOXES_NAME,
    IMAGE_EMBEDDING_NAME,
    IMAGE_NAME,
    LOW_RES_LOGITS_NAME,
)
from tests.conftest import ROOT  # noqa: E402
from tests.training.small_networks import (  # noqa: E402
    BOTH,
    images_with_boxes,
    seeded_network,
    small_tiny_vit,
)
from training.checkpoint import load_lite_medsam  # noqa: E402
from training.graphs import qonnx_files  # noqa: E402
from training.graphs.check import ExportError, relative_distance  # noqa: E402
from training.graphs.qonnx_files import QONNX_FILES, export_qonnx, write_qonnx  # noqa: E402
from training.networks.network import PromptableNetwork, build_qmedsam  # noqa: E402
from training.published import DEFAULT_PATH  # noqa: E402
from training.quantization import fake_quant  # noqa: E402
from training.quantization.calibration import set_ranges  # noqa: E402
from training.quantization.config import QuantConfig  # noqa: E402
from training.quantization.quantize import activation_quantizers, quantize_network  # noqa: E402

pytestmark = [pytest.mark.training, pytest.mark.usefixtures("quick_tensors")]

# Each quantizer may put out a neighbouring step, where a sum of floats that was taken in another
# order lies on the other side of the middle between two. The rest is the rounding of the
# difference itself, in float32: 2e-5 of a step was seen.
MOST_STEPS = 1.001
# Of the output, where all that was quantized before it is the same: sums of floats in another
# order, on the measure of `relative_distance`. At most 2e-13 was seen.
FLOAT_DISTANCE = 1e-11
BOX = torch.tensor([[10.0, 20.0, 90.0, 120.0]])
ACTIVATION_BITS, WEIGHT_BITS = 6, 5  # of the small network, to tell them apart


def quantized(network, parts, image, config):
    """Quantize parts of a network by the ranges of one image."""
    quantize_network(network, config, parts)

    @torch.no_grad()
    def run():
        embedding = network.encode(image)
        if "mask_decoder" in parts:
            network.decode(embedding, BOX)

    for part in parts:
        set_ranges(getattr(network, part), config, run)
    return network


def small_network(scheme, parts=BOTH):
    config = QuantConfig(
        scheme=scheme, activation_bits=ACTIVATION_BITS, weight_bits=WEIGHT_BITS, ranges="percentile"
    )
    return quantized(seeded_network(), parts, small_image(), config)


def small_image():
    return images_with_boxes(1)[0][0]


@pytest.fixture(scope="module", params=["paper", "deploy"])
def small(request, tmp_path_factory):
    """The small network of a scheme, and the folder of its files."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fake_quant, "_compiled_forward", fake_quant._forward)
        network = small_network(request.param)
        folder = tmp_path_factory.mktemp("qonnx")
        export_qonnx(network, folder)
        yield SimpleNamespace(scheme=request.param, network=network, folder=folder)


class Pair:
    """A part of a network and its QONNX file, on the same inputs.

    Attributes:
        model: the file, as the package reads it.
        inputs: of the part by name.
        values: what each quantizer of the network puts out.
        expected: what the network puts out.
    """

    def __init__(self, network, part, image, path) -> None:
        self.model = ModelWrapper(str(path))
        self.inputs, self.values = {IMAGE_NAME: image}, {}
        if part == "mask_decoder":
            with torch.no_grad():
                self.inputs = {IMAGE_EMBEDDING_NAME: network.encode(image), BOXES_NAME: BOX}
        run = network.encode if part == "image_encoder" else network.decode
        hooks = [
            proxy.register_forward_hook(partial(self._keep, name))
            for name, proxy in activation_quantizers(network).items()
        ]
        with torch.no_grad():
            self.expected = run(*self.inputs.values()).numpy()
        for hook in hooks:
            hook.remove()
        self.inputs = {name: value.numpy() for name, value in self.inputs.items()}

    def _keep(self, name, module, inputs, output):
        self.values[name] = output.numpy().copy()

    def steps_apart(self, node, found) -> float:
        """Return by how many steps of its scale a quantizer is off, where it is most."""
        scale = self.model.get_initializer(node.input[1])
        return float(np.abs((found - self.values[node.name]) / scale).max())

    def run_apart(self):
        """Run the file; what follows a quantizer goes on with what the network's has put out.

        Otherwise a step would move all sums behind it, and these other quantizers by several.

        Returns:
            by how many steps each quantizer is off, and the output.
        """
        nodes = self.model.graph.node
        context = self.model.make_empty_exec_context() | self.inputs
        last_reader = {name: place for place, node in enumerate(nodes) for name in node.input}
        steps = {}
        for place, node in enumerate(nodes):
            version = self.model.get_opset_imports()[node.domain]
            execute_node(node, context, self.model.graph, version)
            if node.name in self.values:
                steps[node.name] = self.steps_apart(node, context[node.output[0]])
                context[node.output[0]] = self.values[node.name]
            for name in {name for name in node.input if last_reader[name] == place}:
                del context[name]  # of LiteMedSAM they are 7 GB in all
        return steps, context[self.model.graph.output[0].name]

    def check(self):
        """Hold each quantizer and the output to the network's."""
        steps, output = self.run_apart()
        assert max(steps.values()) <= MOST_STEPS, steps
        assert relative_distance(output, self.expected) <= FLOAT_DISTANCE
        # The exporter makes one node of equal quantizers that read the same.
        for name in set(self.values) - set(steps):
            assert any(np.array_equal(self.values[name], self.values[other]) for other in steps)


def check(network, part, image, path):
    write_qonnx(network, part, path)
    Pair(network, part, image, path).check()


@pytest.mark.parametrize("part", BOTH)
def test_each_quantizer_is_within_a_step_of_the_networks(small, part):
    pair = Pair(small.network, part, small_image(), small.folder / QONNX_FILES[part])
    found = execute_onnx(pair.model, pair.inputs, return_full_exec_context=True)
    quantizers = [node for node in pair.model.graph.node if node.name in pair.values]
    assert len(quantizers) == len(pair.values) == (2 if part == "image_encoder" else 4)
    for node in quantizers:
        assert pair.steps_apart(node, found[node.output[0]]) <= MOST_STEPS
    pair.check()


@pytest.mark.parametrize("scheme", ["paper", "deploy"])
def test_so_is_each_of_a_vision_transformer(scheme, tmp_path, monkeypatch):
    image = torch.rand(1, 3, 20, 20)
    network = PromptableNetwork(small_tiny_vit(monkeypatch), 20).eval()
    config = QuantConfig(scheme=scheme, ranges="percentile")
    quantized(network, ["image_encoder"], image, config)
    check(network, "image_encoder", image, tmp_path / "encoder.onnx")


@pytest.mark.slow
@pytest.mark.parametrize("part", BOTH)
def test_so_is_each_of_lite_medsam_in_the_papers_scheme(part, tmp_path):
    if not (ROOT / DEFAULT_PATH).is_file():
        pytest.skip("run `python -m training.checkpoint fetch` first")
    network = load_lite_medsam(ROOT / DEFAULT_PATH)
    quantized(network, BOTH, small_image(), QuantConfig(scheme="paper", ranges="percentile"))
    check(network, part, small_image(), tmp_path / "part.onnx")


@pytest.mark.slow
def test_so_is_each_of_the_network_that_is_trained_here_in_its_own_scheme(tmp_path):
    network = build_qmedsam().eval()
    quantized(network, ["image_encoder"], small_image(), QuantConfig(ranges="percentile"))
    check(network, "image_encoder", small_image(), tmp_path / "encoder.onnx")


def test_a_node_has_name_and_settings_of_its_quantizer(small):
    model = ModelWrapper(str(small.folder / QONNX_FILES["image_encoder"]))
    nodes = {node.name: node for node in model.get_nodes_by_op_type("Quant")}
    own = copy.deepcopy(activation_quantizers(small.network)["image_encoder.2.input_quant"])
    own.skip_create_quant_tensor = False  # Brevitas tells the settings of its tensors alone
    activation, weight = (nodes[f"image_encoder.2.{kind}_quant"] for kind in ("input", "weight"))
    assert model.get_initializer(activation.input[1]) == own.scale().detach().numpy()
    assert model.get_initializer(activation.input[2]) == own.zero_point().detach().numpy()
    assert model.get_initializer(activation.input[3]) == ACTIVATION_BITS
    assert model.get_initializer(weight.input[3]) == WEIGHT_BITS
    signed = 1 if small.scheme == "paper" else 0  # with a zero point
    assert (own.zero_point() == 0) == (small.scheme == "paper")
    assert settings(activation) == {"signed": signed, "narrow": 0, "rounding_mode": b"ROUND"}
    assert settings(weight) == {"signed": 1, "narrow": 1, "rounding_mode": b"ROUND"}


def settings(node):
    return {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}


def test_a_file_is_of_fixed_shapes_and_tells_nothing_of_this_machine(small):
    shapes = {
        "image_encoder": ({IMAGE_NAME: [1, 3, 256, 256]}, {IMAGE_EMBEDDING_NAME: [1, 256, 64, 64]}),
        "mask_decoder": (
            {IMAGE_EMBEDDING_NAME: [1, 256, 64, 64], BOXES_NAME: [1, 4]},
            {LOW_RES_LOGITS_NAME: [1, 256, 256]},
        ),
    }
    for part, file in QONNX_FILES.items():
        model = ModelWrapper(str(small.folder / file))
        found = tuple(
            {value.name: model.get_tensor_shape(value.name) for value in values}
            for values in (model.graph.input, model.graph.output)
        )
        assert found == shapes[part]
        assert list(model.get_opset_imports()) == ["", "qonnx.custom_op.general"]
        assert str(ROOT).encode() not in (small.folder / file).read_bytes()


def test_the_cost_report_counts_what_has_a_zero_point_as_float(small):
    """Pixels are not negative, so that the first zero point is 0 in each scheme."""
    path = small.folder / QONNX_FILES["image_encoder"]
    cost = inference_cost(str(path), discount_sparsity=False)["total_cost"]
    weights = [8 * 5 * 5 * 3, 256 * 8]
    first, second = (64 * 64 * count for count in weights)
    assert cost["mem_w_SCALEDINT<5>"] == sum(weights)
    if small.scheme == "paper":
        assert cost["op_mac_SCALEDINT<6>_SCALEDINT<5>"] == cost["total_macs"] == first + second
        assert cost["total_bops"] == (first + second) * 6 * 5
    else:
        assert cost["op_mac_SCALEDINT<6>_SCALEDINT<5>"] == first
        assert cost["op_mac_FLOAT32_SCALEDINT<5>"] == second
        assert cost["total_bops"] == first * 6 * 5 + second * 32 * 5


def test_a_float_network_is_refused(tmp_path):
    with pytest.raises(ExportError, match=r"^A network must be quantized to be .* is float$"):
        export_qonnx(seeded_network(), tmp_path / "qonnx")
    assert not list(tmp_path.iterdir())


def test_a_float_decoder_is_not_written_and_none_of_an_earlier_export_is_left(tmp_path):
    for file in QONNX_FILES.values():
        (tmp_path / file).write_text("of an earlier export", encoding="utf-8")
    export_qonnx(small_network("deploy", ["image_encoder"]), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [QONNX_FILES["image_encoder"]]


def test_an_export_that_fails_leaves_the_earlier_one(tmp_path, monkeypatch):
    def fail_at_the_decoder(network, part, path):
        path.write_bytes(b"half")
        if part == "mask_decoder":
            raise RuntimeError("cannot be traced")

    monkeypatch.setattr(qonnx_files, "write_qonnx", fail_at_the_decoder)
    folder = tmp_path / "qonnx"
    folder.mkdir()
    (folder / QONNX_FILES["image_encoder"]).write_text("earlier", encoding="utf-8")
    with pytest.raises(RuntimeError, match="cannot be traced"):
        export_qonnx(small_network("paper"), folder)
    assert [path.read_text() for path in folder.iterdir()] == ["earlier"]
    assert list(tmp_path.iterdir()) == [folder]


def test_the_network_is_as_it_was(tmp_path):
    network = small_network("deploy")
    image = small_image()
    with torch.no_grad():
        before = network(image, BOX)
        export_qonnx(network, tmp_path)
        after = network(image, BOX)
    assert torch.equal(before, after)
    assert all(each.skip_create_quant_tensor for each in activation_quantizers(network).values())
