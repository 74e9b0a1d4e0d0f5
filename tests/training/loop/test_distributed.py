"""One process, alone or as the only one of its group; two are tested with the whole training."""

from __future__ import annotations

import socket

import pytest

pytest.importorskip("torch", reason="training/requirements.txt is not installed")

import torch
from torch import distributed

from training.loop.distributed import (
    Rank,
    from_all,
    from_first,
    join_processes,
    may_meet_those_before,
    mean_over_processes,
    wait_for_all,
)

pytestmark = pytest.mark.training

CPU = torch.device("cpu")
VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def group_of_one(monkeypatch):
    """Set what `torchrun` sets for the first of one process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for name, value in zip(VARIABLES, ("0", "1", "0", "127.0.0.1", str(port)), strict=True):
        monkeypatch.setenv(name, value)


def test_without_torchrun_a_process_is_alone():
    with join_processes() as rank:
        assert rank == Rank(number=0, world_size=1, device=CPU)
        assert not distributed.is_initialized()


def test_only_the_first_process_writes_files():
    assert Rank(0, 2, CPU).is_first
    assert not Rank(1, 2, CPU).is_first


def test_the_mean_of_a_process_alone_is_its_own():
    assert mean_over_processes(torch.tensor([1.0, 3.0])).tolist() == [1, 3]


def test_a_process_alone_is_the_first_and_all():
    assert from_first(lambda: {"step": 3}) == {"step": 3}
    assert from_all("mine") == ["mine"]


def refuse():
    raise OSError("No space left")


def test_a_process_alone_raises_its_own_errors():
    with pytest.raises(OSError, match="No space left"):
        from_first(refuse, (KeyError,))


def test_a_process_alone_does_not_wait():
    wait_for_all()


def test_a_group_is_joined_and_left(group_of_one):
    with join_processes() as rank:
        assert rank == Rank(number=0, world_size=1, device=CPU)
        assert distributed.get_backend() == "gloo"
        assert mean_over_processes(torch.tensor([1.0, 3.0])).tolist() == [1, 3]
        assert from_first(lambda: {"step": 3}) == {"step": 3}
        assert from_all("mine") == ["mine"]
        with pytest.raises(OSError, match="No space left"):
            from_first(refuse, (OSError,))
        wait_for_all()
    assert not distributed.is_initialized()


def test_a_group_is_left_when_the_work_fails(group_of_one):
    def work():
        with join_processes():
            raise KeyError(distributed.is_initialized())

    with pytest.raises(KeyError, match="True"):
        work()
    assert not distributed.is_initialized()


def test_the_mean_is_the_sum_over_the_number_of_processes(monkeypatch):
    def add_another_process(values):
        values += torch.tensor([3.0, 5.0])

    monkeypatch.setattr(distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed, "all_reduce", add_another_process)
    monkeypatch.setattr(distributed, "get_world_size", lambda: 2)
    assert mean_over_processes(torch.tensor([1.0, 3.0])).tolist() == [2, 4]


@pytest.mark.parametrize("error", [None, OSError("No space left")], ids=["made", "refused"])
def test_the_others_have_what_the_first_made_or_its_error(monkeypatch, error):
    def tell(told, **options):
        told[:] = [None if error else "made", error]

    monkeypatch.setattr(distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed, "get_rank", lambda: 1)
    monkeypatch.setattr(distributed, "new_group", lambda **options: None)
    monkeypatch.setattr(distributed, "broadcast_object_list", tell)
    if error is None:
        assert from_first(refuse) == "made"
    else:
        with pytest.raises(OSError, match="No space left"):
            from_first(refuse)


@pytest.mark.parametrize(
    ("shared", "restarts", "expected"),
    [("True", "3", True), ("True", "0", False), ("False", "3", False)],
)
def test_a_store_that_outlives_a_restart_is_seen(monkeypatch, shared, restarts, expected):
    assert not may_meet_those_before()
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", shared)
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", restarts)
    assert may_meet_those_before() is expected
