"""ViT-B image encoder of MedSAM: (B, 3, 1024, 1024) to (B, 256, 64, 64).

Structure after Segment Anything (Kirillov et al., 2023; Copyright Meta Platforms, Apache-2.0) and
ViTDet (Li et al., 2022), written for this project; parameter names follow `medsam_vit_b.pth`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.networks.layers import LayerNorm2d, MatMul, join_windows, split_windows

PATCH_SIZE = 16
CHANNELS = 768
HEADS = 12
DEPTH = 12
WINDOW = 14
GLOBAL_BLOCKS = (2, 5, 8, 11)
EMBEDDING_CHANNELS = 256
NORM_EPS = 1e-6


class PatchEmbed(nn.Module):
    """One convolution that turns each patch into a vector."""

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, CHANNELS, PATCH_SIZE, PATCH_SIZE)

    def forward(self, image: Tensor) -> Tensor:
        return self.proj(image).permute(0, 2, 3, 1)  # (B, H, W, C)


class Attention(nn.Module):
    """Multi-head attention over a square of `size` by `size` with relative positions."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(CHANNELS, 3 * CHANNELS)
        self.proj = nn.Linear(CHANNELS, CHANNELS)
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * size - 1, CHANNELS // HEADS))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * size - 1, CHANNELS // HEADS))
        self.scale = (CHANNELS // HEADS) ** -0.5
        axis = torch.arange(size)
        self.offset: Tensor
        self.register_buffer("offset", axis[:, None] - axis[None] + size - 1, persistent=False)
        self.scores = MatMul()
        self.mix = MatMul()

    def forward(self, x: Tensor) -> Tensor:
        batch, height, width, channels = x.shape
        qkv = self.qkv(x).view(batch, height * width, 3, HEADS, channels // HEADS)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # each (B, heads, H * W, 64)
        scores = self.scores(q * self.scale, k.transpose(-2, -1))
        bias = self._relative_bias(q.unflatten(2, (height, width)))
        weights = (scores + bias).softmax(dim=-1)
        mixed = self.mix(weights, v).transpose(1, 2).reshape(batch, height, width, channels)
        return self.proj(mixed)

    def _relative_bias(self, q: Tensor) -> Tensor:
        rows = torch.einsum("bnhwc,hkc->bnhwk", q, self.rel_pos_h[self.offset])
        columns = torch.einsum("bnhwc,wkc->bnhwk", q, self.rel_pos_w[self.offset])
        bias = rows[..., :, None] + columns[..., None, :]  # (B, heads, H, W, H, W)
        return bias.flatten(4, 5).flatten(2, 3)


class MLP(nn.Module):
    """Two linear layers with GELU between them."""

    def __init__(self) -> None:
        super().__init__()
        self.lin1 = nn.Linear(CHANNELS, 4 * CHANNELS)
        self.lin2 = nn.Linear(4 * CHANNELS, CHANNELS)
        self.act = nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        return self.lin2(self.act(self.lin1(x)))


class Block(nn.Module):
    """Transformer block; `window` of 0 attends over the whole `size` by `size` grid."""

    def __init__(self, size: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.norm1 = nn.LayerNorm(CHANNELS, eps=NORM_EPS)
        self.attn = Attention(window or size)
        self.norm2 = nn.LayerNorm(CHANNELS, eps=NORM_EPS)
        self.mlp = MLP()

    def forward(self, x: Tensor) -> Tensor:
        x = x + self._attend(self.norm1(x))
        return x + self.mlp(self.norm2(x))

    def _attend(self, x: Tensor) -> Tensor:
        if self.window == 0:
            return self.attn(x)
        height, width = x.shape[1:3]
        bottom, right = -height % self.window, -width % self.window
        padded = F.pad(x, (0, 0, 0, right, 0, bottom))
        attended = self.attn(split_windows(padded, self.window))
        return join_windows(attended, height + bottom, width + right)[:, :height, :width]


class VisionTransformer(nn.Module):
    """The image encoder of MedSAM.

    Args:
        image_size: side of the model frame in pixels; 1024 in the published checkpoint.
        depth: number of blocks; 12 in the published checkpoint, fewer for tests.
    """

    def __init__(self, image_size: int, depth: int = DEPTH) -> None:
        super().__init__()
        size = image_size // PATCH_SIZE
        self.patch_embed = PatchEmbed()
        self.pos_embed = nn.Parameter(torch.zeros(1, size, size, CHANNELS))
        self.blocks = nn.ModuleList(
            Block(size, 0 if i in GLOBAL_BLOCKS else WINDOW) for i in range(depth)
        )
        self.neck = nn.Sequential(
            nn.Conv2d(CHANNELS, EMBEDDING_CHANNELS, 1, bias=False),
            LayerNorm2d(EMBEDDING_CHANNELS),
            nn.Conv2d(EMBEDDING_CHANNELS, EMBEDDING_CHANNELS, 3, padding=1, bias=False),
            LayerNorm2d(EMBEDDING_CHANNELS),
        )

    def forward(self, image: Tensor) -> Tensor:
        """Encode (B, 3, S, S), values 0 to 1, as image_embedding (B, 256, S / 16, S / 16)."""
        x = self.patch_embed(image) + self.pos_embed  # (B, H, W, C)
        for block in self.blocks:
            x = block(x)
        return self.neck(x.permute(0, 3, 1, 2))  # (B, 256, H, W)
