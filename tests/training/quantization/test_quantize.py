"""Which ops are quantized, and to which values: the two schemes, by module and by operand."""

from __future__ import annotations

import copy
from collections import Counter

import pytest

torch = pytest.importorskip("torch", reason="training/requirements.txt is not installed")

from brevitas import nn as qnn  # noqa: E402
from brevitas.core.zero_point import ParameterZeroPoint, ZeroZeroPoint  # noqa: E402
from torch import nn  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

from tests.training.small_networks import narrow_medsam, small_tiny_vit  # noqa: E402
from training.networks.layers import ConvNorm, MatMul  # noqa: E402
from training.networks.network import build_lite_medsam  # noqa: E402
from training.quantization.calibration import set_range, set_ranges  # noqa: E402
from training.quantization.config import QuantConfig  # noqa: E402
from training.quantization.quantize import (  # noqa: E402
    QuantMatMul,
    activation_quantizers,
    quantize_network,
    quantizer_parameters,
    tensor_quant,
)

pytestmark = [pytest.mark.training, pytest.mark.usefixtures("quick_tensors")]

QUANTIZED_AS = {
    nn.Conv2d: qnn.QuantConv2d,
    nn.ConvTranspose2d: qnn.QuantConvTranspose2d,
    nn.Linear: qnn.QuantLinear,
    MatMul: QuantMatMul,
}
LAYERS = (qnn.QuantConv2d, qnn.QuantConvTranspose2d, qnn.QuantLinear)
# Counted in the definition of the network: two convolutions of the patches, three in each of the
# two first blocks and the three mergings, one in each of the ten others, two in the neck; four
# linear layers and two matrix ops in each of the ten.
ENCODER_OPS = {nn.Conv2d: 2 + 2 * 3 + 3 * 3 + 10 + 2, nn.Linear: 40, MatMul: 20}
# Seven attentions of four linear layers and two matrix ops; two MLPs; one of three layers
# that makes the mask's weights, and their op with the upscaled pixels.
DECODER_OPS = {nn.ConvTranspose2d: 2, nn.Linear: 7 * 4 + 2 * 2 + 3, MatMul: 7 * 2 + 1}


@pytest.fixture(scope="module")
def float_network():
    torch.manual_seed(0)
    return build_lite_medsam().eval()


@pytest.fixture(scope="module")
def networks(float_network):
    made = {}
    for scheme in ("paper", "deploy"):
        made[scheme] = copy.deepcopy(float_network)
        quantize_network(made[scheme], QuantConfig(scheme=scheme))
    return made


@pytest.fixture(params=["paper", "deploy"])
def network(networks, request):
    return networks[request.param]


def ops_of(network, part):
    """Types by names, without what the one mask does not need; `c` is gone once folded."""
    left_out = {
        module for unused in network.mask_decoder.unused_parts() for module in unused.modules()
    }
    return {
        name.removesuffix(".c"): type(module)
        for name, module in getattr(network, part).named_modules()
        if isinstance(module, (*QUANTIZED_AS, QuantMatMul)) and module not in left_out
    }


@pytest.mark.parametrize(
    ("part", "expected"),
    [("image_encoder", ENCODER_OPS), ("mask_decoder", DECODER_OPS)],
    ids=["encoder", "decoder"],
)
def test_every_op_is_quantized(float_network, network, part, expected):
    before = ops_of(float_network, part)
    assert Counter(before.values()) == expected
    assert ops_of(network, part) == {name: QUANTIZED_AS[kind] for name, kind in before.items()}
    factors = 2 * expected[MatMul]
    layers = sum(expected.values()) - expected[MatMul]
    assert len(activation_quantizers(getattr(network, part))) == factors + layers


def test_weights_and_biases_are_those_of_the_float_network(float_network, networks):
    state = networks["paper"].state_dict()
    for name, value in float_network.state_dict().items():
        assert torch.equal(state[name], value), name


def test_norms_softmax_and_the_prompt_encoder_stay_float(float_network, networks):
    def kinds(network):
        return Counter(
            type(module)
            for part in (network.image_encoder, network.mask_decoder)
            for module in part.modules()
            if isinstance(module, nn.LayerNorm | nn.BatchNorm2d | nn.GELU | nn.ReLU)
            or type(module).__name__ == "LayerNorm2d"
        )

    assert kinds(networks["paper"]) == kinds(float_network)
    folded = kinds(float_network)
    del folded[nn.BatchNorm2d]
    assert kinds(networks["deploy"]) == folded
    for network in networks.values():
        assert not activation_quantizers(network.prompt_encoder)
        assert all(
            type(ours) is type(theirs)
            for ours, theirs in zip(
                network.prompt_encoder.modules(),
                float_network.prompt_encoder.modules(),
                strict=True,
            )
        )


