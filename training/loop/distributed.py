"""One process or several: `torchrun` sets the environment, everything else is the same code.

What one process knows and all need goes through here, so that they may be on several machines.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed

T = TypeVar("T")

# After which a machine is given up that is gone without a word; a step or a share of the
# validation takes less.
LONGEST_STEP = timedelta(minutes=30)
# The others wait while the first one makes the index of a large folder.
LONGEST_PREPARATION = timedelta(hours=12)


@dataclass(frozen=True)
class Rank:
    """Which process of how many this is.

    Attributes:
        number: 0 writes files and talks.
    """

    number: int
    world_size: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and talks."""
        return self.number == 0


@contextmanager
def join_processes() -> Iterator[Rank]:
    """Take part in what `torchrun` started, by NCCL on GPUs and gloo on CPUs; alone without it."""
    local = int(os.environ.get("LOCAL_RANK", "0"))
    has_gpu = torch.cuda.is_available()
    device = torch.device("cuda", local) if has_gpu else torch.device("cpu")
    if has_gpu:
        torch.cuda.set_device(device)
    if "RANK" not in os.environ:
        yield Rank(0, 1, device)
        return
    distributed.init_process_group("nccl" if has_gpu else "gloo", timeout=LONGEST_STEP)
    try:
        yield Rank(distributed.get_rank(), distributed.get_world_size(), device)
    finally:
        distributed.destroy_process_group()


def may_meet_those_before() -> bool:
    """Say whether processes that `torchrun` restarts may look for the ones before.

    By default all of them share one store (torch 2.13, pytorch/pytorch#135712), in which addresses
    outlive the processes; whoever reads an old one cannot connect.
    """
    is_shared = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    return is_shared and os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0") != "0"


def mean_over_processes(values: Tensor) -> Tensor:
    """Return the mean of a tensor over all processes."""
    if not distributed.is_initialized():
        return values
    distributed.all_reduce(values)
    return values / distributed.get_world_size()


def from_first(make: Callable[[], T], errors: tuple[type[Exception], ...] = ()) -> T:
    """Let the first process make something that can be pickled, and give it to all.

    Args:
        make: called by the first process alone.
        errors: kinds that are raised in all processes where `make` raises one.
    """
    if not distributed.is_initialized():
        return make()
    group = distributed.new_group(timeout=LONGEST_PREPARATION, backend="gloo")
    made: Any = None
    error: Any = None
    if distributed.get_rank() == 0:
        try:
            made = make()
        except errors as raised:
            error = raised
    told = [made, error]
    distributed.broadcast_object_list(told, src=0, group=group)
    made, error = told
    if error is not None:
        raise error
    result: T = made
    return result


def from_all(value: T) -> list[T]:
    """Return what each process has, in the order of their ranks."""
    if not distributed.is_initialized():
        return [value]
    values: list[T] = [value] * distributed.get_world_size()
    distributed.all_gather_object(values, value)
    return values


def wait_for_all() -> None:
    """Wait until every process has come here."""
    if distributed.is_initialized():
        distributed.barrier()
