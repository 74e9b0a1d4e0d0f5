"""Ranges on values that can be counted, and what smoothing and bias correction promise."""

from __future__ import annotations

import copy

import pytest

torch = pytest.importorskip("torch", reason="training/requirements.txt is not installed")

from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from tests.training.small_networks import small_tiny_vit  # noqa: E402
from training.networks import tiny_vit  # noqa: E402
from training.quantization.calibration import (  # noqa: E402
    choose_range,
    correct_biases,
    observe,
    quantize_and_calibrate,
    set_range,
    set_ranges,
    smooth,
)
from training.quantization.config import QuantConfig  # noqa: E402
from training.quantization.quantize import (  # noqa: E402
    activation_quantizers,
    quantize_network,
    tensor_quant,
)

pytestmark = [pytest.mark.training, pytest.mark.usefixtures("quick_tensors")]

# Order of float operations only.
TOLERANCE = 1e-4


class SmallNetwork(nn.Module):
    """An encoder of any kind, and a decoder that is one linear layer over its output's columns."""

    def __init__(self, encoder, columns=5):
        super().__init__()
        self.image_encoder = encoder
        self.mask_decoder = nn.Module()
        self.mask_decoder.product = nn.Linear(columns, columns)
        self.mask_decoder.unused_parts = list
        self.eval()

    def encode(self, image):
        return self.image_encoder(image)

    def forward(self, image, boxes):
        return self.mask_decoder.product(self.encode(image))


def uneven_tiny_vit(monkeypatch):
    """Return a network of a small TinyViT whose norms differ by channel."""
    encoder = small_tiny_vit(monkeypatch)
    for module in encoder.modules():
        if isinstance(module, nn.LayerNorm | nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.2, 3)
            nn.init.normal_(module.bias)
    return SmallNetwork(encoder)


def quantized_layers(*layers, **settings):
    network = SmallNetwork(nn.Sequential(*layers))
    quantize_network(network, QuantConfig(**settings))
    return network.image_encoder


def calibration_images():
    return [(torch.rand(1, 3, 20, 20), torch.zeros(1, 4)) for _ in range(2)]


def relative_error(found, expected):
    return ((found - expected).square().mean() / expected.square().mean()).item()


def chosen(values, *, is_signed=False, **settings):
    """The one range of values that have one scale."""
    column = torch.as_tensor(values, dtype=torch.float32)[:, None]
    low, high = choose_range(column, QuantConfig(**settings), is_signed=is_signed)
    return low.item(), high.item()


def test_a_percentile_leaves_out_as_many_values_at_either_end():
    values = range(-500, 501)
    assert chosen(values, ranges="percentile", percentile=99) == (-490, 490)
    assert chosen(values, ranges="percentile", percentile=100) == (-500, 500)


def test_a_percentile_cuts_an_outlier_that_mse_keeps():
    values = [*range(999), 1_000_000]
    assert chosen(values, ranges="percentile", percentile=99.9) == (0, 998)
    # At 8 bits the outlier's own error outweighs that of all the others.
    assert chosen(values, ranges="mse") == (0, 1_000_000)


def test_mse_gives_an_outlier_up_where_the_others_fit_the_steps_better():
    # With 2 bits 0 to 3 is exact but for one value; 0 to 15 would make 0 or 5 of all others.
    values = [0, 1, 2, 3] * 250 + [15]
    assert chosen(values, ranges="mse", activation_bits=2) == pytest.approx((0, 3), abs=1e-5)
    assert chosen(values, ranges="percentile", percentile=100, activation_bits=2) == (0, 15)


def test_mse_is_no_worse_than_any_other_cut_of_the_range():
    values = torch.randn(2000) ** 3
    shares = torch.linspace(0.2, 1, 9)

    def error(low, high):
        scale = (high - low) / 15
        offset = torch.round(-low / scale)
        steps = torch.clamp(torch.round(values / scale + offset), 0, 15)
        return ((steps - offset) * scale - values).square().mean().item()

    low, high = chosen(values, ranges="mse", activation_bits=4)
    others = [error(a * values.min(), b * values.max()) for a in shares for b in shares]
    assert error(torch.tensor(low), torch.tensor(high)) <= min(others) * 1.001
    assert min(others) < 0.9 * others[-1]  # where there is something to choose


