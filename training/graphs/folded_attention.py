"""Attention between few tokens and many pixels, with work moved from the pixels to the tokens.

Parts of `training.graphs.folded_decoder`. Tokens are (N, T, 256), pixels (N, P, 256); all heads are
computed side by side, so that an axis of H * T has T columns for each head.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from training.networks.sam_heads import CHANNELS, HEADS, MASK_TOKENS, Attention, split_heads

TOKENS = 1 + MASK_TOKENS + 2  # of a box: of the decoder's own one more than masks, two corners
INNER = CHANNELS // 2  # channels inside the attentions between tokens and pixels
LARGEST_EXPONENT = 80.0  # exp(88) overflows float32


class FirstTokenToImageAttention(nn.Module):
    """Attention from tokens to the pixels of the image, whose keys and values are there."""

    own_channels: Tensor
    own_columns: Tensor

    def __init__(self, trained: Attention) -> None:
        super().__init__()
        self.trained = trained
        own_channels = _same_head(HEADS, 1, INNER // HEADS).view(HEADS, 1, INNER)
        self.register_buffer("own_channels", own_channels)
        self.register_buffer("own_columns", _same_head(HEADS, INNER // HEADS, TOKENS))

    def forward(self, tokens: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Attend from (N, T, 256) to (1, P, 128)."""
        q = self.trained.q_proj(tokens) * self.trained.scale
        weights = _softmax_of_pixels(keys @ _by_head(q, self.own_columns))  # (N, H * T, P)
        mixed = (weights @ values).unflatten(1, (HEADS, TOKENS))
        # Each head has mixed the channels of all heads: (N, H, T, 128).
        return self.trained.out_proj((mixed * self.own_channels).sum(1))


class TokenToImageAttention(nn.Module):
    """Attention from tokens to pixels that are `normed` * scale + shift.

    Scale and shift are in the weights: OpenVINO would take a scale of what has been mixed for one
    of the pixels.
    """

    key_weight: Tensor
    value_weight: Tensor
    value_bias: Tensor

    def __init__(self, trained: Attention, scale: Tensor, shift: Tensor) -> None:
        super().__init__()
        self.trained = trained
        self.register_buffer("key_weight", _by_output_head(trained.k_proj))  # (H, 16, 256)
        with torch.no_grad():
            value_weight = _by_output_head(trained.v_proj).transpose(1, 2) * scale[:, None]
            value_bias = trained.v_proj(shift)
        self.register_buffer("value_weight", value_weight.contiguous())  # (H, 256, 16)
        self.register_buffer("value_bias", value_bias)  # (128,)

    def forward(self, tokens: Tensor, keys: Tensor, normed: Tensor) -> Tensor:
        """Attend from (N, T, 256) to (N, P, 256); keys have the position added."""
        return self.mix(keys @ self.fold(self.queries(tokens)).transpose(1, 2), normed)

    def queries(self, tokens: Tensor) -> Tensor:
        """Project (N, T, 256) to (N, H, T, 16)."""
        return split_heads(self.trained.q_proj(tokens) * self.trained.scale)

    def fold(self, q: Tensor) -> Tensor:
        """Bring queries (N, H, T, 16) to the channels of the pixels, (N, H * T, 256)."""
        return (q @ self.key_weight).flatten(1, 2)

    def mix(self, scores: Tensor, normed: Tensor) -> Tensor:
        """Mix pixels (N, P, 256) by scores (N, P, H * T): (N, T, 256)."""
        mixed = _softmax_of_pixels(scores) @ normed  # (N, H * T, 256)
        values = mixed.unflatten(1, (HEADS, -1)) @ self.value_weight  # (N, H, T, 16)
        return self.trained.out_proj(values.transpose(1, 2).flatten(2) + self.value_bias)


