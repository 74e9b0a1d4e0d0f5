"""The mask decoder as it is exported in float: the same function by exact algebra, much quicker.

(But for a pixel two of whose scores are more than 80 above the mean of their head's, whose
exponentials float32 could not add: these tokens share its weight.)

Seven tokens a box, T, meet 4,096 pixels, P, so that everything done to pixels is dear and
everything done to tokens is not. Therefore

- projections of the pixels move to the tokens: scores are (q Wk) by the pixels instead of q by
  (pixels Wk), and what pixels gather is softmax by (v Wo) instead of (softmax v) Wo;
- what the first layer makes of the pixels is the same for all boxes of an image, and computed once;
- of the last attention only the token of the one mask is computed, and that of its quality;
- the normalization of pixels leaves scale and shift to whatever reads them;
- the transposed convolutions of stride 2 are linear layers of each pixel, and run on a crop of
  the pixels only.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.graphs.folded_attention import (
    FirstImageToTokenAttention,
    FirstTokenToImageAttention,
    ImageToTokenAttention,
    LastTokenToImageAttention,
    TokenToImageAttention,
)
from training.networks.layers import LayerNorm2d
from training.networks.network import PromptableNetwork
from training.networks.sam_heads import CHANNELS, WHOLE_HW, MaskDecoder, TwoWayBlock

QUALITY_TOKEN, MASK_TOKEN = 0, 1  # of the one mask that is used


class ImageTerms(nn.Module):
    """What the first layer reads of an image, whatever the boxes.

    Args:
        network: whose weights they are made of.
        pixels_hw: height and width of the embedding, of which P is the product.
    """

    no_mask: Tensor
    key_weight: Tensor
    key_shift: Tensor
    value_weight: Tensor
    value_shift: Tensor
    query_weight: Tensor
    query_shift: Tensor

    def __init__(self, network: PromptableNetwork, pixels_hw: tuple[int, int] = WHOLE_HW) -> None:
        super().__init__()
        first: Any = network.mask_decoder.transformer.layers[0]
        reads, writes = first.cross_attn_token_to_image, first.cross_attn_image_to_token
        with torch.no_grad():
            no_mask = network.prompt_encoder.no_mask_embed.weight  # (1, 256)
            position = network.prompt_encoder.dense_position_encoding(pixels_hw)
            located = position + no_mask  # (1, P, 256)
            self.register_buffer("no_mask", no_mask.clone())
            for name, layer, factor, added in (
                ("key", reads.k_proj, 1.0, located),
                ("value", reads.v_proj, 1.0, no_mask),
                ("query", writes.q_proj, writes.scale, located),
            ):
                self.register_buffer(f"{name}_weight", factor * layer.weight.T)  # (256, 128)
                self.register_buffer(f"{name}_shift", factor * layer(added))

    def forward(self, embedding: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Compute the terms of one image.

        Args:
            embedding: (1, P, 256), the image's embedding row by row.

        Returns:
            The pixels, (1, P, 256), and their keys, values and queries, (1, P, 128) each.
        """
        return (
            embedding + self.no_mask,
            embedding @ self.key_weight + self.key_shift,
            embedding @ self.value_weight + self.value_shift,
            embedding @ self.query_weight + self.query_shift,
        )


