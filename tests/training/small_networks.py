"""Networks that several tests quantize."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.networks import tiny_vit, vit
from training.networks.layers import ConvNorm, LayerNorm2d, MatMul
from training.networks.network import PromptableNetwork, build_medsam


class EncoderOnly(nn.Module):
    """Any module in the place of the encoder."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.image_encoder = encoder
        self.mask_decoder = nn.Module()
        self.mask_decoder.unused_parts = list


# The small network has the three parts and the shapes of LiteMedSAM and a hundredth of its work.
SIZE = 256
BOTH = ("image_encoder", "mask_decoder")


class SmallDecoder(nn.Module):
    """The inner product of the prompt with every pixel of the embedding, enlarged."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Linear(256, 16)
        self.pixel = nn.Conv2d(256, 16, 1)
        self.mask_product = MatMul()

    def unused_parts(self) -> list[nn.Module]:
        return []

    def forward(self, pixels: Tensor, pixel_pe: Tensor, prompts: Tensor) -> Tensor:
        placed = pixels + pixel_pe.transpose(1, 2).unflatten(2, (64, 64))
        features = self.pixel(placed).flatten(2)  # (1, 16, 4096)
        logits = self.mask_product(self.token(prompts.sum(1))[:, None], features)
        logits = logits.unflatten(2, (64, 64))  # (N, 1, 64, 64)
        return F.interpolate(logits, scale_factor=4.0, mode="bilinear").squeeze(1)


def small_encoder() -> nn.Module:
    """Build an encoder with what a quantized one has: a folded norm, a norm, two convolutions."""
    return nn.Sequential(
        ConvNorm(3, 8, kernel_size=5, stride=4),
        nn.GELU(),
        nn.Conv2d(8, 256, 1),
        LayerNorm2d(256),
    )


def build_small_network() -> PromptableNetwork:
    network = PromptableNetwork(small_encoder(), SIZE)
    network.mask_decoder = SmallDecoder()
    return network


def seeded_network(seed: int = 0) -> PromptableNetwork:
    """Build the network with weights and running statistics that tell it from others."""
    torch.manual_seed(seed)
    network = build_small_network()
    norm = network.image_encoder[0].bn
    norm.running_mean.uniform_(-0.2, 0.2)
    norm.running_var.uniform_(0.5, 2.0)
    return network.eval()


def images_with_boxes(count: int = 2) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(5)
    boxes = torch.tensor([[10.0, 20.0, 90.0, 120.0], [0.0, 0.0, 255.0, 255.0]])
    return [(torch.rand(1, 3, SIZE, SIZE, generator=generator), boxes) for _ in range(count)]


def small_tiny_vit(monkeypatch) -> tiny_vit.TinyViT:
    """Build a TinyViT of each kind of block, for images of 20 x 20, padded to whole windows."""
    sizes = {"WIDTHS": (8, 8, 12, 16), "DEPTHS": (1, 1, 1, 1), "HEADS": (2, 2, 3, 4)}
    for name, value in (sizes | {"WINDOWS": (3, 3, 4, 3)}).items():
        monkeypatch.setattr(tiny_vit, name, value)
    return tiny_vit.TinyViT()


def narrow_medsam(monkeypatch) -> PromptableNetwork:
    """Build MedSAM with one block of an eighth of its channels, for images of 1024 x 1024."""
    for name, value in {"CHANNELS": 96, "HEADS": 2}.items():
        monkeypatch.setattr(vit, name, value)
    return build_medsam(depth=1).eval()
