"""Optimizer, learning rate and running mean of a stage."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from training.loop.recipe import OptimizerSettings, Recipe, RecipeError, ScheduleSettings
from training.networks.network import PromptableNetwork
from training.quantization.quantize import quantizer_parameters

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


class RunningMean:
    """An exponential running mean of the parameters of a network that move.

    It takes out of the weights what the last few images put into them, and begins as a plain mean.

    Args:
        network: that is trained.
        decay: below 1; 0 makes the mean the weights themselves.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self._moving = [p for p in network.parameters() if p.requires_grad] if decay else []
        self._decay = decay
        self.means = [parameter.detach().clone() for parameter in self._moving]

    def load(self, means: Sequence[Tensor]) -> None:
        """Go on with what `means` was."""
        for mine, theirs in zip(self.means, means, strict=True):
            mine.copy_(theirs)

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take the weights after a step, counted from 0, into the mean."""
        share = max(1 - self._decay, 1 / (step + 2))
        for mean, parameter in zip(self.means, self._moving, strict=True):
            mean.lerp_(parameter, share)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Put the mean into the network for as long as the context lasts."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for mean, parameter in zip(self.means, self._moving, strict=True):
            kept = parameter.clone()
            parameter.copy_(mean)
            mean.copy_(kept)
