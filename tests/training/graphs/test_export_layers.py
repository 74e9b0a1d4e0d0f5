"""The layers of an export compute what the trained ones do, float and quantized.

They are compared block by block: in a quantized network a difference in the last bit moves an
activation by a whole step sooner or later, and all that follows with it.
"""

from __future__ import annotations

import copy

import pytest

torch = pytest.importorskip("torch", reason="training/requirements.txt is not installed")

from brevitas import nn as qnn  # noqa: E402
from torch import nn  # noqa: E402

from tests.training.small_networks import EncoderOnly, small_tiny_vit  # noqa: E402
from training.graphs.export_layers import (  # noqa: E402
    ExportBasicLayer,
    ExportBlock,
    Quantize,
    SplitAttention,
    bare_layer,
    use_export_layers,
    with_half_bias,
)
from training.networks.layers import fold_batch_norm  # noqa: E402
from training.networks.tiny_vit import (  # noqa: E402
    Attention,
    BasicLayer,
    PatchMerging,
    TinyViTBlock,
    attend_in_windows,
)
from training.quantization.calibration import set_ranges  # noqa: E402
from training.quantization.config import QuantConfig  # noqa: E402
from training.quantization.quantize import activation_quantizers, quantize_network  # noqa: E402

pytestmark = pytest.mark.training

# Order of float operations only.
TOLERANCE = 1e-5
CHANNELS, HEADS, WINDOW = 15, 3, 3  # five channels a head, so that the scale is no power of two
HEIGHT, WIDTH = 5, 4  # padded to two windows by two


@pytest.fixture(autouse=True)
def _quick(quick_tensors):
    with torch.no_grad():
        yield


@pytest.fixture(params=["float", "quantized"])
def is_quantized(request):
    return request.param == "quantized"


def prepared(module, run, *, is_quantized):
    """Make parameters uneven, fold, and quantize by what `run` shows the module."""
    for child in module.modules():
        if isinstance(child, nn.LayerNorm | nn.BatchNorm2d):
            nn.init.uniform_(child.weight, 0.2, 3)
            nn.init.normal_(child.bias)
        elif isinstance(child, Attention):
            nn.init.normal_(child.attention_biases)
    module.eval()
    fold_batch_norm(module)
    if is_quantized:
        config = QuantConfig(ranges="percentile", percentile=99)
        quantize_network(EncoderOnly(module), config, parts=("image_encoder",))
        set_ranges(module, config, run)
    assert bool(activation_quantizers(module)) == is_quantized
    return module


def assert_same(found, expected, tolerance=TOLERANCE):
    assert expected.std() > 0.1
    torch.testing.assert_close(found, expected, atol=tolerance, rtol=0)


def fractions(values):
    return torch.round(values * 4096) / 4096


def quantized_weights(module):
    kinds = (qnn.QuantLinear, qnn.QuantConv2d)
    return {name for name, child in module.named_modules() if isinstance(child, kinds)}


def test_split_attention_computes_what_the_trained_one_does(is_quantized):
    x = torch.randn(2, HEIGHT, WIDTH, CHANNELS)
    attention = Attention(CHANNELS, HEADS, WINDOW)
    prepared(attention, lambda: attend_in_windows(attention, x, WINDOW), is_quantized=is_quantized)
    before = copy.deepcopy(attention.state_dict())
    split = SplitAttention(attention)
    expected = attend_in_windows(attention, x, WINDOW)
    assert_same(attend_in_windows(split, x, WINDOW), expected)
    assert quantized_weights(split) == ({"q", "k", "v", "proj"} if is_quantized else set())
    assert len(activation_quantizers(split)) == (6 if is_quantized else 0)
    for name, value in attention.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_a_block_for_export_computes_what_the_trained_one_does(is_quantized):
    x = torch.randn(2, HEIGHT * WIDTH, CHANNELS)
    block = TinyViTBlock(CHANNELS, HEADS, WINDOW)
    prepared(block, lambda: block(x, (HEIGHT, WIDTH)), is_quantized=is_quantized)
    expected = block(x, (HEIGHT, WIDTH))
    exported = ExportBlock(block)
    assert_same(exported(x, (HEIGHT, WIDTH)), expected)
    torch.testing.assert_close(exported.conv_bias, block.local_conv.bias / 2)
    torch.testing.assert_close(exported.local_conv.bias, block.local_conv.bias / 2)
    assert torch.equal(block(x, (HEIGHT, WIDTH)), expected)


