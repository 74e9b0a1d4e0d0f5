"""Optimizer and learning rate of a stage."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from training.network import PromptableNetwork
from training.quantization import quantizer_parameters
from training.recipe import OptimizerSettings, Recipe, ScheduleSettings

FIRST_SHARE = 0.01
LAST_SHARE = 0.001


def choose_trained(network: PromptableNetwork, recipe: Recipe) -> None:
    """Let the parameters move that the recipe trains, and no others.

    Raises:
        ValueError: a module to freeze is not in the network.
    """
    network.requires_grad_(False)
    for part in recipe.trained:
        getattr(network, part).requires_grad_(True)
    modules = dict(network.named_modules())
    for name in recipe.frozen:
        if name not in modules:
            raise ValueError(f"Module {name!r} to freeze is not in the network")
        modules[name].requires_grad_(False)
    for module in network.mask_decoder.unused_parts():
        module.requires_grad_(False)


def build_optimizer(network: nn.Module, settings: OptimizerSettings) -> torch.optim.Optimizer:
    """Build the optimizer of all parameters that move."""
    ranges = {id(parameter) for parameter in quantizer_parameters(network)}
    moving = [parameter for parameter in network.parameters() if parameter.requires_grad]
    weights = [p for p in moving if p.ndim > 1 and id(p) not in ranges]
    others = [p for p in moving if p.ndim <= 1 and id(p) not in ranges]
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


def rate_share(step: int, steps: int, schedule: ScheduleSettings) -> float:
    """Return the share of the learning rate at a step, 0.001 to 1.

    The epochs of the paper's schedule are stretched over the steps, so that the first step is at
    1 %, and the last one at 0.1 %.

    Args:
        step: from 0.
        steps: of the whole stage.
        schedule: epochs of warm-up and annealing.
    """
    epoch = step / max(steps - 1, 1) * (schedule.epochs - 1)
    rise, fall = schedule.warmup_epochs - 1, schedule.annealing_epochs - 1
    if epoch < rise:
        return FIRST_SHARE + (1 - FIRST_SHARE) * epoch / rise
    turn = (epoch - rise) / fall if fall else 1.0
    return LAST_SHARE + (1 - LAST_SHARE) * (1 + math.cos(math.pi * min(turn, 1.0))) / 2


class RateSchedule:
    """Sets the learning rate of every group of an optimizer by `rate_share`."""

    def __init__(
        self, optimizer: torch.optim.Optimizer, schedule: ScheduleSettings, steps: int
    ) -> None:
        self._optimizer, self._schedule, self._steps = optimizer, schedule, steps
        self._highest = [group["lr"] for group in optimizer.param_groups]

    def set_step(self, step: int) -> float:
        """Set the rates of a step and return its share."""
        share = rate_share(step, self._steps, self._schedule)
        for group, highest in zip(self._optimizer.param_groups, self._highest, strict=True):
            group["lr"] = highest * share
        return share
