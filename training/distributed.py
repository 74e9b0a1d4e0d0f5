"""One process or several: `torchrun` sets the environment, everything else is the same code."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor, distributed


@dataclass(frozen=True)
class Place:
    """Which process of how many this is.

    Attributes:
        rank: 0 writes files and talks.
    """

    rank: int
    world_size: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and talks."""
        return self.rank == 0


@contextmanager
def join_processes() -> Iterator[Place]:
    """Take part in what `torchrun` started, by NCCL on GPUs and gloo on CPUs; alone without it."""
    local = int(os.environ.get("LOCAL_RANK", "0"))
    has_gpu = torch.cuda.is_available()
    device = torch.device("cuda", local) if has_gpu else torch.device("cpu")
    if has_gpu:
        torch.cuda.set_device(device)
    if "RANK" not in os.environ:
        yield Place(0, 1, device)
        return
    # The others wait while the first one makes the index of a large folder or judges an epoch.
    distributed.init_process_group("nccl" if has_gpu else "gloo", timeout=timedelta(hours=12))
    try:
        yield Place(distributed.get_rank(), distributed.get_world_size(), device)
    finally:
        distributed.destroy_process_group()


def mean_over_processes(values: Tensor) -> Tensor:
    """Return the mean of a tensor over all processes."""
    if not distributed.is_initialized():
        return values
    distributed.all_reduce(values)
    return values / distributed.get_world_size()


def wait_for_all() -> None:
    """Wait until every process has come here."""
    if distributed.is_initialized():
        distributed.barrier()
