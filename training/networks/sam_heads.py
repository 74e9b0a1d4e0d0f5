"""Prompt encoder and two-way mask decoder of SAM, shared by LiteMedSAM and MedSAM.

Structure after Segment Anything (Kirillov et al., 2023; Copyright Meta Platforms, Apache-2.0),
written for this project: boxes are the only prompt and the first of the four masks the only
output. Parts that only other prompts or outputs need are kept as parameters, so that published
checkpoints load strictly, and are left out of the computation and of the export.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.networks.layers import LayerNorm2d, MatMul

CHANNELS = 256
HEADS = 8
MLP_CHANNELS = 2048
DEPTH = 2
MASK_TOKENS = 4
EMBEDDING_SIZE = 64
WHOLE_HW = (EMBEDDING_SIZE, EMBEDDING_SIZE)


class PositionEncoding(nn.Module):
    """Random Fourier features of positions in the unit square."""

    positional_encoding_gaussian_matrix: Tensor

    def __init__(self) -> None:
        super().__init__()
        gaussian = torch.randn(2, CHANNELS // 2)
        self.register_buffer("positional_encoding_gaussian_matrix", gaussian)

    def forward(self, positions: Tensor) -> Tensor:
        """Encode (..., 2) x, y positions in 0..1 as (..., 256)."""
        angles = 2 * math.pi * ((2 * positions - 1) @ self.positional_encoding_gaussian_matrix)
        return torch.cat([angles.sin(), angles.cos()], dim=-1)


class PromptEncoder(nn.Module):
    """Boxes to tokens; `image_size` is the side of the model frame in pixels."""

    def __init__(self, image_size: int) -> None:
        super().__init__()
        self.image_size = image_size
        self.pe_layer = PositionEncoding()
        self.point_embeddings = nn.ModuleList(nn.Embedding(1, CHANNELS) for _ in range(4))
        self.not_a_point_embed = nn.Embedding(1, CHANNELS)
        self.no_mask_embed = nn.Embedding(1, CHANNELS)
        self.mask_downscaling = nn.Sequential(
            nn.Conv2d(1, 4, 2, 2),
            LayerNorm2d(4),
            nn.GELU(),
            nn.Conv2d(4, 16, 2, 2),
            LayerNorm2d(16),
            nn.GELU(),
            nn.Conv2d(16, CHANNELS, 1),
        )

    def forward(self, boxes: Tensor) -> Tensor:
        """Encode boxes (N, 4), xyxy in the model frame, as corner tokens (N, 2, 256)."""
        corners = (boxes.reshape(-1, 2, 2) + 0.5) / self.image_size  # centre of the pixel
        points: Any = self.point_embeddings
        kinds = torch.cat([points[2].weight, points[3].weight])
        return self.pe_layer(corners) + kinds

    def dense_position_encoding(self, pixels_hw: tuple[int, int] = WHOLE_HW) -> Tensor:
        """Position of each pixel of an embedding, (1, h * w, 256), row by row.

        Positions go from border to border, whatever the grid.
        """
        device = self.no_mask_embed.weight.device
        centres = ((torch.arange(side, device=device) + 0.5) / side for side in pixels_hw)
        y, x = torch.meshgrid(*centres, indexing="ij")
        return self.pe_layer(torch.stack([x, y], dim=-1)).flatten(0, 1)[None]


class Attention(nn.Module):
    """Multi-head attention whose inner width is the outer one over `downsample`."""

    def __init__(self, downsample: int = 1) -> None:
        super().__init__()
        inner = CHANNELS // downsample
        self.q_proj = nn.Linear(CHANNELS, inner)
        self.k_proj = nn.Linear(CHANNELS, inner)
        self.v_proj = nn.Linear(CHANNELS, inner)
        self.out_proj = nn.Linear(inner, CHANNELS)
        self.scale = (inner // HEADS) ** -0.5
        self.scores = MatMul()
        self.mix = MatMul()

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend from q (B, M, 256) to k and v (B, K, 256); B of 1 on one side is broadcast."""
        q, k, v = (split_heads(x) for x in (self.q_proj(q), self.k_proj(k), self.v_proj(v)))
        weights = self.scores(q * self.scale, k.transpose(-2, -1)).softmax(dim=-1)
        return self.out_proj(self.mix(weights, v).transpose(1, 2).flatten(2))