@pytest.mark.parametrize("ranges", ["mse", "percentile"])
@pytest.mark.parametrize(
    ("values", "limits"),
    [([5, 6, 7, 8], (0, 8)), ([-8, -7, -6, -5], (-8, 0)), ([0, 0], (0, 0))],
    ids=["above", "below", "nothing else"],
)
def test_zero_is_always_inside(values, limits, ranges):
    low, high = chosen(values, ranges=ranges, percentile=100)
    assert low <= 0 <= high
    assert (low, high) == pytest.approx(limits, rel=0.06)  # mse may shave a step off


@pytest.mark.parametrize("ranges", ["mse", "percentile"])
@pytest.mark.parametrize("values", [[-1, 0, 3], [-3, 0, 1], [2, 3]], ids=str)
def test_a_signed_range_is_symmetric(values, ranges):
    low, high = chosen(values, is_signed=True, ranges=ranges, percentile=100)
    assert low == -high
    assert high == pytest.approx(3, rel=0.03)


@pytest.mark.parametrize("ranges", ["mse", "percentile"])
def test_each_scale_gets_a_range_of_its_own(ranges):
    columns = torch.stack([torch.randn(500) * size + 1 for size in (0.01, 1, 100)], dim=1)
    config = QuantConfig(ranges=ranges, percentile=99)
    low, high = choose_range(columns, config, is_signed=False)
    assert low.shape == high.shape == (3,)
    for column in range(3):
        alone = choose_range(columns[:, column : column + 1], config, is_signed=False)
        assert (low[column], high[column]) == tuple(alone)
    assert high[2] > 10 * high[1] > 10 * high[0]


def linear_quantizer(**settings):
    return quantized_layers(nn.Linear(5, 3), **settings)[0].input_quant


@pytest.mark.parametrize(
    ("low", "high"),
    [(0.0, 1.0), (-1.0, 0.0), (-0.3, 1.7), (-100.0, 0.01), (0.0, 0.0)],
    ids=["above", "below", "both", "lopsided", "nothing"],
)
def test_an_unsigned_range_is_kept_to_a_step_and_zero_is_exact(low, high):
    proxy = linear_quantizer()
    set_range(proxy, torch.tensor([low]), torch.tensor([high]))
    assert proxy(torch.zeros(4)).tolist() == [0] * 4
    scale = max(high - low, 1e-6) / 255
    zero_point = round(-low / scale)
    values = torch.linspace(low - 1, high + 1, 1001)
    expected = [
        (min(max(round(value / scale) + zero_point, 0), 255) - zero_point) * scale
        for value in values.double().tolist()
    ]
    # Rounded as float32, a value between two steps may go to either.
    torch.testing.assert_close(proxy(values), torch.tensor(expected), atol=1.01 * scale, rtol=0)
    ends = proxy(torch.tensor([low, high])).tolist()
    assert ends == pytest.approx([low, high], abs=0.51 * scale)


def test_a_signed_range_has_128_steps_to_its_lower_end():
    proxy = linear_quantizer(scheme="paper")
    set_range(proxy, torch.tensor([-12.8]), torch.tensor([12.8]))
    values = torch.tensor([-20, -12.8, -0.14, 0, 0.04, 0.26, 12.64, 12.8, 20])
    expected = [-12.8, -12.8, -0.1, 0, 0, 0.3, 12.6, 12.7, 12.7]
    assert proxy(values).tolist() == pytest.approx(expected, abs=1e-5)
    assert proxy(values)[3] == 0


def test_each_channel_of_an_expanded_depthwise_input_has_its_range():
    network = SmallNetwork(tiny_vit.PatchMerging(2, 3, stride=1))
    quantize_network(network, QuantConfig())
    proxy = network.image_encoder.conv2.input_quant
    low, high = torch.tensor([0.0, -1.0, -255.0]), torch.tensor([2.55, 1.55, 0.0])
    set_range(proxy, low, high)
    x = torch.tensor([0.0, 0.018, 0.6, 9.0])
    rounded = proxy(x.expand(1, 3, 1, 4))[0, :, 0]
    assert rounded[0].tolist() == pytest.approx([0, 0.02, 0.6, 2.55], abs=1e-5)
    assert rounded[1].tolist() == pytest.approx([0, 0.02, 0.6, 1.55], abs=1e-5)
    assert rounded[2].tolist() == [0, 0, 0, 0]


def test_a_sample_holds_the_extremes_of_every_image_and_scale():
    layers = quantized_layers(nn.Linear(5, 3))
    images = [torch.randn(40, 5), 3 * torch.randn(40, 5)]
    seen = observe(activation_quantizers(layers), lambda: [layers(image) for image in images])
    (values,) = seen.values()
    for image in images:
        for extreme in (image.min(), image.max()):
            assert (values == extreme).any()
    assert set(values.flatten().tolist()) <= set(torch.cat(images).flatten().tolist())


