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

from training.quantization import QuantMatMul
from training.tiny_vit import Attention, TinyViTBlock, attend_in_windows, to_image, to_tokens


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
        self.proj = without_input_quant(trained.proj)

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
        mixed = self.mixed_quant(self.softmax_quant(weights) @ v)
        return self.proj(mixed.transpose(1, 2).flatten(2))

    def _by_head(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)  # (windows, heads, tokens, C)


class ExportBlock(nn.Module):
    """A `TinyViTBlock` with `SplitAttention`, which quantizes tokens before they are an image."""

    def __init__(self, trained: TinyViTBlock) -> None:
        super().__init__()
        self.window = trained.window
        self.attn = SplitAttention(trained.attn)
        self.conv_quant = _input_quant(trained.local_conv)
        self.local_conv = without_input_quant(trained.local_conv)
        self.mlp = trained.mlp

    def forward(self, x: Tensor, hw: tuple[int, int]) -> Tensor:
        """Compute (B, H * W, C) as the trained block does."""
        x = x + attend_in_windows(self.attn, x.unflatten(1, hw), self.window)
        x = to_tokens(self.local_conv(to_image(self.conv_quant(x), hw)))
        return x + self.mlp(x)


def use_export_layers(module: nn.Module) -> None:
    """Replace every trained block below a module, in place."""
    for name, child in module.named_children():
        if isinstance(child, TinyViTBlock):
            setattr(module, name, ExportBlock(child))
        else:
            use_export_layers(child)


def without_input_quant(layer: nn.Module) -> nn.Module:
    """Return a layer that takes an input which has been quantized; a float one as it is."""
    options: dict[str, Any] = {"return_quant_tensor": False}
    if isinstance(layer, qnn.QuantLinear):
        options["weight_quant"] = layer.weight_quant.quant_injector
        bare = qnn.QuantLinear(layer.in_features, layer.out_features, **options)
    elif isinstance(layer, qnn.QuantConv2d):
        options["weight_quant"] = layer.weight_quant.quant_injector
        bare = qnn.QuantConv2d(
            layer.in_channels,
            layer.out_channels,
            layer.kernel_size,
            stride=layer.stride,
            padding=layer.padding,
            groups=layer.groups,
            **options,
        )
    else:
        return layer
    with torch.no_grad():
        bare.weight.copy_(layer.weight)
        bare.bias.copy_(layer.bias)
    return bare.eval()


def _input_quant(layer: nn.Module) -> nn.Module:
    is_quantized = isinstance(layer, qnn.QuantLinear | qnn.QuantConv2d)
    return Quantize(layer.input_quant) if is_quantized else nn.Identity()


def _factor_quants(product: nn.Module) -> tuple[nn.Module, nn.Module]:
    if isinstance(product, QuantMatMul):
        return product.left, product.right
    return nn.Identity(), nn.Identity()


def _rows(qkv: nn.Linear, heads: int, part: int) -> nn.Linear:
    """Return the layer of the queries, keys or values, which the checkpoint keeps head by head."""
    outputs = qkv.out_features // 3
    layer: nn.Linear
    if isinstance(qkv, qnn.QuantLinear):
        layer = qnn.QuantLinear(
            qkv.in_features,
            outputs,
            weight_quant=qkv.weight_quant.quant_injector,
            return_quant_tensor=False,
        )
    else:
        layer = nn.Linear(qkv.in_features, outputs)
    with torch.no_grad():
        for target, source in ((layer.weight, qkv.weight), (layer.bias, qkv.bias)):
            by_head = source.unflatten(0, (heads, 3, -1))
            target.copy_(by_head[:, part].flatten(0, 1))
    return layer.eval()