class MLPBlock(nn.Module):
    """The MLP inside a two-way block."""

    def __init__(self) -> None:
        super().__init__()
        self.lin1 = nn.Linear(CHANNELS, MLP_CHANNELS)
        self.lin2 = nn.Linear(MLP_CHANNELS, CHANNELS)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.lin2(self.act(self.lin1(x)))


class TwoWayBlock(nn.Module):
    """Tokens to tokens, tokens to image, MLP, image to tokens."""

    def __init__(self, *, is_first: bool) -> None:
        super().__init__()
        self.is_first = is_first
        self.self_attn = Attention()
        self.norm1 = nn.LayerNorm(CHANNELS)
        self.cross_attn_token_to_image = Attention(downsample=2)
        self.norm2 = nn.LayerNorm(CHANNELS)
        self.mlp = MLPBlock()
        self.norm3 = nn.LayerNorm(CHANNELS)
        self.norm4 = nn.LayerNorm(CHANNELS)
        self.cross_attn_image_to_token = Attention(downsample=2)

    def forward(
        self, tokens: Tensor, pixels: Tensor, token_pe: Tensor, pixel_pe: Tensor
    ) -> tuple[Tensor, Tensor]:
        tokens = self.attend_to_tokens(tokens, token_pe)
        k = pixels + pixel_pe
        attended = self.cross_attn_token_to_image(tokens + token_pe, k, pixels)
        tokens = self.take_in(tokens, attended)
        attended = self.cross_attn_image_to_token(k, tokens + token_pe, tokens)
        return tokens, self.norm4(pixels + attended)

    def attend_to_tokens(self, tokens: Tensor, token_pe: Tensor) -> Tensor:
        """Let the tokens (N, T, 256) of each box attend to each other."""
        if self.is_first:  # SAM replaces the tokens here, with neither position nor residual
            return self.norm1(self.self_attn(tokens, tokens, tokens))
        q = tokens + token_pe
        return self.norm1(tokens + self.self_attn(q, q, tokens))

    def take_in(self, tokens: Tensor, attended: Tensor) -> Tensor:
        """Update the tokens by what they found in the image, (N, T, 256) both."""
        tokens = self.norm2(tokens + attended)
        return self.norm3(tokens + self.mlp(tokens))