def test_a_layer_for_export_adds_the_bias_that_the_convolution_before_it_lacks(is_quantized):
    # Fractions that subtraction and addition bring back exactly.
    x = fractions(torch.randn(1, CHANNELS, HEIGHT, WIDTH))
    bias = fractions(torch.randn(CHANNELS))
    blocks = [TinyViTBlock(CHANNELS, HEADS, WINDOW) for _ in range(2)]
    layer = BasicLayer(blocks, PatchMerging(CHANNELS, 8, stride=2))
    prepared(layer, lambda: layer(x), is_quantized=is_quantized)
    expected = layer(x)
    first = layer.downsample.conv1
    quant = Quantize(first.input_quant) if is_quantized else nn.Identity()
    layer.downsample.conv1 = bare_layer(first)
    exported = ExportBasicLayer(layer, bias, quant)
    assert_same(exported(x - bias[:, None, None]), expected)
    assert expected.shape == (1, 8, 3, 2)


@pytest.fixture
def encoder(monkeypatch, is_quantized):
    made, image = small_tiny_vit(monkeypatch), torch.rand(1, 3, 20, 20)
    return prepared(made, lambda: made(image), is_quantized=is_quantized)


def test_each_layer_of_an_encoder_for_export_computes_what_the_trained_one_does(encoder):
    exported = copy.deepcopy(encoder)
    use_export_layers(exported)
    kinds = [type(layer) for layer in exported.layers]
    assert kinds == [BasicLayer, ExportBasicLayer, ExportBasicLayer, ExportBasicLayer]
    x = encoder.patch_embed(torch.rand(1, 3, 20, 20))
    assert torch.equal(exported.patch_embed.seq[0].weight, encoder.patch_embed.seq[0].weight)
    for index, (ours, theirs) in enumerate(zip(exported.layers, encoder.layers, strict=True)):
        x = fractions(x)
        if index:
            ours.bias.copy_(fractions(ours.bias))
            found = ours(x - ours.bias[:, None, None])
        else:
            found = ours(x)
        expected = theirs(x)
        if index < 3:
            found = found + exported.layers[index + 1].bias[:, None, None]
        else:  # which the last layer has rounded for the neck already
            found, expected = exported.neck(found), encoder.neck(expected)
        assert_same(found, expected)
        x = theirs(x)


@pytest.mark.parametrize("is_quantized", [False], ids=["float"])
def test_a_whole_encoder_for_export_computes_what_the_trained_one_does(encoder):
    image = torch.rand(1, 3, 20, 20)
    expected = encoder(image)
    use_export_layers(encoder)
    assert_same(encoder(image), expected, tolerance=1e-4)


def test_every_quantizer_of_the_encoder_is_in_its_export_once(encoder):
    exported = copy.deepcopy(encoder)
    use_export_layers(exported)
    assert len(activation_quantizers(exported)) == len(activation_quantizers(encoder))
    # Each of the three attentions has its one layer of queries, keys and values in three.
    extra = 3 * 2 if activation_quantizers(encoder) else 0
    assert len(quantized_weights(exported)) == len(quantized_weights(encoder)) + extra


@pytest.mark.parametrize(
    ("build_layer", "shape"),
    [
        (lambda: nn.Linear(4, 6), (7, 4)),
        (lambda: nn.Linear(4, 6, bias=False), (7, 4)),
        (lambda: nn.Conv2d(4, 6, 3, 2, 1), (2, 4, 7, 7)),
        (lambda: nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False), (2, 4, 7, 7)),
    ],
    ids=["linear", "without bias", "convolution", "depth-wise"],
)
def test_a_bare_layer_takes_what_has_been_rounded_before(build_layer, shape, is_quantized):
    x = torch.randn(shape)
    module = nn.Sequential(build_layer())
    (trained,) = prepared(module, lambda: module(x), is_quantized=is_quantized)
    bare = bare_layer(trained)
    assert not activation_quantizers(bare)
    expected = trained(x)
    if is_quantized:
        assert not torch.allclose(bare(x), expected)
        x = Quantize(trained.input_quant)(x)
    assert torch.equal(bare(x), expected)
    assert bare.weight is not trained.weight
    assert not bare.training


def test_half_a_bias_stays_in_the_layer():
    layer = nn.Linear(2, 2)
    layer.bias.copy_(torch.tensor([3.0, -1.0]))
    same, half = with_half_bias(layer)
    assert same is layer
    assert half.tolist() == layer.bias.tolist() == [1.5, -0.5]