def test_a_sample_of_channels_keeps_them_apart():
    network = SmallNetwork(tiny_vit.PatchMerging(2, 3, stride=1))
    quantize_network(network, QuantConfig())
    proxy = network.image_encoder.conv2.input_quant
    x = torch.rand(2, 3, 6, 6) + torch.tensor([0.0, 10.0, 20.0])[:, None, None]
    (values,) = observe({"conv2": proxy}, lambda: proxy(x)).values()
    assert values.shape[1] == 3
    for channel in range(3):
        assert values[:, channel].min() == x[:, channel].min()
        assert values[:, channel].max() == x[:, channel].max()


def test_ranges_are_those_of_the_float_network():
    first, second = nn.Linear(5, 4), nn.Linear(4, 3)
    layers = quantized_layers(first, second, activation_bits=2)
    config = QuantConfig(activation_bits=2, ranges="percentile", percentile=100)
    images = [torch.randn(30, 5) for _ in range(2)]
    set_ranges(layers, config, lambda: [layers(image) for image in images])
    entering = [torch.cat(images)]
    # Brevitas rounds the weights meanwhile, unlike the activations.
    entering.append(F.linear(entering[0], layers[0].quant_weight().value, layers[0].bias))
    for layer, values in zip(layers, entering, strict=True):
        rounded = layer.input_quant(values)
        scale = (values.max() - values.min()) / 3
        assert len(torch.unique(rounded)) == 4
        torch.testing.assert_close(rounded.max() - rounded.min(), 3 * scale)
        assert (rounded - values).abs().max() < 1.01 * scale


def test_a_failed_run_leaves_the_quantizers_on_and_no_hooks():
    layers = quantized_layers(nn.Linear(5, 3))

    def fail():
        layers(torch.randn(1, 5))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        set_ranges(layers, QuantConfig(), fail)
    (proxy,) = activation_quantizers(layers).values()
    assert proxy.is_quant_enabled
    assert not proxy._forward_pre_hooks


@pytest.fixture
def outputs_of_norms(monkeypatch):
    """A function that returns by name what each pair smoothed makes of an image."""

    def run(network, image):
        found = {}
        hooks = [
            module.norm.register_forward_hook(
                lambda _, __, output, name=name: found.update({name: output.flatten(0, -2)})
            )
            for name, module in network.image_encoder.named_modules()
            if isinstance(module, tiny_vit.Attention | tiny_vit.MLP)
        ]
        network.encode(image)
        for hook in hooks:
            hook.remove()
        return found

    return run


def linear_behind(network, name):
    module = network.image_encoder.get_submodule(name)
    return module.qkv if isinstance(module, tiny_vit.Attention) else module.fc1


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0])
def test_smoothing_evens_out_the_channels_and_keeps_the_network(
    exponent, monkeypatch, outputs_of_norms
):
    network = uneven_tiny_vit(monkeypatch)
    images = calibration_images()
    expected = [network.encode(image) for image, _ in images]
    before = copy.deepcopy(network.state_dict())
    smooth(network, exponent, lambda: [network.encode(image) for image, _ in images])
    for (image, _), embedding in zip(images, expected, strict=True):
        torch.testing.assert_close(network.encode(image), embedding, atol=TOLERANCE, rtol=0)
    changed = {
        name for name, value in network.state_dict().items() if not torch.equal(value, before[name])
    }
    blocks = [f"image_encoder.layers.{stage}.blocks.0" for stage in (1, 2, 3)]
    assert changed == {
        f"{block}.{name}"
        for block in blocks
        for name in (
            *("attn.norm.weight", "attn.norm.bias", "attn.qkv.weight"),
            *("mlp.norm.weight", "mlp.norm.bias", "mlp.fc1.weight"),
        )
    }
    outputs = [outputs_of_norms(network, image) for image, _ in images]
    assert len(outputs[0]) == 6
    for name in outputs[0]:
        peaks = torch.cat([output[name] for output in outputs]).abs().amax(0)
        weights = linear_behind(network, name).weight.abs().amax(0)
        # An exponent of 1 makes the normalized peaks equal, 0 the weights', 0.5 both alike.
        evened = {0.0: weights, 0.5: peaks / weights, 1.0: peaks}[exponent]
        assert (evened.max() / evened.min()).item() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(
    ("build_layer", "shape"),
    [
        (lambda: nn.Conv2d(4, 6, 3), (2, 4, 9, 9)),
        (lambda: nn.ConvTranspose2d(4, 6, 2, 2), (2, 4, 9, 9)),
        (lambda: nn.Linear(4, 6), (2, 81, 4)),
    ],
    ids=["convolution", "transposed convolution", "linear"],
)
def test_the_mean_error_of_each_channel_goes_off_the_bias(build_layer, shape):
    layer = build_layer()
    x = torch.rand(shape)
    with torch.no_grad():
        expected = layer(x)
    axes = (0, 1) if isinstance(layer, nn.Linear) else (0, 2, 3)
    layers = quantized_layers(layer, weight_bits=3, activation_bits=3)
    weight = layers[0].weight.clone()
    set_ranges(layers, QuantConfig(activation_bits=3), lambda: layers(x))

    @torch.no_grad()
    def mean_errors():
        return (layers(x) - expected).mean(axes)

    before = mean_errors()
    assert before.abs().max() > 1e-3
    correct_biases(layers, lambda: layers(x))
    assert mean_errors().abs().max() < 1e-6
    assert torch.equal(layers[0].weight, weight)
    assert not layers[0]._forward_hooks
    assert layers[0].input_quant.is_quant_enabled