class LastTokenToImageAttention(TokenToImageAttention):
    """`TokenToImageAttention` for few tokens, whose keys are never made."""

    shift_of_keys: Tensor
    own_columns: Tensor

    def __init__(
        self, trained: Attention, scale: Tensor, *, shift: Tensor, position: Tensor, tokens: int
    ) -> None:
        super().__init__(trained, scale, shift)
        with torch.no_grad():
            shift_of_keys = (shift + position) @ trained.k_proj.weight.T
            self.key_weight.mul_(scale)
        self.register_buffer("shift_of_keys", shift_of_keys)  # (1, P, 128)
        self.register_buffer("own_columns", _same_head(HEADS, INNER // HEADS, tokens))

    def forward(self, tokens: Tensor, normed: Tensor) -> Tensor:  # type: ignore[override]
        """Attend from (N, T, 256) to (N, P, 256)."""
        q = self.trained.q_proj(tokens) * self.trained.scale
        scores = normed @ self.fold(split_heads(q)).transpose(1, 2)  # (N, P, H * T)
        return self.mix(scores + self.shift_of_keys @ _by_head(q, self.own_columns), normed)


class _ImageToTokenAttention(nn.Module):
    """Attention from pixels to tokens: what each pixel gathers."""

    out_weight: Tensor
    out_bias: Tensor
    same_head: Tensor

    def __init__(self, trained: Attention, factor: float, shift: Tensor | None) -> None:
        super().__init__()
        self.trained = trained
        bias = trained.out_proj.bias if shift is None else trained.out_proj.bias + shift
        weight = trained.out_proj.weight.T.unflatten(0, (HEADS, -1))
        self.register_buffer("out_weight", (factor * weight).detach().clone())  # (H, 16, 256)
        # Weights of a head add up to one, so that the bias may be a part of what one head gives.
        out_bias = torch.zeros(HEADS, 1, CHANNELS)
        out_bias[0, 0] = factor * bias.detach()
        self.register_buffer("out_bias", out_bias)
        self.register_buffer("same_head", _same_head(HEADS, TOKENS, TOKENS))

    def centred_keys(self, tokens: Tensor) -> Tensor:
        """Project (N, T, 256) to (N, T, 128), less the mean of all tokens.

        That moves all scores of a pixel alike, which changes nothing but that the largest is never
        below zero: their exponentials can be added without looking for it.
        """
        k = self.trained.k_proj(tokens)
        return k - k.mean(dim=1, keepdim=True)

    def gather(self, scores: Tensor, tokens: Tensor) -> Tensor:
        """Mix what tokens (N, T, 256) give by scores (N, P, H * T): (N, P, 256)."""
        v = split_heads(self.trained.v_proj(tokens))
        given = (v @ self.out_weight + self.out_bias).flatten(1, 2)  # (N, H * T, 256)
        exponentials = scores.clamp(max=LARGEST_EXPONENT).exp()
        return exponentials / (exponentials @ self.same_head) @ given


class FirstImageToTokenAttention(_ImageToTokenAttention):
    """Attention from the pixels of the image, whose queries are there, to tokens."""

    own_columns: Tensor

    def __init__(self, trained: Attention) -> None:
        super().__init__(trained, factor=1.0, shift=None)
        self.register_buffer("own_columns", _same_head(HEADS, INNER // HEADS, TOKENS))

    def forward(self, keys: Tensor, tokens: Tensor, queries: Tensor) -> Tensor:
        """Attend from (1, P, 128) to (N, T, 256), whose keys have the position added."""
        scores = queries @ _by_head(self.centred_keys(keys), self.own_columns)
        return self.gather(scores, tokens)


class ImageToTokenAttention(_ImageToTokenAttention):
    """Attention from the pixels of each box to tokens, doubled, with the pixels' shift added."""

    query_weight: Tensor
    query_bias: Tensor

    def __init__(self, trained: Attention, shift: Tensor) -> None:
        super().__init__(trained, factor=2.0, shift=shift)
        weight = _by_output_head(trained.q_proj) * trained.scale
        bias = trained.q_proj.bias.detach().view(HEADS, -1, 1) * trained.scale
        self.register_buffer("query_weight", weight)  # (H, 16, 256)
        self.register_buffer("query_bias", bias)  # (H, 16, 1)

    def forward(self, keys: Tensor, tokens: Tensor, pixels: Tensor) -> Tensor:
        """Attend from (N, P, 256), with the position added as in the keys, to (N, T, 256)."""
        k = split_heads(self.centred_keys(keys))  # (N, H, T, 16)
        folded = (k @ self.query_weight).flatten(1, 2)  # (N, H * T, 256)
        shift = (k @ self.query_bias).flatten(1)[:, None]  # (N, 1, H * T)
        return self.gather(pixels @ folded.transpose(1, 2) + shift, tokens)


def _softmax_of_pixels(scores: Tensor) -> Tensor:
    """Turn scores (N, P, H * T) into weights (N, H * T, P).

    Along the last axis 4,096 values are added with an error of 1e-7, along another with 5e-5.
    """
    return scores.transpose(1, 2).softmax(dim=-1)


def _same_head(heads: int, rows: int, columns: int) -> Tensor:
    """Return (heads * rows, heads * columns): one where both belong to the same head, else zero."""
    return torch.eye(heads).repeat_interleave(rows, 0).repeat_interleave(columns, 1)


def _by_head(x: Tensor, own_columns: Tensor) -> Tensor:
    """Turn (N, T, 128) into (N, 128, H * T), zero where a channel is of another head."""
    return x.transpose(1, 2).repeat(1, 1, HEADS) * own_columns


def _by_output_head(layer: nn.Linear) -> Tensor:
    return layer.weight.detach().unflatten(0, (HEADS, -1)).clone()  # (H, 16, 256)
