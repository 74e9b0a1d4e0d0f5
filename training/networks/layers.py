"""Building blocks shared by the networks.

Every op that a quantized network replaces (convolution, linear, matrix op of two activations) is
a module of its own, so that one definition serves float and quantized: a conversion walks the
modules and swaps them. Parameter names follow the published checkpoints, which load strictly.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class MatMul(nn.Module):
    """Product of two activations; a module so that it can be swapped and observed."""

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        """Multiply as `torch.matmul` does: (..., M, K) by (..., K, N)."""
        return torch.matmul(left, right)


class ConvNorm(nn.Sequential):
    """Convolution without bias, then batch normalization (`c` and `bn` in the checkpoint)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel_size: int = 1,
        stride: int = 1,
        groups: int = 1,
    ) -> None:
        super().__init__()
        self.c = nn.Conv2d(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding=kernel_size // 2,
            groups=groups,
            bias=False,
        )
        self.bn = nn.BatchNorm2d(out_channels)

    @torch.no_grad()
    def folded(self) -> nn.Conv2d:
        """Return one convolution with bias that computes what this pair does in eval mode."""
        bn: Any = self.bn
        scale = bn.weight / torch.sqrt(bn.running_var + bn.eps)
        conv: Any = nn.Conv2d(
            self.c.in_channels,
            self.c.out_channels,
            self.c.kernel_size,  # type: ignore[arg-type]
            self.c.stride,  # type: ignore[arg-type]
            padding=self.c.padding,  # type: ignore[arg-type]
            groups=self.c.groups,
        )
        conv.weight.copy_(self.c.weight * scale[:, None, None, None])
        conv.bias.copy_(bn.bias - bn.running_mean * scale)
        folded: nn.Conv2d = conv
        return folded


class LayerNorm2d(nn.Module):
    """Layer normalization over the channels of (B, C, H, W)."""

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        centred = x - x.mean(1, keepdim=True)
        variance = centred.pow(2).mean(1, keepdim=True)
        normed = centred / torch.sqrt(variance + self.eps)
        return self.weight[:, None, None] * normed + self.bias[:, None, None]


def fold_batch_norm(module: nn.Module) -> None:
    """Replace every `ConvNorm` below `module`, in place, by one convolution with bias."""
    for name, child in module.named_children():
        if isinstance(child, ConvNorm):
            setattr(module, name, child.folded())
        else:
            fold_batch_norm(child)


def split_windows(x: Tensor, size: int) -> Tensor:
    """Cut (B, H, W, C), H and W multiples of `size`, into (B * windows, size, size, C)."""
    batch, height, width, channels = x.shape
    x = x.view(batch, height // size, size, width // size, size, channels)
    return x.transpose(2, 3).reshape(-1, size, size, channels)


def join_windows(windows: Tensor, height: int, width: int) -> Tensor:
    """Undo `split_windows`: (B * windows, size, size, C) to (B, height, width, C)."""
    size, channels = windows.shape[1], windows.shape[-1]
    x = windows.reshape(-1, height // size, width // size, size, size, channels)
    return x.transpose(2, 3).reshape(-1, height, width, channels)
