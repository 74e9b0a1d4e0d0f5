"""A float encoder run by OpenVINO is the one that PyTorch runs."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="training/requirements.txt is not installed")

import torch

from training.graphs.openvino_encoder import OpenVinoEncoder
from training.networks.network import build_lite_medsam

pytestmark = pytest.mark.training

CLOSE = 0.02  # of the mean square, in bf16


@torch.no_grad()
def test_it_encodes_as_the_network_does_on_any_grid():
    torch.manual_seed(0)
    network = build_lite_medsam().eval()
    encode = OpenVinoEncoder(network)
    generator = torch.Generator().manual_seed(0)
    for count, grid_hw in ((1, (256, 256)), (2, (128, 192))):
        batch = torch.rand(count, 3, *grid_hw, generator=generator)
        found, expected = encode(batch), network.encode(batch)
        assert found.shape == expected.shape
        wrong = (found - expected).square().mean() / expected.square().mean()
        assert wrong < CLOSE
