"""TinyViT image encoder of LiteMedSAM: (B, 3, 256, 256) to (B, 256, 64, 64), or a smaller grid.

Structure after TinyViT (Wu et al., ECCV 2022; MIT, Copyright Microsoft) as varied by MobileSAM and
LiteMedSAM (Apache-2.0): the patch embedding keeps the full resolution, the last merging keeps its
stride at 1, and a SAM neck ends it. Written for this project; parameter names follow the
published checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.networks.layers import ConvNorm, LayerNorm2d, MatMul, join_windows, split_windows

WIDTHS = (64, 128, 160, 320)
DEPTHS = (2, 2, 6, 2)
HEADS = (2, 4, 5, 10)
WINDOWS = (7, 7, 14, 7)
MERGE_STRIDES = (2, 2, 1)
EXPANSION = 4
EMBEDDING_CHANNELS = 256

ActivationName = Literal["gelu", "hard_swish"]
ACTIVATIONS: dict[ActivationName, Callable[[], nn.Module]] = {
    "gelu": nn.GELU,
    "hard_swish": nn.Hardswish,
}


@dataclass(frozen=True)
class EncoderShape:
    """What encoders of this kind differ in; by default as published.

    Attributes:
        windows: side of the windows of each layer, of which the first has none.
        expansion: of the channels inside the inverted bottlenecks.
        activation: between convolutions, and in the MLPs; GELU behind a sum whatever it is.
    """

    windows: tuple[int, ...] = field(default_factory=lambda: WINDOWS)
    expansion: int = EXPANSION
    activation: ActivationName = "gelu"


# Whole windows on every grid, and half the channels at the full resolution (docs/decisions.md).
CPU_SHAPE = EncoderShape((8, 8, 16, 8), expansion=2, activation="hard_swish")


class PatchEmbed(nn.Module):
    """Two 1x1 convolutions; no reduction of the resolution."""

    def __init__(self, out_channels: int, activation: ActivationName = "gelu") -> None:
        super().__init__()
        self.seq = nn.Sequential(
            ConvNorm(3, out_channels // 2),
            ACTIVATIONS[activation](),
            ConvNorm(out_channels // 2, out_channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.seq(x)


class MBConv(nn.Module):
    """Inverted bottleneck with a depth-wise 3x3 convolution and a residual."""

    def __init__(
        self, channels: int, expansion: int = EXPANSION, activation: ActivationName = "gelu"
    ) -> None:
        super().__init__()
        hidden = channels * expansion
        self.conv1 = ConvNorm(channels, hidden)
        self.conv2 = ConvNorm(hidden, hidden, kernel_size=3, groups=hidden)
        self.conv3 = ConvNorm(hidden, channels)
        self.act1, self.act2 = ACTIVATIONS[activation](), ACTIVATIONS[activation]()
        self.act3 = nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        y = self.act1(self.conv1(x))
        y = self.act2(self.conv2(y))
        return self.act3(self.conv3(y) + x)


class PatchMerging(nn.Module):
    """Change the width and, by `stride`, the resolution between two layers."""

    def __init__(
        self, in_channels: int, out_channels: int, stride: int, activation: ActivationName = "gelu"
    ) -> None:
        super().__init__()
        self.conv1 = ConvNorm(in_channels, out_channels)
        self.conv2 = ConvNorm(
            out_channels, out_channels, kernel_size=3, stride=stride, groups=out_channels
        )
        self.conv3 = ConvNorm(out_channels, out_channels)
        self.act1, self.act2 = ACTIVATIONS[activation](), ACTIVATIONS[activation]()

    def forward(self, x: Tensor) -> Tensor:
        return self.conv3(self.act2(self.conv2(self.act1(self.conv1(x)))))


class WindowAttention(Protocol):
    """What attends inside windows: `Attention`, or what an export puts in its place."""

    def prepare(self, x: Tensor, *, below: int, right: int) -> Tensor:
        """Pad (B, H, W, C) and do what concerns each pixel alone."""

    def __call__(self, x: Tensor) -> Tensor:
        """Attend inside windows of prepared pixels, (windows, tokens, channels)."""


class Attention(nn.Module):
    """Multi-head attention inside one window, with a learned bias per distance."""

    def __init__(self, channels: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads = heads
        self.scale = (channels // heads) ** -0.5
        self.norm = nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)
        self.attention_biases = nn.Parameter(torch.zeros(heads, window * window))
        self.bias_index: Tensor
        self.register_buffer("bias_index", _distance_index(window), persistent=False)
        self.scores = MatMul()
        self.mix = MatMul()

    def prepare(self, x: Tensor, *, below: int, right: int) -> Tensor:
        """Pad (B, H, W, C) and do what concerns each pixel alone, before they go into windows.

        Padded pixels take part in the attention, as they did when the weights were trained.
        """
        return self.norm(F.pad(x, (0, 0, 0, right, 0, below)))

    def forward(self, x: Tensor) -> Tensor:
        """Attend inside windows of prepared pixels, (windows, tokens, channels)."""
        count, tokens, channels = x.shape
        qkv = self.qkv(x)
        # The checkpoint keeps q, k and v of one head together.
        qkv = qkv.view(count, tokens, self.heads, 3, channels // self.heads)
        q, k, v = qkv.permute(3, 0, 2, 1, 4).unbind(0)  # each (B, heads, tokens, C / heads)
        scores = self.scores(q * self.scale, k.transpose(-2, -1))
        weights = (scores + self.attention_biases[:, self.bias_index]).softmax(dim=-1)
        mixed = self.mix(weights, v).transpose(1, 2).reshape(count, tokens, channels)
        return self.proj(mixed)


class MLP(nn.Module):
    """Layer normalization and a two-layer MLP, per pixel."""

    def __init__(self, channels: int, activation: ActivationName = "gelu") -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.fc1 = nn.Linear(channels, EXPANSION * channels)
        self.fc2 = nn.Linear(EXPANSION * channels, channels)
        self.act = ACTIVATIONS[activation]()

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(self.norm(x))))


class TinyViTBlock(nn.Module):
    """Window attention, depth-wise convolution, MLP; (B, H * W, C) in and out."""

    def __init__(
        self, channels: int, heads: int, window: int, activation: ActivationName = "gelu"
    ) -> None:
        super().__init__()
        self.window = window
        self.attn = Attention(channels, heads, window)
        self.local_conv = ConvNorm(channels, channels, kernel_size=3, groups=channels)
        self.mlp = MLP(channels, activation)

    def forward(self, x: Tensor, hw: tuple[int, int]) -> Tensor:
        x = x + attend_in_windows(self.attn, x.unflatten(1, hw), self.window)
        x = to_tokens(self.local_conv(to_image(x, hw)))
        return x + self.mlp(x)


class BasicLayer(nn.Module):
    """The blocks of one resolution and the merging that ends it, (B, C, H, W) in and out."""

    def __init__(self, blocks: list[nn.Module], downsample: PatchMerging | None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.downsample = downsample
        self.has_tokens = isinstance(blocks[0], TinyViTBlock)

    def forward(self, x: Tensor) -> Tensor:
        hw = (x.shape[2], x.shape[3])
        if self.has_tokens:
            x = to_tokens(x)  # (B, H * W, C)
            for block in self.blocks:
                x = block(x, hw)
            x = to_image(x, hw)  # (B, C, H, W)
        else:
            for block in self.blocks:
                x = block(x)
        return x if self.downsample is None else self.downsample(x)


class TinyViT(nn.Module):
    """The image encoder of LiteMedSAM, or one of another shape."""

    def __init__(self, shape: EncoderShape | None = None) -> None:
        super().__init__()
        shape = shape or EncoderShape()
        self.patch_embed = PatchEmbed(WIDTHS[0], shape.activation)
        self.layers = nn.ModuleList(_basic_layer(i, shape) for i in range(len(WIDTHS)))
        self.neck = nn.Sequential(
            nn.Conv2d(WIDTHS[-1], EMBEDDING_CHANNELS, 1, bias=False),
            LayerNorm2d(EMBEDDING_CHANNELS),
            nn.Conv2d(EMBEDDING_CHANNELS, EMBEDDING_CHANNELS, 3, padding=1, bias=False),
            LayerNorm2d(EMBEDDING_CHANNELS),
        )

    def forward(self, image: Tensor) -> Tensor:
        """Encode (B, 3, h, w), values 0 to 1, as image_embedding (B, 256, h / 4, w / 4)."""
        x = self.patch_embed(image)  # (B, 64, h, w)
        for layer in self.layers:
            x = layer(x)
        return self.neck(x)  # (B, 256, h / 4, w / 4)


def to_tokens(image: Tensor) -> Tensor:
    """Turn (B, C, H, W) into (B, H * W, C).

    Three axes and not four: OpenVINO sees then that a convolution's output lies in memory like
    this already, and fuses what follows a linear layer into it.
    """
    return image.flatten(2).transpose(1, 2)


def to_image(tokens: Tensor, hw: tuple[int, int]) -> Tensor:
    """Turn (B, H * W, C) into (B, C, H, W)."""
    return tokens.transpose(1, 2).unflatten(2, hw)


def attend_in_windows(attention: WindowAttention, x: Tensor, window: int) -> Tensor:
    """Let the pixels of (B, H, W, C) attend inside square windows; (B, H * W, C) out."""
    height, width = x.shape[1:3]
    below, right = -height % window, -width % window
    windows = split_windows(attention.prepare(x, below=below, right=right), window)
    attended = attention(windows.flatten(1, 2)).reshape(windows.shape)
    joined = join_windows(attended, height + below, width + right)
    return joined[:, :height, :width].flatten(1, 2)


def extended_biases(biases: Tensor, window: int) -> Tensor:
    """Return attention biases (heads, distances) for a larger window, by the nearest distance.

    Args:
        biases: of a window, a row of distances along x for each along y.
        window: side of the larger one.
    """
    side = int(biases.shape[1] ** 0.5)
    nearest = torch.arange(window).clamp(max=side - 1)
    return biases.unflatten(1, (side, side))[:, nearest][:, :, nearest].flatten(1)


def _basic_layer(index: int, shape: EncoderShape) -> BasicLayer:
    width, activation = WIDTHS[index], shape.activation
    blocks: list[nn.Module]
    if index == 0:
        blocks = [MBConv(width, shape.expansion, activation) for _ in range(DEPTHS[0])]
    else:
        window, heads = shape.windows[index], HEADS[index]
        blocks = [TinyViTBlock(width, heads, window, activation) for _ in range(DEPTHS[index])]
    if index == len(MERGE_STRIDES):
        return BasicLayer(blocks, None)
    merging = PatchMerging(width, WIDTHS[index + 1], MERGE_STRIDES[index], activation)
    return BasicLayer(blocks, merging)


def _distance_index(window: int) -> Tensor:
    """Row of `attention_biases` for each pair of pixels of a window: (tokens, tokens).

    The checkpoint numbers the (|dy|, |dx|) distances in the order in which they first appear
    from pixel (0, 0), which is row by row.
    """
    axis = torch.arange(window)
    distance = (axis[:, None] - axis[None, :]).abs()
    index = distance[:, None, :, None] * window + distance[None, :, None, :]
    return index.reshape(window * window, window * window)
