"""Optimizer, learning rate and the moving average of the weights of a stage."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from training.loop.recipe import OptimizerSettings, Recipe, RecipeError, ScheduleSettings
from training.networks.network import PromptableNetwork
from training.quantization.quantize import quantizer_parameters

Tensors = tuple[Tensor, ...] | list[Tensor]

FIRST_SHARE = 0.01
LAST_SHARE = 0.001


def choose_trained(network: PromptableNetwork, recipe: Recipe) -> None:
    """Let the parameters move that the recipe trains, and no others.

    Raises:
        RecipeError: a module to freeze is not in the network.
    """
    network.requires_grad_(False)
    for part in recipe.trained:
        getattr(network, part).requires_grad_(True)
    modules = dict(network.named_modules())
    for name in recipe.frozen:
        if name not in modules:
            raise RecipeError(f"Module {name!r} to freeze is not in the network")
        modules[name].requires_grad_(False)
    for module in network.mask_decoder.unused_parts():
        module.requires_grad_(False)
    if recipe.loss.quality and "mask_decoder" in recipe.trained:
        network.mask_decoder.iou_prediction_head.requires_grad_(True)


def build_optimizer(network: nn.Module, settings: OptimizerSettings) -> torch.optim.Optimizer:
    """Build the optimizer of all parameters that move."""
    ranges = {id(parameter) for parameter in quantizer_parameters(network)}
    moving = [parameter for parameter in network.parameters() if parameter.requires_grad]
    biases = {id(p) for name, p in network.named_parameters() if p.ndim <= 1 or "biases" in name}
    weights = [p for p in moving if id(p) not in ranges | biases]
    others = [p for p in moving if id(p) in biases - ranges]
    rate = settings.learning_rate
    groups: list[dict[str, Any]] = [
        {"params": weights, "weight_decay": settings.weight_decay},
        {"params": others, "weight_decay": 0.0},
        {
            "params": [p for p in moving if id(p) in ranges],
            "weight_decay": 0.0,
            "lr": rate * settings.range_rate,
        },
    ]
    groups = [group for group in groups if group["params"]]
    if settings.name == "adamw":
        return torch.optim.AdamW(groups, lr=rate)
    return torch.optim.SGD(groups, lr=rate, momentum=settings.momentum)


def damp_shared_ranges(network: PromptableNetwork, processes: int) -> None:
    """Give the encoder's ranges the gradients that one process with all images would give them.

    `FakeQuantize` divides those by the root of the values it sees, of which a process has its
    share. Other gradients are means over images, and the decoder sees one image at a time.
    """
    for parameter in quantizer_parameters(network.image_encoder):
        if parameter.grad is not None:
            parameter.grad /= math.sqrt(processes)


def rate_share(step: int, steps: int, schedule: ScheduleSettings) -> float:
    """Return the share of the learning rate at a step, 0.001 to 1.

    The epochs of the paper's schedule are stretched over the steps, so that the first step is at
    1 %, and the last one at 0.1 %. As there, a single epoch of warm-up is none, and a single one of
    annealing stays at 100 %.

    Args:
        step: from 0.
        steps: of the whole stage.
        schedule: epochs of warm-up and annealing.
    """
    epoch = step / max(steps - 1, 1) * (schedule.epochs - 1)
    rise, fall = schedule.warmup_epochs - 1, schedule.annealing_epochs - 1
    if epoch < rise:
        return FIRST_SHARE + (1 - FIRST_SHARE) * epoch / rise
    turn = (epoch - rise) / fall if fall else 0.0
    return LAST_SHARE + (1 - LAST_SHARE) * (1 + math.cos(math.pi * min(turn, 1.0))) / 2


def build_scheduler(
    optimizer: torch.optim.Optimizer, schedule: ScheduleSettings, steps: int
) -> LambdaLR:
    """Build what sets the learning rate of every group by `rate_share`.

    Not a `SequentialLR` of a line and a cosine: where epochs are stretched over steps, the one
    turns into the other between two of them.
    """
    return LambdaLR(optimizer, lambda step: rate_share(step, steps, schedule))


def build_ema(network: nn.Module, decay: float) -> AveragedModel:
    """Build the exponential moving average (EMA) of the weights of a network.

    It takes out of them what the last few images put in, and begins as a plain mean of what the
    network starts from and the weights after each step.

    Args:
        network: as the stage starts.
        decay: below 1.
    """

    @torch.no_grad()
    def update(means: Tensors, weights: Tensors, count: Tensor | int) -> None:
        number = int(count)
        get_ema_multi_avg_fn(min(decay, number / (number + 1)))(means, weights, count)

    ema = AveragedModel(network, multi_avg_fn=update)
    ema.update_parameters(network)  # the first time copies
    return ema
