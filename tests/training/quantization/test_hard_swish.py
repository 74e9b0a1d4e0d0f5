"""Hard swish in place of GELU: the scale that fits, and the weights that take it up."""

from __future__ import annotations

import copy

import pytest

torch = pytest.importorskip("torch", reason="training/requirements.txt is not installed")

from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from training.networks.layers import fold_batch_norm  # noqa: E402
from training.networks.tiny_vit import MBConv, PatchEmbed, PatchMerging, TinyViTBlock  # noqa: E402
from training.quantization.hard_swish import (  # noqa: E402
    SAMPLE,
    SCALES,
    activations,
    best_scales,
    fit_hard_swish,
    place_hard_swish,
)

pytestmark = pytest.mark.training

# Order of float operations only.
TOLERANCE = 1e-5
# Each activation with what lies before and behind it.
AROUND = {
    PatchEmbed: [("seq.1", "seq.0", "seq.2")],
    MBConv: [("act1", "conv1", "conv2"), ("act2", "conv2", "conv3")],
    PatchMerging: [("act1", "conv1", "conv2"), ("act2", "conv2", "conv3")],
}


def hard_swish(x, scale):
    return x * torch.clamp(scale * x / 6 + 0.5, 0, 1)


def made(kind):
    """A module of some kind whose channels differ, and an input of it."""
    module = {
        PatchEmbed: lambda: PatchEmbed(8),
        MBConv: lambda: MBConv(4),
        PatchMerging: lambda: PatchMerging(4, 6, 2),
    }[kind]().eval()
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.2, 4)
            nn.init.normal_(layer.bias)
    return module, torch.randn(2, 3 if kind is PatchEmbed else 4, 9, 9)


KINDS = pytest.mark.parametrize("kind", AROUND, ids=lambda kind: kind.__name__)


def test_the_best_scale_has_the_smallest_error():
    values = torch.randn(1000, 3) * torch.tensor([0.1, 1, 10])
    found = best_scales(values)
    for channel, scale in enumerate(found):
        column = values[:, channel].double()
        errors = [(hard_swish(column, k) - F.gelu(column)).square().mean() for k in SCALES]
        assert scale == SCALES[int(torch.stack(errors).argmin())]


def test_the_best_scale_depends_on_where_the_values_lie():
    # About zero GELU is x / 2 + x^2 / sqrt(2 pi), which k / 6 = 0.399 matches. Where it is almost
    # x itself, so is a hard swish that has long reached its end: more than 3 / k.
    near, far = best_scales(torch.stack([torch.randn(1000) / 100, 2 + torch.rand(1000)], dim=1))
    assert near.item() == pytest.approx(6 * 0.399, rel=0.05)
    assert 1.2 < far.item() < 1.9


@KINDS
def test_the_activations_between_two_layers_are_found(kind):
    module, _ = made(kind)
    found = list(activations(nn.Sequential(module)))
    assert len(found) == len(AROUND[kind])
    for activation, (name, before, behind) in zip(found, AROUND[kind], strict=True):
        owner = module.seq if kind is PatchEmbed else module
        assert activation.owner is owner
        assert activation.name == name.removeprefix("seq.")
        assert activation.before is module.get_submodule(before)
        assert activation.behind is module.get_submodule(behind)


@KINDS
def test_placing_replaces_them_and_leaves_weights_alone(kind):
    module, _ = made(kind)
    state = copy.deepcopy(module.state_dict())
    names = [name for name, child in module.named_modules() if isinstance(child, nn.GELU)]
    place_hard_swish(nn.Sequential(module))
    replaced = {name for name, _, _ in AROUND[kind]}
    kinds = {name: type(module.get_submodule(name)) for name in names}
    assert kinds == {name: nn.Hardswish if name in replaced else nn.GELU for name in names}
    after = module.state_dict()
    assert after.keys() == state.keys()
    assert all(torch.equal(value, after[name]) for name, value in state.items())


def test_the_activation_behind_a_residual_sum_stays():
    block = MBConv(4).eval()
    fit_hard_swish(nn.Sequential(block), lambda: block(torch.randn(1, 4, 5, 5)))
    assert isinstance(block.act1, nn.Hardswish)
    assert isinstance(block.act2, nn.Hardswish)
    assert isinstance(block.act3, nn.GELU)


@KINDS
def test_a_fitted_module_computes_hard_swish_of_a_scaled_input(kind):
    """The whole module against itself with hardswish(k x) / k written where GELU was.

    Behind lies an ordinary convolution, a depth-wise one, or both in turn.
    """
    module, x = made(kind)
    fold_batch_norm(module)
    trained = copy.deepcopy(module)
    fit_hard_swish(nn.Sequential(module), lambda: module(x))
    for name, before, _ in AROUND[kind]:
        k = module.get_submodule(before).bias / trained.get_submodule(before).bias
        assert all(torch.isclose(scale, SCALES, rtol=1e-4).any() for scale in k)
        assert len(torch.unique(k.round(decimals=2))) > 1
        owner = trained.seq if kind is PatchEmbed else trained
        setattr(owner, name.removeprefix("seq."), Scaled(k))
    with torch.no_grad():
        torch.testing.assert_close(module(x), trained(x), rtol=TOLERANCE, atol=TOLERANCE)


class Scaled(nn.Module):
    """hardswish(k x) / k with a k for each channel."""

    def __init__(self, k):
        super().__init__()
        self.k = k[:, None, None]

    def forward(self, x):
        return F.hardswish(self.k * x) / self.k


@KINDS
def test_a_fitted_module_stays_close_to_gelu(kind):
    module, x = made(kind)
    with torch.no_grad():
        expected = module(x)
        placed = copy.deepcopy(module)
        fold_batch_norm(placed)
        place_hard_swish(nn.Sequential(placed))
        fit_hard_swish(nn.Sequential(module), lambda: module(x))
        error, unfitted = (
            (found(x) - expected).square().mean() / expected.var() for found in (module, placed)
        )
    assert 0 < error < 0.01
    assert error < unfitted / 3


def test_each_channel_is_sampled_from_all_images():
    """The scale of a channel that only the second image excites comes from that image."""
    patches = PatchEmbed(8).eval()
    fold_batch_norm(patches)
    first = patches.seq[0]
    with torch.no_grad():
        first.weight.zero_()
        first.weight[0, 0] = 1
        first.bias.fill_(0.01)
    encoder = nn.Sequential(patches)
    side = int(SAMPLE**0.5)
    quiet, loud = torch.zeros(1, 3, side, side), torch.randn(1, 3, side, side)
    fit_hard_swish(encoder, lambda: [encoder(image) for image in (quiet, loud)])
    k = first.bias / 0.01
    assert k[1].item() == pytest.approx(6 * 0.399, rel=0.06)  # near zero, as above
    assert k[0] < 0.95 * k[1]
    assert not first._forward_hooks


def test_mlps_keep_gelu():
    block = TinyViTBlock(8, 2, 3).eval()
    encoder = nn.Sequential(block)
    x = torch.randn(1, 9, 8)
    expected = block(x, (3, 3))
    fit_hard_swish(encoder, lambda: block(x, (3, 3)))
    assert isinstance(block.mlp.act, nn.GELU)
    torch.testing.assert_close(block(x, (3, 3)), expected, rtol=TOLERANCE, atol=TOLERANCE)
