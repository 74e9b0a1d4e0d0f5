"""Layers that compute what the trained ones do, in a form that inference engines run faster.

Only an export uses them, on a copy of the network; parameters are those of the trained layers.
Each activation is quantized right where it is made, so that the engine stores it in 8 bits.
"""

from __future__ import annotations

from typing import Any

import torch
from brevitas import nn as qnn
from brevitas.proxy import ActQuantProxyFromInjector
from brevitas.quant_tensor import QuantTensor
from torch import Tensor, nn
from torch.nn import functional as F

from training.networks.layers import LayerNorm2d
from training.networks.tiny_vit import (
    Attention,
    BasicLayer,
    TinyViT,
    TinyViTBlock,
    attend_in_windows,
    to_image,
    to_tokens,
)
from training.quantization.quantize import QuantMatMul, conv_shape

EVEN_BIAS = 2.0**-6  # any number but zero, small enough not to cost digits


class Quantize(nn.Module):
    """The quantizer of a layer's input, to be used apart from the layer."""

    def __init__(self, proxy: ActQuantProxyFromInjector) -> None:
        super().__init__()
        self.proxy = proxy

    def forward(self, x: Tensor) -> Tensor:
        """Return x, rounded."""
        rounded = self.proxy(x)
        return rounded.value if isinstance(rounded, QuantTensor) else rounded


