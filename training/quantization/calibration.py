"""Good ranges to start training from, found on a few images with the float network.

Three steps, each optional but the second: the spread of the channels behind a layer normalization
moves into the weights (SmoothQuant, Xiao et al., ICML 2023), each quantizer of an activation gets
the range that suits its values, and what rounding adds to a layer's mean goes off its bias.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, TextIO

import torch
from brevitas import nn as qnn
from brevitas.proxy import ActQuantProxyFromInjector
from torch import Tensor, nn

from training.networks import tiny_vit
from training.networks.network import PromptableNetwork
from training.pace import Pace
from training.quantization.config import PARTS, QuantConfig
from training.quantization.hard_swish import fit_hard_swish
from training.quantization.quantize import (
    activation_quantizers,
    quantize_network,
    tensor_quant,
)

# Values kept of each tensor of each image, shared among its scales where there are several.
SAMPLE = 16384
# Shares of the full range that `mse` tries.
RANGE_SHARES = torch.linspace(0.2, 1.0, 33)
SMALLEST_RANGE = 1e-6
LAYERS_WITH_BIAS = (qnn.QuantConv2d, qnn.QuantLinear, qnn.QuantConvTranspose2d)
Images = Sequence[tuple[Tensor, Tensor]]


def quantize_and_calibrate(
    network: PromptableNetwork,
    config: QuantConfig,
    images: Images,
    parts: Sequence[str] = PARTS,
    progress: TextIO | None = None,
) -> None:
    """Quantize parts of a network in place and set their ranges.

    Args:
        network: in eval mode; other parts may be quantized already.
        config: scheme, bits and how ranges start.
        images: pairs of an image (1, 3, S, S) and its boxes (N, 4) in the model frame.
        parts: as in `quantize_network`.
        progress: where is told how far it is; see `Pace`.
    """
    fits = config.activation == "hard_swish" and "image_encoder" in parts
    smooths = config.smoothing > 0 and "image_encoder" in parts
    passes = fits + smooths + len(parts) * (1 + config.correct_biases)
    pace = Pace(passes * len(images), progress, "Calibration, image")
    run = partial(_run, network, images, pace)
    if fits:
        fit_hard_swish(network.image_encoder, run)
    if smooths:
        smooth(network, config.smoothing, run)
    quantize_network(network, config, parts)
    for part in parts:
        set_ranges(getattr(network, part), config, run)
        if config.correct_biases:
            correct_biases(getattr(network, part), run)
    pace.close()


@torch.no_grad()
def set_ranges(network: nn.Module, config: QuantConfig, run: Callable[[], None]) -> None:
    """Set scale and zero point of each quantizer of an activation.

    Args:
        network: quantized, or a part of it.
        config: how a range is chosen.
        run: runs the whole network on the images to calibrate with.
    """
    proxies = activation_quantizers(network)
    with _disabled(proxies.values()):
        seen = observe(proxies, run)
    for name, values in seen.items():
        proxy = proxies[name]
        set_range(proxy, *choose_range(values, config, is_signed=bool(proxy.is_signed)))


@torch.no_grad()
def observe(
    proxies: Mapping[str, ActQuantProxyFromInjector], run: Callable[[], None]
) -> dict[str, Tensor]:
    """Return a sample of the values that enter each quantizer while `run` runs.

    Returns:
        (values, scales) by name; the extremes of each image are among the values.
    """
    seen: dict[str, list[Tensor]] = {}
    generator = torch.Generator().manual_seed(0)

    def keep(name: str, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        channels = tensor_quant(module).scaling_impl.value.numel()
        values = inputs[0].detach().float()
        values = values.movedim(1, -1).flatten(0, -2) if channels > 1 else values.reshape(-1, 1)
        chosen = torch.randint(len(values), (SAMPLE // channels,), generator=generator)
        seen.setdefault(name, []).append(
            torch.cat([values.amin(0)[None], values.amax(0)[None], values[chosen]])
        )

    hooks = [
        proxy.register_forward_pre_hook(partial(keep, name)) for name, proxy in proxies.items()
    ]
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()
    return {name: torch.cat(values) for name, values in seen.items()}


def choose_range(values: Tensor, config: QuantConfig, *, is_signed: bool) -> tuple[Tensor, Tensor]:
    """Return the lowest and highest value that a quantizer should tell apart.

    Args:
        values: (values, scales), a sample for each scale.
        config: the method and the bits.
        is_signed: whether the range is symmetric about zero; else it only has to hold zero.

    Returns:
        low and high, (scales,) each.
    """
    low, high = _cut(values, config.percentile if config.ranges == "percentile" else 100.0)
    if is_signed:
        high = torch.maximum(-low, high)
        low = -high
    if config.ranges == "percentile":
        return low, high
    highest_step = 2**config.activation_bits - 1
    # The positive half of a signed range is one step short (Brevitas).
    divisor = highest_step + is_signed
    candidates = [(low * a, high * b) for a, b in _shares(is_symmetric=is_signed)]
    errors = torch.stack(
        [_rounding_error(values, *limits, divisor, highest_step) for limits in candidates]
    )
    best = errors.argmin(0).tolist()
    columns = range(len(best))
    lowest, highest = (
        torch.stack(
            [candidates[row][side][column] for row, column in zip(best, columns, strict=True)]
        )
        for side in (0, 1)
    )
    return lowest, highest


def _shares(*, is_symmetric: bool) -> list[tuple[float, float]]:
    shares = RANGE_SHARES.tolist()
    if is_symmetric:
        return [(share, share) for share in shares]
    return [(a, b) for a in shares[::4] for b in shares[::2]]


def _cut(values: Tensor, percentile: float) -> tuple[Tensor, Tensor]:
    tail = (100 - percentile) / 100
    ordered = values.sort(0).values
    last = len(ordered) - 1
    low, high = ordered[round(last * tail)], ordered[round(last * (1 - tail))]
    return low.clamp_max(0), high.clamp_min(0)


def _rounding_error(
    values: Tensor, low: Tensor, high: Tensor, divisor: int, highest_step: int
) -> Tensor:
    scale = (high - low).clamp_min(SMALLEST_RANGE) / divisor
    offset = torch.round(-low / scale)
    steps = torch.clamp(torch.round(values / scale) + offset, 0, highest_step)
    return ((steps - offset) * scale - values).square().mean(0)


@torch.no_grad()
def set_range(proxy: ActQuantProxyFromInjector, low: Tensor, high: Tensor) -> None:
    """Make a quantizer tell values from `low` to `high` apart, (scales,) each; zero is exact."""
    quant = tensor_quant(proxy)
    # Brevitas keeps the logarithm of the range's extent, or of its signed half.
    extent = (high if proxy.is_signed else high - low).clamp_min(SMALLEST_RANGE)
    value = quant.scaling_impl.value
    value.copy_(extent.log2().reshape(value.shape))
    zero_point = getattr(quant.zero_point_impl, "value", None)
    if zero_point is not None:
        zero_point.copy_((-low).reshape(zero_point.shape))


@torch.no_grad()
def smooth(network: PromptableNetwork, exponent: float, run: Callable[[], None]) -> None:
    """Divide the channels behind each layer normalization that feeds one linear layer only.

    What the network computes stays the same: the linear layer's weights are multiplied by what
    the normalization's are divided by.

    Args:
        network: float, in eval mode.
        exponent: how much of the spread moves, 0 to 1.
        run: runs the whole network on the images to calibrate with.
    """
    pairs = dict(_normalized_linears(network.image_encoder))
    peaks: dict[str, Tensor] = {}

    def keep(name: str, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        peak = output.detach().float().abs().flatten(0, -2).amax(0)
        peaks[name] = torch.maximum(peaks.get(name, peak), peak)

    hooks = [norm.register_forward_hook(partial(keep, name)) for name, (norm, _) in pairs.items()]
    run()
    for hook in hooks:
        hook.remove()
    for name, (norm, linear) in pairs.items():
        weight_peak = linear.weight.abs().amax(0).clamp_min(SMALLEST_RANGE)
        peak = peaks[name].clamp_min(SMALLEST_RANGE)
        divisor = peak**exponent / weight_peak ** (1 - exponent)
        divisor = divisor / divisor.log().mean().exp()
        norm.weight.div_(divisor)
        norm.bias.div_(divisor)
        linear.weight.mul_(divisor)


def _normalized_linears(encoder: nn.Module) -> Iterator[tuple[str, tuple[nn.LayerNorm, nn.Linear]]]:
    for name, module in encoder.named_modules():
        if isinstance(module, tiny_vit.Attention):
            yield name, (module.norm, module.qkv)
        elif isinstance(module, tiny_vit.MLP):
            yield name, (module.norm, module.fc1)


@torch.no_grad()
def correct_biases(network: nn.Module, run: Callable[[], None]) -> None:
    """Take what rounding adds to the mean of each output channel off the layer's bias.

    Each layer is compared with its float self on the input that reaches it in the quantized
    network. Brevitas' own correction takes the second axis of a linear layer's output for its
    channels, which here is a row of pixels.

    Args:
        network: quantized and with ranges, or a part of it.
        run: runs the whole network on the images to calibrate with.
    """
    errors: dict[nn.Module, list[Tensor]] = {}

    def compare(layer: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        quantizers = [layer.input_quant, layer.weight_quant]
        with _disabled(quantizers):
            error = (output - layer.forward(*inputs)).float()
        axis = -1 if isinstance(layer, nn.Linear) else 1
        errors.setdefault(layer, []).append(error.transpose(axis, -1).flatten(0, -2).mean(0))

    layers = [
        module
        for module in network.modules()
        if isinstance(module, LAYERS_WITH_BIAS) and module.bias is not None
    ]
    hooks = [layer.register_forward_hook(compare) for layer in layers]
    run()
    for hook in hooks:
        hook.remove()
    layer: Any
    for layer, means in errors.items():
        layer.bias.sub_(torch.stack(means).mean(0))


@contextmanager
def _disabled(proxies: Iterable[Any]) -> Iterator[None]:
    changed = list(proxies)
    for proxy in changed:
        proxy.disable_quant = True
    try:
        yield
    finally:
        for proxy in changed:
            proxy.disable_quant = False


@torch.no_grad()
def _run(network: PromptableNetwork, images: Images, pace: Pace) -> None:
    for image, boxes in images:
        network(image, boxes)
        pace.advance("of all passes")