class FoldedDecoder(nn.Module):
    """Boxes and the terms of an image to logits inside a crop round each box, and their quality.

    Args:
        network: that is folded.
        pixels_hw: height and width of the embedding, of which P is the product.
    """

    first: TwoWayBlock
    second: TwoWayBlock
    scale: Tensor
    key_shift: Tensor

    def __init__(self, network: PromptableNetwork, pixels_hw: tuple[int, int] = WHOLE_HW) -> None:
        super().__init__()
        decoder = network.mask_decoder
        transformer = decoder.transformer
        self.prompt_encoder, self.decoder = network.prompt_encoder, decoder
        self.rates = network.rates
        layers: Any = transformer.layers
        self.first, self.second = layers
        scale, shift = (value.detach().clone() for value in _affine(self.first.norm4))
        last_scale, last_shift = _affine(self.second.norm4)
        position = network.prompt_encoder.dense_position_encoding(pixels_hw).detach()
        # The names of these five stand in the graphs of the models that ship.
        self.first_reading = FirstTokenToImageAttention(self.first.cross_attn_token_to_image)
        self.first_writing = FirstImageToTokenAttention(self.first.cross_attn_image_to_token)
        self.second_reading = TokenToImageAttention(
            self.second.cross_attn_token_to_image, scale, shift
        )
        self.second_writing = ImageToTokenAttention(self.second.cross_attn_image_to_token, shift)
        self.last_reading = LastTokenToImageAttention(
            transformer.final_attn_token_to_image,
            last_scale,
            shift=last_shift,
            position=position,
            tokens=2 if network.rates else 1,
        )
        self.norm_last = transformer.norm_final_attn
        self.upscaling = CropUpscaling(decoder, last_scale, last_shift)
        self.register_buffer("scale", scale)
        self.register_buffer("key_shift", shift + position)  # (1, P, 256)

    def forward(
        self,
        pixels: Tensor,
        keys: Tensor,
        values: Tensor,
        queries: Tensor,
        boxes: Tensor,
        crops: Tensor,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Decode N boxes.

        Args:
            pixels: (1, P, 256), of `ImageTerms`, as are the next three.
            keys: (1, P, 128).
            values: (1, P, 128).
            queries: (1, P, 128).
            boxes: (N, 4), xyxy, pixels of the model frame.
            crops: (N, h, w), which pixels of the embedding to decode, counted row by row.

        Returns:
            low_res_logits (N, 4 h, 4 w) and, where the network rates masks, their quality (N,).
        """
        position = self.decoder.tokens(self.prompt_encoder(boxes))  # (N, T, 256)
        tokens = self.first.attend_to_tokens(position, position)
        tokens = self.first.take_in(tokens, self.first_reading(tokens + position, keys, values))
        gathered = self.first_writing(tokens + position, tokens, queries)  # (N, P, 256)
        normed = _normalize(pixels + gathered, self.first.norm4.eps)

        keys = normed * self.scale + self.key_shift
        tokens = self.second.attend_to_tokens(tokens, position)
        found = self.second_reading(tokens + position, keys, normed)
        tokens = self.second.take_in(tokens, found)
        gathered = self.second_writing(tokens + position, tokens, keys)
        # Twice the sum: with its own constant this product is computed with the sum, in one pass
        # over memory, and not shared with that of the keys.
        doubled = normed * (2 * self.scale) + gathered
        normed = _normalize(doubled, 4 * self.second.norm4.eps)

        last = slice(QUALITY_TOKEN if self.rates else MASK_TOKEN, MASK_TOKEN + 1)
        found = self.last_reading(tokens[:, last] + position[:, last], normed)
        tokens = self.norm_last(tokens[:, last] + found)  # (N, 1 or 2, 256)
        weights = self.decoder.output_hypernetworks_mlps[0](tokens[:, -1:])  # (N, 1, 32)
        logits = self.upscaling(normed, weights, crops)
        return (logits, self.decoder.quality(tokens[:, 0])) if self.rates else logits


class CropUpscaling(nn.Module):
    """The two transposed convolutions and the product with a box's weights, on some pixels."""

    norm: LayerNorm2d
    first_weight: Tensor
    first_bias: Tensor
    second_weight: Tensor
    second_bias: Tensor

    def __init__(self, decoder: MaskDecoder, scale: Tensor, shift: Tensor) -> None:
        super().__init__()
        layers: Any = decoder.output_upscaling
        first, self.norm, _, second, _ = layers
        weight = _per_pixel(first)
        with torch.no_grad():
            bias = first.bias.repeat(4) + shift @ weight
            weight = weight * scale[:, None]
        self.register_buffer("first_weight", weight)  # (256, 4 * 64)
        self.register_buffer("first_bias", bias)
        self.register_buffer("second_weight", _per_pixel(second))  # (64, 4 * 32)
        self.register_buffer("second_bias", second.bias.detach().repeat(4))

    def forward(self, normed: Tensor, weights: Tensor, crops: Tensor) -> Tensor:
        """Upscale crops (N, h, w) of (N, P, 256) and weight by (N, 1, 32): (N, 4 h, 4 w)."""
        count, height, width = crops.shape
        rows = crops.flatten(1) + normed.shape[1] * torch.arange(count)[:, None]
        x = normed.flatten(0, 1)[rows.flatten()].view(count, -1, CHANNELS)  # (N, h * w, 256)
        x = (x @ self.first_weight + self.first_bias).view(count, -1, CHANNELS // 4)
        x = F.layer_norm(x, x.shape[-1:], self.norm.weight, self.norm.bias, self.norm.eps)
        x = F.gelu(F.gelu(x) @ self.second_weight + self.second_bias)  # (N, 4 h w, 4 * 32)
        logits = x.view(count, -1, CHANNELS // 8) @ weights.transpose(1, 2)
        # Of each pixel four by the first convolution, row by row, and of each of these four again.
        logits = logits.view(count, height, width, 2, 2, 2, 2)
        return logits.permute(0, 1, 3, 5, 2, 4, 6).reshape(count, 4 * height, 4 * width)


def _normalize(x: Tensor, eps: float) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], eps=eps)


def _affine(norm: nn.LayerNorm) -> tuple[Tensor, Tensor]:
    return norm.weight, norm.bias


def _per_pixel(layer: nn.ConvTranspose2d) -> Tensor:
    """Return (C, 4 C'), the weight of a transposed convolution of stride 2 on one pixel."""
    return layer.weight.detach().permute(0, 2, 3, 1).flatten(1)