class SplitAttention(nn.Module):
    """Window attention with a linear layer each for queries, keys and values.

    The scale of the queries moves into their weights, the biases of the distances are looked up
    once, and the affine part of the normalization follows the padding, which keeps to zero.

    Args:
        trained: whose weights per output channel, if quantized, are not changed by being split.
    """

    distance_bias: Tensor

    def __init__(self, trained: Attention) -> None:
        super().__init__()
        self.heads = trained.heads
        self.norm = trained.norm
        self.input_quant = _input_quant(trained.qkv)
        self.q, self.k, self.v = (_rows(trained.qkv, self.heads, part) for part in range(3))
        with torch.no_grad():
            self.q.weight.mul_(trained.scale)
            self.q.bias.mul_(trained.scale)
            bias = trained.attention_biases[:, trained.bias_index]
        self.register_buffer("distance_bias", bias.detach().clone())
        self.q_quant, self.k_quant = _factor_quants(trained.scores)
        self.softmax_quant, self.v_quant = _factor_quants(trained.mix)
        self.mixed_quant = _input_quant(trained.proj)
        self.proj = bare_layer(trained.proj)

    def prepare(self, x: Tensor, *, below: int, right: int) -> Tensor:
        """Pad and normalize as `Attention.prepare` does, and quantize."""
        normed = F.layer_norm(x.flatten(1, 2), x.shape[-1:], eps=self.norm.eps).view(x.shape)
        padded = F.pad(normed, (0, 0, 0, right, 0, below))
        return self.input_quant(padded * self.norm.weight + self.norm.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Attend inside windows of prepared pixels, (windows, tokens, channels)."""
        q = self._by_head(self.q_quant(self.q(x)))
        k = self._by_head(self.k_quant(self.k(x)))
        v = self._by_head(self.v_quant(self.v(x)))
        weights = (q @ k.transpose(-2, -1) + self.distance_bias).softmax(dim=-1)
        # Quantized once the heads are joined: before, OpenVINO would move the values in 8 bits, one
        # by one, which takes 6 of the encoder's 167 ms.
        mixed = (self.softmax_quant(weights) @ v).transpose(1, 2).flatten(2)
        return self.proj(self.mixed_quant(mixed))

    def _by_head(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)  # (windows, heads, tokens, C)


class ExportBlock(nn.Module):
    """A `TinyViTBlock` with `SplitAttention`, which quantizes tokens before they are an image.

    Half of the convolution's bias is added to the tokens. Both the sum and the normalization read
    these, and OpenVINO takes a convolution's output for tokens without a copy only for one reader.
    """

    conv_bias: Tensor

    def __init__(self, trained: TinyViTBlock) -> None:
        super().__init__()
        self.window = trained.window
        self.attn = SplitAttention(trained.attn)
        self.conv_quant = _input_quant(trained.local_conv)
        self.local_conv, bias = with_half_bias(bare_layer(trained.local_conv))
        self.register_buffer("conv_bias", bias)
        self.mlp = trained.mlp

    def forward(self, x: Tensor, hw: tuple[int, int]) -> Tensor:
        """Compute (B, H * W, C) as the trained block does."""
        x = x + attend_in_windows(self.attn, x.unflatten(1, hw), self.window)
        x = to_tokens(self.local_conv(to_image(self.conv_quant(x), hw))) + self.conv_bias
        return x + self.mlp(x)


class ExportBasicLayer(nn.Module):
    """A `BasicLayer` of `ExportBlock`s, which adds half the bias of the convolution before it.

    Args:
        trained: of tokens.
        bias: (C,), which that convolution no longer has.
        quant: of the input of the convolution after it, which no longer has it.
    """

    bias: Tensor
    blocks: nn.ModuleList

    def __init__(self, trained: BasicLayer, bias: Tensor, quant: nn.Module) -> None:
        super().__init__()
        self.quant = quant
        self.register_buffer("bias", bias)
        blocks: Any = trained.blocks
        self.blocks = nn.ModuleList(ExportBlock(block) for block in blocks)
        self.downsample = trained.downsample

    def forward(self, x: Tensor) -> Tensor:
        """Compute (B, C, H, W) as the trained layer does."""
        hw = (x.shape[2], x.shape[3])
        x = to_tokens(x) + self.bias  # (B, H * W, C)
        for block in self.blocks:
            x = block(x, hw)
        x = to_image(self.quant(x), hw)  # (B, C, H, W)
        return x if self.downsample is None else self.downsample(x)


class ExportNeck(nn.Module):
    """The neck of an encoder, which normalizes tokens and not images: their channels lie together.

    Args:
        trained: whose first convolution takes what has been quantized before.
    """

    norm1: LayerNorm2d
    norm2: LayerNorm2d

    def __init__(self, trained: nn.Sequential) -> None:
        super().__init__()
        parts: Any = trained
        conv1, self.norm1, conv2, self.norm2 = parts
        self.quant = _input_quant(conv2)
        self.conv1, self.conv2 = (with_even_bias(bare_layer(conv)) for conv in (conv1, conv2))

    def forward(self, x: Tensor) -> Tensor:
        """Compute (B, C, H, W) as the trained neck does."""
        hw = (x.shape[2], x.shape[3])
        tokens = self.quant(_normalized(to_tokens(self.conv1(x)), self.norm1))
        tokens = _normalized(to_tokens(self.conv2(to_image(tokens, hw))), self.norm2)
        return to_image(tokens, hw)


def use_export_layers(encoder: TinyViT) -> None:
    """Replace the layers of tokens and the neck, in place; batch normalization must be folded."""
    layers: Any = encoder.layers
    neck: Any = encoder.neck
    for index in range(1, len(layers)):
        merging = layers[index - 1].downsample
        merging.conv3, bias = with_half_bias(merging.conv3)
        layer = layers[index]
        owner, name = (neck, "0") if layer.downsample is None else (layer.downsample, "conv1")
        following = getattr(owner, name)
        setattr(owner, name, bare_layer(following))
        layers[index] = ExportBasicLayer(layer, bias, _input_quant(following))
    encoder.neck = ExportNeck(neck)  # type: ignore[assignment]


@torch.no_grad()
def with_half_bias(layer: Any) -> tuple[nn.Module, Tensor]:
    """Halve the bias of a layer, in place, and return the layer and the other half, (C,).

    Without any bias OpenVINO would not rescale the sums of 8-bit products inside the layer.
    """
    layer.bias.div_(2)
    return layer, layer.bias.detach().clone()


@torch.no_grad()
def with_even_bias(layer: Any) -> nn.Module:
    """Give a layer without bias the same one for all channels, which normalization takes away.

    The reason is that of `with_half_bias`.
    """
    layer.bias = nn.Parameter(torch.full((layer.out_channels,), EVEN_BIAS))
    return layer


def bare_layer(layer: Any) -> nn.Module:
    """Return a convolution or linear layer whose input, if at all, is quantized before it."""
    is_linear = isinstance(layer, nn.Linear)
    kind: Any
    options: dict[str, Any] = {"bias": layer.bias is not None}
    if _is_quantized(layer):
        options["weight_quant"] = layer.weight_quant.quant_injector
        options["return_quant_tensor"] = False
        kind = qnn.QuantLinear if is_linear else qnn.QuantConv2d
    else:
        kind = nn.Linear if is_linear else nn.Conv2d
    if is_linear:
        bare = kind(layer.in_features, layer.out_features, **options)
    else:
        bare = kind(**conv_shape(layer) | options)
    with torch.no_grad():
        bare.weight.copy_(layer.weight)
        if layer.bias is not None:
            bare.bias.copy_(layer.bias)
    return bare.eval()


def _normalized(tokens: Tensor, norm: LayerNorm2d) -> Tensor:
    return F.layer_norm(tokens, tokens.shape[-1:], norm.weight, norm.bias, norm.eps)


def _is_quantized(layer: nn.Module) -> bool:
    return isinstance(layer, qnn.QuantLinear | qnn.QuantConv2d)


def _input_quant(layer: Any) -> nn.Module:
    return Quantize(layer.input_quant) if _is_quantized(layer) else nn.Identity()


def _factor_quants(op: nn.Module) -> tuple[nn.Module, nn.Module]:
    if isinstance(op, QuantMatMul):
        return op.left, op.right
    return nn.Identity(), nn.Identity()


def _rows(qkv: Any, heads: int, part: int) -> nn.Linear:
    """Return the layer of the queries, keys or values, which the checkpoint keeps head by head."""
    options: dict[str, Any] = {}
    kind: type[nn.Linear] = nn.Linear
    if _is_quantized(qkv):
        kind = qnn.QuantLinear
        options = {"weight_quant": qkv.weight_quant.quant_injector, "return_quant_tensor": False}
    layer = kind(qkv.in_features, qkv.out_features // 3, **options)
    with torch.no_grad():
        for target, source in ((layer.weight, qkv.weight), (layer.bias, qkv.bias)):
            by_head = source.unflatten(0, (heads, 3, -1))
            target.copy_(by_head[:, part].flatten(0, 1))
    return layer.eval()
