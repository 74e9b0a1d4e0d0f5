"""The published encoder in another shape, with small encoders of random weights."""

from __future__ import annotations

import copy

import pytest

pytest.importorskip("torch", reason="training/requirements.txt is not installed")

import torch
from torch import nn

from tests.training.small_networks import small_tiny_vit
from training.loop.reshaping import reshape_encoder
from training.networks.layers import fold_batch_norm
from training.networks.tiny_vit import EncoderShape, TinyViT, extended_biases

pytestmark = pytest.mark.training

OTHER = EncoderShape((4, 4, 5, 4), expansion=2, activation="hard_swish")


@pytest.fixture
def published(monkeypatch):
    torch.manual_seed(3)
    encoder = small_tiny_vit(monkeypatch)
    for module in encoder.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 2.0)
    return encoder.eval()


def images(count=6):
    generator = torch.Generator().manual_seed(1)
    sides = [(20, 20), (16, 20), (20, 12)]
    return [torch.rand(1, 3, *sides[i % 3], generator=generator) for i in range(count)]


def in_shape(shape: EncoderShape) -> TinyViT:
    encoder = TinyViT(shape).eval()
    fold_batch_norm(encoder)
    return encoder


@torch.no_grad()
def error(one, other) -> float:
    """Return by how much of its variance an embedding differs."""
    pairs = [(one(image), other(image)) for image in images(12)[6:]]
    wrong = sum((a - b).square().sum() for a, b in pairs)
    spread = sum((a - a.mean((0, 2, 3), keepdim=True)).square().sum() for a, _ in pairs)
    return float(wrong / spread)


def test_an_encoder_of_the_same_shape_computes_the_same(published):
    before = copy.deepcopy(published.state_dict())
    found = in_shape(EncoderShape())
    reshape_encoder(published, images(), found)
    assert error(published, found) < 1e-4
    for name, value in published.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


def test_an_encoder_of_another_shape_comes_close(published):
    found = in_shape(OTHER)
    assert error(published, found) > 0.5
    reshape_encoder(published, images(), found)
    assert error(published, found) < 0.3
    block = found.layers[0].blocks[0]
    assert block.conv2.in_channels == 2 * 8
    assert isinstance(block.act1, nn.Hardswish)
    assert isinstance(found.layers[1].blocks[0].mlp.act, nn.Hardswish)


def test_biases_of_larger_distances_are_those_of_the_nearest():
    biases = torch.arange(4.0)[None]  # of (dy, dx) = (0, 0), (0, 1), (1, 0), (1, 1)
    assert extended_biases(biases, 3).tolist() == [[0, 1, 1, 2, 3, 3, 2, 3, 3]]
    assert extended_biases(biases, 2).tolist() == biases.tolist()