def test_what_the_one_mask_does_not_need_stays_float(network):
    for part in network.mask_decoder.unused_parts():
        assert not activation_quantizers(part)
        assert Counter(type(module) for module in part.modules())[nn.Linear] == 3


def test_the_paper_quantizes_activations_signed_and_per_tensor(networks):
    for name, proxy in activation_quantizers(networks["paper"]).items():
        quant = tensor_quant(proxy)
        assert proxy.is_signed, name
        assert isinstance(quant.zero_point_impl, ZeroZeroPoint), name
        assert quant.scaling_impl.value.shape == (), name
        assert quant.msb_clamp_bit_width_impl() == 8, name


def test_deploy_has_zero_points_in_front_of_layers_and_none_in_front_of_matrix_ops(networks):
    network = networks["deploy"]
    kinds = Counter()
    for name, module in network.named_modules():
        if isinstance(module, qnn.QuantConvTranspose2d):
            assert module.input_quant.is_signed, name
            kinds["per tensor"] += 1
        elif isinstance(module, LAYERS):
            assert not module.input_quant.is_signed, name
            quant = tensor_quant(module.input_quant)
            assert isinstance(quant.zero_point_impl, ParameterZeroPoint), name
            is_expanded = name.endswith(".conv2")
            assert is_expanded == (quant.scaling_impl.value.numel() > 1), name
            if is_expanded:
                channels = (1, module.in_channels, 1, 1)
                assert quant.scaling_impl.value.shape == channels, name
                assert quant.zero_point_impl.value.shape == channels, name
            kinds["per channel" if is_expanded else "per tensor"] += 1
        elif isinstance(module, QuantMatMul):
            follows_softmax = name.endswith(".mix")
            left, right = module.left.act_quant, module.right.act_quant
            assert bool(left.is_signed) is not follows_softmax, name
            assert right.is_signed, name
            for proxy in (left, right):
                assert isinstance(tensor_quant(proxy).zero_point_impl, ZeroZeroPoint), name
            kinds["after softmax" if follows_softmax else "signed"] += 1
    # Two blocks and three mergings have a depth-wise convolution behind an expansion.
    layers = sum(ENCODER_OPS.values()) - 20 + sum(DECODER_OPS.values()) - 15
    expected = {"per channel": 5, "per tensor": layers - 5, "after softmax": 17, "signed": 18}
    assert kinds == expected


def test_deploy_has_no_batch_normalization(networks):
    for part in (networks["deploy"].image_encoder, networks["deploy"].mask_decoder):
        assert not any(isinstance(child, ConvNorm | nn.BatchNorm2d) for child in part.modules())


@pytest.mark.parametrize(
    ("bits", "largest"), [(2, 1), (4, 7), (7, 63), (8, 127)], ids=["2", "4", "7", "8"]
)
@pytest.mark.parametrize("scheme", ["paper", "deploy"])
def test_weights_are_rounded_to_equal_steps_on_both_sides_of_zero(scheme, bits, largest):
    network = small_network([("0", nn.Conv2d(4, 6, 3)), ("1", nn.Linear(5, 7))])
    weights = {name: layer.weight.clone() for name, layer in network.image_encoder.named_children()}
    quantize_network(network, QuantConfig(scheme=scheme, weight_bits=bits))
    for name, layer in network.image_encoder.named_children():
        weight = weights[name]
        peaks = weight.abs().flatten(1).amax(1).reshape(-1, *[1] * (weight.ndim - 1))
        scale = (peaks if scheme == "deploy" else peaks.max()) / largest
        quantized = layer.quant_weight()
        torch.testing.assert_close(quantized.scale, scale)
        steps = quantized.int()
        peaks_in_steps = steps.abs().flatten(1).amax(1)
        assert peaks_in_steps.max() == largest
        assert scheme == "paper" or (peaks_in_steps == largest).all()
        torch.testing.assert_close(quantized.value, torch.round(weight / scale) * scale)