class TwoWayTransformer(nn.Module):
    """The blocks and a last attention from the tokens to the image."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(TwoWayBlock(is_first=i == 0) for i in range(DEPTH))
        self.final_attn_token_to_image = Attention(downsample=2)
        self.norm_final_attn = nn.LayerNorm(CHANNELS)

    def forward(self, tokens: Tensor, pixels: Tensor, pixel_pe: Tensor) -> tuple[Tensor, Tensor]:
        """Update tokens (N, T, 256) and pixels (1, P, 256), which become (N, P, 256)."""
        token_pe = tokens
        for layer in self.layers:
            tokens, pixels = layer(tokens, pixels, token_pe, pixel_pe)
        attended = self.final_attn_token_to_image(tokens + token_pe, pixels + pixel_pe, pixels)
        return self.norm_final_attn(tokens + attended), pixels


class MLP(nn.Module):
    """Three linear layers with ReLU between them."""

    def __init__(self, out_channels: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            [
                nn.Linear(CHANNELS, CHANNELS),
                nn.Linear(CHANNELS, CHANNELS),
                nn.Linear(CHANNELS, out_channels),
            ]
        )

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        return self.layers[-1](x)


class MaskDecoder(nn.Module):
    """Image embedding and box tokens to one mask's logits per box."""

    def __init__(self) -> None:
        super().__init__()
        self.transformer = TwoWayTransformer()
        self.iou_token = nn.Embedding(1, CHANNELS)
        self.mask_tokens = nn.Embedding(MASK_TOKENS, CHANNELS)
        self.output_upscaling = nn.Sequential(
            nn.ConvTranspose2d(CHANNELS, CHANNELS // 4, 2, 2),
            LayerNorm2d(CHANNELS // 4),
            nn.GELU(),
            nn.ConvTranspose2d(CHANNELS // 4, CHANNELS // 8, 2, 2),
            nn.GELU(),
        )
        self.output_hypernetworks_mlps = nn.ModuleList(
            MLP(CHANNELS // 8) for _ in range(MASK_TOKENS)
        )
        self.iou_prediction_head = MLP(MASK_TOKENS)
        self.mask_product = MatMul()

    def unused_parts(self) -> list[nn.Module]:
        """Return what a checkpoint holds and the one mask does not need, nor what is quantized."""
        return [self.iou_prediction_head, *self.output_hypernetworks_mlps[1:]]

    def tokens(self, prompts: Tensor) -> Tensor:
        """Put the decoder's own tokens before those of each box, (N, 2, 256): (N, 7, 256)."""
        own = torch.cat([self.iou_token.weight, self.mask_tokens.weight])  # (5, 256)
        return torch.cat([own.expand(prompts.shape[0], -1, -1), prompts], dim=1)

    def forward(self, pixels: Tensor, pixel_pe: Tensor, prompts: Tensor) -> Tensor:
        """Decode one image for N prompts: the logits of `rated`."""
        return self.rated(pixels, pixel_pe, prompts)[0]

    def rated(self, pixels: Tensor, pixel_pe: Tensor, prompts: Tensor) -> tuple[Tensor, Tensor]:
        """Decode one image for N prompts, and say how good each mask may be.

        Args:
            pixels: (1, 256, h, w), the embedding with the no-mask prompt added.
            pixel_pe: (1, h * w, 256), position of each pixel.
            prompts: (N, 2, 256), the tokens of each box.

        Returns:
            low_res_logits (N, 4 h, 4 w) of SAM's single-mask output, and the IoU (N,) that its
            head predicts of it; `dice_of` makes a quality of that.
        """
        pixels_hw = pixels.shape[2:]
        tokens = self.tokens(prompts)
        tokens, pixels = self.transformer(tokens, pixels.flatten(2).transpose(1, 2), pixel_pe)
        image = pixels.transpose(1, 2).unflatten(2, pixels_hw)
        upscaled = self.output_upscaling(image)  # (N, 32, 4 h, 4 w)
        weights = self.output_hypernetworks_mlps[0](tokens[:, 1:2])  # (N, 1, 32)
        logits = self.mask_product(weights, upscaled.flatten(2))
        return logits.unflatten(2, upscaled.shape[-2:]).squeeze(1), self.iou(tokens[:, 0])

    def iou(self, token: Tensor) -> Tensor:
        """Return the IoU (N,) that is predicted of a mask, from its token (N, 256)."""
        return self.iou_prediction_head(token)[:, 0]

    def quality(self, token: Tensor) -> Tensor:
        """Return the DSC (N,) that is predicted of a mask, 0 to 1, from its token (N, 256)."""
        return dice_of(self.iou(token))


def dice_of(iou: Tensor) -> Tensor:
    """Return the DSC, 0 to 1, that is an IoU; what is predicted may lie beyond 0 and 1."""
    within = iou.clamp(0, 1)
    return 2 * within / (1 + within)


def split_heads(x: Tensor) -> Tensor:
    """Turn (B, T, C) into (B, heads, T, C / heads)."""
    return x.unflatten(2, (HEADS, -1)).transpose(1, 2)