def test_a_layer_is_compared_on_what_reaches_it_and_one_without_a_bias_is_left_out():
    first, second = nn.Conv2d(3, 4, 1, bias=False), nn.Conv2d(4, 3, 1)
    layers = quantized_layers(first, second, weight_bits=3, activation_bits=3)
    x = torch.rand(1, 3, 9, 9)
    set_ranges(layers, QuantConfig(activation_bits=3), lambda: layers(x))
    with torch.no_grad():
        reaching = layers[0](x)
        error = (layers(x) - second(reaching)).mean((0, 2, 3))
    before = layers[1].bias.clone()
    correct_biases(layers, lambda: layers(x))
    assert error.abs().max() > 0.001
    torch.testing.assert_close(before - layers[1].bias, error)
    assert layers[0].bias is None


@pytest.mark.parametrize("ranges", ["mse", "percentile"])
@pytest.mark.parametrize("scheme", ["paper", "deploy"])
def test_a_calibrated_network_is_close_to_its_float_self(scheme, ranges, monkeypatch):
    network = uneven_tiny_vit(monkeypatch)
    images = calibration_images()
    image, boxes = images[0]
    with torch.no_grad():
        expected = network(image, boxes)
        empty = copy.deepcopy(network)
        quantize_network(empty, QuantConfig(scheme=scheme))
        uncalibrated = relative_error(empty(image, boxes), expected)
        quantize_and_calibrate(network, QuantConfig(scheme=scheme, ranges=ranges), images)
        error = relative_error(network(image, boxes), expected)
    assert 0 < error < 0.01
    assert uncalibrated > 10 * error


def test_another_part_is_calibrated_without_a_change_of_the_first(monkeypatch):
    network = uneven_tiny_vit(monkeypatch)
    images = calibration_images()
    config = QuantConfig(ranges="percentile")
    quantize_and_calibrate(network, config, images, parts=["image_encoder"])
    assert not activation_quantizers(network.mask_decoder)
    before = copy.deepcopy(network.image_encoder.state_dict())
    quantize_and_calibrate(network, config, images, parts=["mask_decoder"])
    after = network.image_encoder.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    (proxy,) = activation_quantizers(network.mask_decoder).values()
    embeddings = torch.cat([network.encode(image) for image, _ in images])
    extent = 2 ** tensor_quant(proxy).scaling_impl.value
    assert 0.2 < extent / (embeddings.max() - embeddings.min()) < 1.01


def test_hard_swish_takes_the_place_of_gelu_where_the_settings_say_so(monkeypatch):
    network = uneven_tiny_vit(monkeypatch)
    images = calibration_images()
    config = QuantConfig(activation="hard_swish", ranges="percentile")
    with torch.no_grad():
        expected = network(*images[0])
        quantize_and_calibrate(network, config, images)
        error = relative_error(network(*images[0]), expected)
    kinds = [type(module) for module in network.image_encoder.modules()]
    # One of the patches, two of the block, two of each merging; the block's third and one of each
    # MLP stay.
    assert kinds.count(nn.Hardswish) == 1 + 2 + 3 * 2
    assert kinds.count(nn.GELU) == 1 + 3
    assert 0 < error < 0.05