def test_the_steps_of_weights_follow_the_weights():
    network = small_network([("0", nn.Linear(5, 3))])
    quantize_network(network, QuantConfig())
    layer = network.image_encoder[0]
    before = layer.quant_weight().scale.flatten().tolist()
    with torch.no_grad():
        layer.weight[1] *= 3
    after = layer.quant_weight().scale.flatten().tolist()
    assert after == pytest.approx([before[0], 3 * before[1], before[2]])


class SmallNetwork(nn.Module):
    """An encoder of any kind in a network whose decoder is one linear layer."""

    def __init__(self, encoder):
        super().__init__()
        self.image_encoder = encoder
        self.mask_decoder = nn.Module()
        self.mask_decoder.linear = nn.Linear(4, 4)
        self.mask_decoder.unused_parts = list
        self.eval()

    def forward(self, image):
        return self.image_encoder(image)


def small_network(layers):
    encoder = nn.Sequential()
    for name, layer in layers:
        encoder.add_module(name, layer)
    return SmallNetwork(encoder)


class Operands(TorchDispatchMode):
    """Keeps both sides of each convolution and matrix op that is computed."""

    OPS = {  # noqa: RUF012
        torch.ops.aten.convolution.default: (0, 1),
        torch.ops.aten.addmm.default: (1, 2),
        torch.ops.aten.mm.default: (0, 1),
        torch.ops.aten.bmm.default: (0, 1),
    }

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function in self.OPS:
            left, right = (args[i].clone() for i in self.OPS[function])
            is_depthwise = function is torch.ops.aten.convolution.default and args[8] > 1
            self.found.append((function, left, right, is_depthwise))
        return function(*args, **(kwargs or {}))


def distinct(values, axis=None):
    """The number of distinct values, at most, along an axis."""
    if axis is None:
        return len(torch.unique(values))
    return max(len(torch.unique(row)) for row in values.movedim(axis, 0))


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("scheme", ["paper", "deploy"])
def test_each_operand_takes_no_more_values_than_its_bits_tell_apart(scheme, bits, monkeypatch):
    network = SmallNetwork(small_tiny_vit(monkeypatch))
    config = QuantConfig(scheme=scheme, weight_bits=bits, activation_bits=bits, ranges="percentile")
    quantize_network(network, config)
    image = torch.rand(1, 3, 20, 20)
    set_ranges(network.image_encoder, config, lambda: network(image))
    with torch.no_grad(), Operands() as operands:
        network(image)
    # Two patches, three each of block and mergings, one of each attention block, two of the neck.
    kinds = Counter(function for function, *_ in operands.found)
    assert kinds[torch.ops.aten.convolution.default] == 2 + 3 + 3 * 3 + 3 + 2
    assert kinds[torch.ops.aten.bmm.default] == 3 * 2
    assert sum(kinds.values()) == 19 + 6 + 3 * 4
    for function, left, right, is_depthwise in operands.found:
        is_convolution = function is torch.ops.aten.convolution.default
        assert distinct(left, 1 if is_depthwise else None) <= 2**bits
        if function is torch.ops.aten.bmm.default:
            assert distinct(right) <= 2**bits
        else:  # a linear layer's weight comes transposed; a narrow range lacks its lowest step
            output_axis = 0 if is_convolution else 1
            assert distinct(right, output_axis if scheme == "deploy" else None) <= 2**bits - 1
    # And the steps are used: some activation takes most of its values.
    assert max(distinct(left) for _, left, _, _ in operands.found) > 2 ** (bits - 1)


def test_between_the_layers_there_are_plain_tensors(monkeypatch):
    network = SmallNetwork(small_tiny_vit(monkeypatch))
    quantize_network(network, QuantConfig())
    kinds = set()
    for module in network.image_encoder.modules():
        module.register_forward_hook(
            lambda module, inputs, output: (
                kinds.add(type(output)) if isinstance(module, (*LAYERS, QuantMatMul)) else None
            )
        )
    network(torch.rand(1, 3, 20, 20))
    assert kinds == {torch.Tensor}


def test_no_parts_leave_the_network_as_it_is(monkeypatch):
    network = SmallNetwork(small_tiny_vit(monkeypatch))
    image = torch.rand(1, 3, 20, 20)
    before = network(image)
    kinds = [type(module) for module in network.modules()]
    quantize_network(network, QuantConfig(), parts=())
    assert [type(module) for module in network.modules()] == kinds
    assert torch.equal(network(image), before)


