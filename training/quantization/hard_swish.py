"""A cheaper activation between convolutions for the model that ships: hard swish, not GELU.

In 8 bits the products are so quick that the error function of GELU takes a fifth of the encoder's
time, most of it where the resolution is high. x * clip(k x + 0.5, 0, 1), a hard swish of a scaled
input, comes close to it; k is chosen for each channel by the values that enter there, and moves
into the weights before and behind. What is left of the difference is for the training to make up.

The MLPs keep GELU. Hard swish there moves the embedding by 62 % of its mean square before
any training, against 2 % in the inverted bottlenecks and 8 % in the mergings (11 images).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.networks.layers import fold_batch_norm
from training.networks.tiny_vit import MBConv, PatchEmbed, PatchMerging

SAMPLE = 400  # values of each channel and image
SCALES = torch.logspace(0.1, 1.5, 34)


@dataclass(frozen=True)
class Activation:
    """A GELU between two convolutions.

    Attributes:
        owner: has it as its attribute `name`.
        before: makes what enters, by output channel.
        behind: takes what leaves, by input channel.
    """

    owner: nn.Module
    name: str
    before: nn.Module
    behind: nn.Module


def activations(encoder: nn.Module) -> Iterator[Activation]:
    """Yield the activations that lie between two convolutions; batch normalization is folded.

    That of a residual sum does not, and stays.
    """
    for module in encoder.modules():
        if isinstance(module, PatchEmbed):
            yield Activation(module.seq, "1", module.seq[0], module.seq[2])
        elif isinstance(module, MBConv | PatchMerging):
            yield Activation(module, "act1", module.conv1, module.conv2)
            yield Activation(module, "act2", module.conv2, module.conv3)


def place_hard_swish(encoder: nn.Module) -> None:
    """Put the activations in, in place; weights are left as they are."""
    for activation in activations(encoder):
        setattr(activation.owner, activation.name, nn.Hardswish())


@torch.no_grad()
def fit_hard_swish(encoder: nn.Module, run: Callable[[], None]) -> None:
    """Replace GELU in place, and rescale the weights around it.

    Args:
        encoder: float; its batch normalization is folded.
        run: runs it on some images.
    """
    fold_batch_norm(encoder)
    found = list(activations(encoder))
    seen: list[list[Tensor]] = [[] for _ in found]
    generator = torch.Generator().manual_seed(0)

    def keep(values: list[Tensor], layer: nn.Module, _: object, output: Tensor) -> None:
        by_channel = output.movedim(1, -1).flatten(0, -2)
        values.append(by_channel[torch.randint(len(by_channel), (SAMPLE,), generator=generator)])

    hooks = [
        activation.before.register_forward_hook(partial(keep, values))
        for activation, values in zip(found, seen, strict=True)
    ]
    run()
    for hook in hooks:
        hook.remove()
    for activation, values in zip(found, seen, strict=True):
        move_scales(activation.before, activation.behind, best_scales(torch.cat(values)))
    place_hard_swish(encoder)


def best_scales(values: Tensor) -> Tensor:
    """Return for each channel the scale k with which hardswish(k x) / k is closest to GELU.

    Args:
        values: (values, channels), a sample of what enters.
    """
    wanted = F.gelu(values)
    errors = [(F.hardswish(values * k) / k - wanted).square().mean(0) for k in SCALES]
    return SCALES[torch.stack(errors).argmin(0)]


@torch.no_grad()
def move_scales(before: Any, behind: Any, scales: Tensor) -> None:
    """Let a layer put out so many times as much in each channel, and the next one undo it.

    Args:
        before: a convolution or a linear layer.
        behind: what takes what leaves the activation between them.
        scales: (channels,).
    """
    before.weight.mul_(scales.reshape(-1, *[1] * (before.weight.ndim - 1)))
    before.bias.mul_(scales)
    is_depthwise = behind.weight.shape[1] == 1 and len(scales) > 1
    shape = (-1, 1) if is_depthwise else (1, -1)
    behind.weight.div_(scales.reshape(*shape, *[1] * (behind.weight.ndim - 2)))
