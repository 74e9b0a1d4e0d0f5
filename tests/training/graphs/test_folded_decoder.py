"""The folded decoder and its attentions, held to the plain ones that they stand for."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="training/requirements.txt is not installed")

from torch import nn  # noqa: E402

from qmedsam.core.contract import stretch_to_square  # noqa: E402
from tests.training.small_networks import small_encoder  # noqa: E402
from training.graphs.folded_attention import (  # noqa: E402
    LARGEST_EXPONENT,
    ImageToTokenAttention,
    TokenToImageAttention,
)
from training.graphs.folded_decoder import FoldedDecoder, ImageTerms  # noqa: E402
from training.networks.layers import LayerNorm2d  # noqa: E402
from training.networks.network import PromptableNetwork  # noqa: E402
from training.networks.sam_heads import Attention, dice_of  # noqa: E402
from training.networks.tiny_vit import to_tokens  # noqa: E402

pytestmark = pytest.mark.training

# Float rounding in another order of operations, of logits of which the largest is about one.
TOLERANCE = 1e-4
BOXES = torch.tensor([[30, 40, 150, 200], [10, 20, 60, 70], [0, 0, 256, 256], [90, 90, 90, 90.0]])


@pytest.fixture(scope="module")
def network() -> PromptableNetwork:
    """Random weights, with every normalization and bias far from doing nothing."""
    torch.manual_seed(0)
    network = PromptableNetwork(small_encoder(), 256).eval()
    for module in network.modules():
        if isinstance(module, nn.LayerNorm | LayerNorm2d):
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.normal_(module.bias)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.bias, std=0.3)
    return network.requires_grad_(False)


@pytest.fixture(scope="module")
def embedding():
    return torch.randn(1, 256, 64, 64, generator=torch.Generator().manual_seed(1))


def whole(count):
    return torch.arange(4096).view(1, 64, 64).expand(count, -1, -1)


@torch.no_grad()
def fold(network, embedding, boxes, crops):
    terms = ImageTerms(network)(to_tokens(embedding))
    return FoldedDecoder(network)(*terms, boxes, crops)


@pytest.mark.parametrize("count", [1, 4], ids=["one box", "four boxes"])
def test_it_computes_the_logits_of_the_plain_decoder(network, embedding, count):
    expected = network.decode(embedding, BOXES[:count])
    assert expected.std() > 0.01
    found = fold(network, embedding, BOXES[:count], whole(count))
    assert (found - expected).abs().max() < TOLERANCE * expected.abs().max()


@torch.no_grad()
def test_it_predicts_the_quality_of_the_plain_decoder(network, embedding, monkeypatch):
    monkeypatch.setattr(network, "rates", True)
    head = network.mask_decoder.iou_prediction_head.layers[-1]
    head.bias[0] += 0.5  # so that not all lie below 0
    logits, iou = network.decode_rated(embedding, BOXES)
    found, quality = fold(network, embedding, BOXES, whole(4))
    assert (found - logits).abs().max() < TOLERANCE * logits.abs().max()
    assert iou.std() > 1e-3
    assert (quality > 0).any()
    torch.testing.assert_close(quality, dice_of(iou), atol=1e-5, rtol=0)
    head.bias[0] -= 0.5


def test_an_iou_is_a_dice_within_0_and_1():
    found = dice_of(torch.tensor([-0.5, 0.0, 0.5, 1.0, 1.5]))
    assert found.tolist() == pytest.approx([0, 0, 2 / 3, 1, 1])


@torch.no_grad()
def test_it_computes_the_logits_of_the_plain_decoder_on_a_grid(network):
    pixels_hw = (16, 48)
    embedding = torch.randn(1, 256, *pixels_hw)
    expected = network.decode(embedding, BOXES)
    terms = ImageTerms(network, pixels_hw)(to_tokens(embedding))
    crops = torch.arange(16 * 48).view(1, 16, 48).expand(len(BOXES), -1, -1)
    # The runtime takes boxes where they would be, were the grid stretched to the square.
    stretched = (BOXES + 0.5) * BOXES.new_tensor(stretch_to_square((64, 192), 256)) - 0.5
    found = FoldedDecoder(network, pixels_hw)(*terms, stretched, crops)
    assert found.shape == (4, 64, 192)
    assert (found - expected).abs().max() < TOLERANCE * expected.abs().max()


def test_positions_on_a_grid_go_from_border_to_border(network):
    encode = network.prompt_encoder
    found = encode.dense_position_encoding((32, 16)).unflatten(1, (32, 16))
    middle_of_first = torch.tensor([[0.5 / 16, 0.5 / 32]])  # x, y
    middle_of_last = 1 - middle_of_first
    torch.testing.assert_close(found[0, :1, 0], encode.pe_layer(middle_of_first))
    torch.testing.assert_close(found[0, -1:, -1], encode.pe_layer(middle_of_last))


def test_windows_are_cut_out_of_the_whole(network, embedding):
    corners = [(0, 0), (5, 40), (48, 52), (20, 3)]
    crops = torch.stack([whole(1)[0, top : top + 16, left : left + 12] for top, left in corners])
    found = fold(network, embedding, BOXES, crops)
    expected = fold(network, embedding, BOXES, whole(4))
    assert found.shape == (4, 64, 48)
    for one, all_of_it, (top, left) in zip(found, expected, corners, strict=True):
        cut = all_of_it[4 * top : 4 * top + 64, 4 * left : 4 * left + 48]
        torch.testing.assert_close(one, cut, atol=1e-5, rtol=0)


def attention(scale: float) -> Attention:
    """An attention whose scores are about so large."""
    made = Attention(downsample=2).requires_grad_(False)
    made.q_proj.weight *= scale
    return made


@pytest.mark.parametrize("scale", [1, 30], ids=["even", "one pixel takes all"])
def test_reading_is_attention_from_tokens_to_pixels(scale):
    trained = attention(scale)
    tokens, normed, position = torch.randn(2, 7, 256), torch.randn(2, 50, 256), torch.randn(50, 256)
    gain, shift = torch.rand(256) + 0.5, torch.randn(256)
    pixels = normed * gain + shift
    expected = trained(tokens, pixels + position, pixels)
    found = TokenToImageAttention(trained, gain, shift)(tokens, pixels + position, normed)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("scale", [1, 30, 3000], ids=["even", "one token takes all", "overflow"])
def test_writing_is_attention_from_pixels_to_tokens_doubled_and_shifted(scale):
    trained = attention(scale)
    tokens, keys, pixels = torch.randn(2, 7, 256), torch.randn(2, 7, 256), torch.randn(2, 50, 256)
    shift = torch.randn(256)
    writing = ImageToTokenAttention(trained, shift)
    found = writing(keys, tokens, pixels)
    assert torch.isfinite(found).all()
    if scale == 3000:  # scores beyond the limit share their weight, as exponentials would overflow
        assert trained.q_proj.weight.abs().max() > LARGEST_EXPONENT
        return
    expected = 2 * (trained(pixels, keys, tokens) + shift)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
