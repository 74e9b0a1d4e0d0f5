"""The quantized network: every op of encoder and decoder replaced by Brevitas' layers.

The definition of the network stays the float one; `quantize_network` walks it and swaps its
convolutions, linear layers and matrix ops of two activations. Norms, softmax, biases, residual sums
and the prompt encoder stay float. Ranges are empty until `calibration` sets them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from brevitas import nn as qnn
from brevitas.core.zero_point import ParameterZeroPoint
from brevitas.inject import ExtendedInjector
from brevitas.inject.enum import RestrictValueType, ScalingImplType
from brevitas.proxy import ActQuantProxyFromInjector
from brevitas.quant import (
    Int8ActPerTensorFloat,
    Int8WeightPerChannelFloat,
    Int8WeightPerTensorFloat,
    ShiftedUint8ActPerTensorFloat,
    Uint8ActPerTensorFloat,
)
from torch import Tensor, nn

from training.networks.layers import MatMul, fold_batch_norm
from training.networks.network import PromptableNetwork
from training.quantization.config import PARTS, QuantConfig
from training.quantization.fake_quant import FusedIntQuant
from training.quantization.hard_swish import place_hard_swish

# The op of the softmax with the values, whose left side lies in 0 to 1.
SOFTMAX_OP = "mix"
# The depth-wise convolution behind an expansion and its GELU.
EXPANDED_DEPTHWISE = "conv2"


@dataclass(frozen=True)
class Quantizers:
    """Brevitas' recipes of a scheme.

    Attributes:
        layer_input: in front of convolutions and linear layers.
        factor: of a matrix op of two activations.
        softmax: of the weights of an attention.
        weight: of convolutions and linear layers.
        per_channel_depthwise: whether each channel that enters a depth-wise convolution behind
            an expansion has a scale of its own. Nothing is summed over channels there, and their
            ranges differ by three orders of magnitude; one scale for all costs the first of
            them a third of the embedding's variance.
    """

    layer_input: type[ExtendedInjector]
    factor: type[ExtendedInjector]
    softmax: type[ExtendedInjector]
    weight: type[ExtendedInjector]
    per_channel_depthwise: bool


class QuantMatMul(nn.Module):
    """Product of two quantized activations."""

    def __init__(self, left: type[ExtendedInjector], right: type[ExtendedInjector]) -> None:
        super().__init__()
        self.left = qnn.QuantIdentity(act_quant=left, return_quant_tensor=False)
        self.right = qnn.QuantIdentity(act_quant=right, return_quant_tensor=False)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        """Multiply as `torch.matmul` does: (..., M, K) by (..., K, N)."""
        return torch.matmul(self.left(left), self.right(right))


def quantizers(config: QuantConfig) -> Quantizers:
    """Return the quantizers of a scheme."""
    shared: dict[str, Any] = {
        "int_quant": FusedIntQuant,
        "scaling_impl_type": ScalingImplType.PARAMETER,
        "scaling_init": 1.0,
        # The logarithm is learned: a step of the optimizer changes every scale by as many percent.
        "restrict_scaling_type": RestrictValueType.LOG_FP,
        "bit_width": config.activation_bits,
    }
    symmetric = Int8ActPerTensorFloat.let(**shared)
    if config.scheme == "paper":
        weight = Int8WeightPerTensorFloat.let(bit_width=config.weight_bits)
        return Quantizers(symmetric, symmetric, symmetric, weight, per_channel_depthwise=False)
    shifted = ShiftedUint8ActPerTensorFloat.let(
        **shared, zero_point_impl=ParameterZeroPoint, zero_point_init=0.0
    )
    weight = Int8WeightPerChannelFloat.let(bit_width=config.weight_bits)
    softmax = Uint8ActPerTensorFloat.let(**shared)
    return Quantizers(shifted, symmetric, softmax, weight, per_channel_depthwise=True)


def quantize_network(
    network: PromptableNetwork, config: QuantConfig, parts: Sequence[str] = PARTS
) -> None:
    """Swap the ops of parts of a network, in place, for quantized ones.

    Args:
        network: whose parts are float; their batch normalization is folded first where the scheme
            is `deploy`.
        config: the scheme and its bits.
        parts: names of the parts.
    """
    quant = quantizers(config)
    for part in parts:
        module = getattr(network, part)
        prepare_ops(module, config, part)
        _swap_ops(module, quant, set(network.mask_decoder.unused_parts()))
        for proxy in activation_quantizers(module).values():
            proxy.skip_create_quant_tensor = True  # plain tensors between the layers
    network.eval()  # a batch normalization that is left keeps its statistics


def prepare_ops(module: nn.Module, config: QuantConfig, part: str) -> None:
    """Bring a part, in place, to the ops that are quantized: norms folded, activations chosen."""
    if config.scheme == "deploy":
        fold_batch_norm(module)
    if config.activation == "hard_swish" and part == "image_encoder":
        place_hard_swish(module)


def activation_quantizers(module: nn.Module) -> dict[str, ActQuantProxyFromInjector]:
    """Return the quantizers of activations below a module by their names."""
    return {
        name: child
        for name, child in module.named_modules()
        if isinstance(child, ActQuantProxyFromInjector) and child.is_quant_enabled
    }


def tensor_quant(proxy: ActQuantProxyFromInjector) -> Any:
    """Return the part of a quantizer that holds scale, zero point and bit width."""
    return proxy.fused_activation_quant_proxy.tensor_quant


def quantizer_parameters(module: nn.Module) -> Iterator[nn.Parameter]:
    """Yield the learned scales and zero points of the activations below a module."""
    for proxy in activation_quantizers(module).values():
        yield from proxy.parameters()


def _swap_ops(module: nn.Module, quant: Quantizers, left_out: set[nn.Module]) -> None:
    for name, child in module.named_children():
        if child in left_out:
            continue
        swapped = _quantized(name, child, quant)
        if swapped is None:
            _swap_ops(child, quant, left_out)
        else:
            setattr(module, name, swapped)


def _quantized(name: str, child: nn.Module, quant: Quantizers) -> nn.Module | None:
    if isinstance(child, MatMul):
        left = quant.softmax if name == SOFTMAX_OP else quant.factor
        return QuantMatMul(left, quant.factor)
    options: dict[str, Any] = {
        "input_quant": quant.layer_input,
        "weight_quant": quant.weight,
        "return_quant_tensor": False,
    }
    layer: nn.Module
    if isinstance(child, nn.Linear):
        layer = qnn.QuantLinear(
            child.in_features, child.out_features, bias=child.bias is not None, **options
        )
    elif isinstance(child, nn.ConvTranspose2d):
        # OpenVINO runs it in int8 only without a zero point.
        options["input_quant"] = quant.factor
        layer = qnn.QuantConvTranspose2d(**conv_shape(child), **options)
    elif isinstance(child, nn.Conv2d):
        if quant.per_channel_depthwise and name == EXPANDED_DEPTHWISE and child.groups > 1:
            options["input_scaling_per_output_channel"] = True
            options["input_per_channel_broadcastable_shape"] = (1, child.in_channels, 1, 1)
        layer = qnn.QuantConv2d(**conv_shape(child), **options)
    else:
        return None
    # Brevitas' weight scales track the parameter object, so values are copied into its own.
    layer.load_state_dict(child.state_dict(), strict=False)
    return layer


def conv_shape(conv: nn.Conv2d | nn.ConvTranspose2d) -> dict[str, Any]:
    """Return the arguments that build a convolution of the same shape."""
    return {
        "in_channels": conv.in_channels,
        "out_channels": conv.out_channels,
        "kernel_size": conv.kernel_size,
        "stride": conv.stride,
        "padding": conv.padding,
        "groups": conv.groups,
        "bias": conv.bias is not None,
    }