@pytest.mark.parametrize(
    ("part", "other"),
    [("image_encoder", "mask_decoder"), ("mask_decoder", "image_encoder")],
    ids=["encoder", "decoder"],
)
def test_only_the_parts_that_are_named_are_quantized(part, other, monkeypatch):
    network = SmallNetwork(small_tiny_vit(monkeypatch))
    kinds = [type(module) for module in getattr(network, other).modules()]
    quantize_network(network, QuantConfig(), parts=(part,))
    assert [type(module) for module in getattr(network, other).modules()] == kinds
    assert activation_quantizers(getattr(network, part))


@pytest.mark.parametrize("scheme", ["paper", "deploy"])
def test_learned_scales_and_zero_points_receive_gradients(scheme, monkeypatch):
    network = SmallNetwork(small_tiny_vit(monkeypatch))
    # A cut at 90 % leaves values outside of a range, which alone move a zero point.
    config = QuantConfig(scheme=scheme, ranges="percentile", percentile=90)
    quantize_network(network, config, parts=("image_encoder",))
    image = torch.randn(1, 3, 20, 20)
    set_ranges(network.image_encoder, config, lambda: network(image))
    network(image).square().mean().backward()
    quants = [tensor_quant(proxy) for proxy in activation_quantizers(network).values()]
    scales = [quant.scaling_impl.value for quant in quants]
    zero_points = [
        quant.zero_point_impl.value
        for quant in quants
        if isinstance(quant.zero_point_impl, ParameterZeroPoint)
    ]
    assert len(zero_points) == (19 + 12 if scheme == "deploy" else 0)
    found = list(quantizer_parameters(network))
    assert {id(parameter) for parameter in found} == {id(one) for one in (*scales, *zero_points)}
    assert len(found) == len(scales) + len(zero_points)
    assert all(parameter.grad.isfinite().all() for parameter in found)
    assert all(scale.grad.shape == scale.shape and scale.grad.any() for scale in scales)
    # What the layers before have cut may lie inside altogether.
    moved = sum(bool(zero_point.grad.any()) for zero_point in zero_points)
    assert moved >= 0.9 * len(zero_points)


def test_scales_are_learned_as_logarithms():
    network = small_network([("0", nn.Linear(5, 3))])
    quantize_network(network, QuantConfig())
    proxy = network.image_encoder[0].input_quant
    set_range(proxy, torch.tensor([0.0]), torch.tensor([255 * 0.1]))
    x = torch.tensor([0.26, 1.04])
    assert proxy(x).tolist() == pytest.approx([0.3, 1.0])
    with torch.no_grad():
        tensor_quant(proxy).scaling_impl.value += 1  # steps of 0.2
    assert proxy(x).tolist() == pytest.approx([0.2, 1.0])


@pytest.mark.parametrize("scheme", ["paper", "deploy"])
def test_a_network_quantized_anew_takes_the_ranges_of_another(scheme, monkeypatch):
    config = QuantConfig(scheme=scheme, ranges="percentile")
    image = torch.rand(1, 3, 20, 20)
    trained, fresh = (
        SmallNetwork(small_tiny_vit(monkeypatch)),
        SmallNetwork(small_tiny_vit(monkeypatch)),
    )
    for network in (trained, fresh):
        quantize_network(network, config)
    set_ranges(trained.image_encoder, config, lambda: trained(image))
    assert not torch.equal(fresh(image), trained(image))
    fresh.load_state_dict(trained.state_dict(), strict=True)
    assert torch.equal(fresh(image), trained(image))


def test_medsam_is_quantized_by_the_same_code(monkeypatch):
    network = narrow_medsam(monkeypatch)
    config = QuantConfig(ranges="percentile")
    image = torch.rand(1, 3, 1024, 1024)
    with torch.no_grad():
        expected = network.encode(image)
        quantize_network(network, config)
        counts = Counter(ops_of(network, "image_encoder").values())
        assert counts == {qnn.QuantConv2d: 3, qnn.QuantLinear: 4, QuantMatMul: 2}
        set_ranges(network.image_encoder, config, lambda: network.encode(image))
        embedding = network.encode(image)
    assert not torch.equal(embedding, expected)
    relative = (embedding - expected).square().mean() / expected.square().mean()
    assert relative < 0.01
