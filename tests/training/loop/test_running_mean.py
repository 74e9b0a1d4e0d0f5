"""The mean of the weights over the last steps, which is judged and kept."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="training/requirements.txt is not installed")

from torch import nn  # noqa: E402

from training.loop.optimization import RunningMean  # noqa: E402

pytestmark = pytest.mark.training


def network_at(value: float) -> nn.Linear:
    network = nn.Linear(1, 1)
    nn.init.constant_(network.weight, value)
    return network


def walk(network, mean, values) -> None:
    for step, value in enumerate(values):
        nn.init.constant_(network.weight, value)
        mean.update(step)


def test_it_begins_as_a_plain_mean_and_then_forgets():
    network = network_at(1.0)
    mean = RunningMean(network, 0.5)
    walk(network, mean, [3.0])
    with mean.in_place():
        assert network.weight.item() == 2.0  # of 1 and 3
    walk(network, mean, [3.0, 5.0, 6.0])
    with mean.in_place():
        assert network.weight.item() == pytest.approx(4.875)  # 2, 2.5, 3.75 and 4.875


def test_the_weights_of_the_last_step_come_back():
    network = network_at(1.0)
    mean = RunningMean(network, 0.9)
    walk(network, mean, [3.0])
    with pytest.raises(RuntimeError, match="stop"), mean.in_place():
        raise RuntimeError("stop")
    assert network.weight.item() == 3.0


def test_without_decay_the_weights_are_kept_as_they_are():
    network = network_at(1.0)
    mean = RunningMean(network, 0.0)
    walk(network, mean, [3.0])
    assert mean.means == []
    with mean.in_place():
        assert network.weight.item() == 3.0


def test_what_does_not_move_is_left_out():
    network = network_at(1.0)
    network.bias.requires_grad_(False)
    assert len(RunningMean(network, 0.9).means) == 1


def test_it_goes_on_where_it_was():
    network = network_at(1.0)
    first = RunningMean(network, 0.9)
    walk(network, first, [3.0, 4.0])
    second = RunningMean(network, 0.9)
    second.load(first.means)
    with second.in_place():
        resumed = network.weight.item()
    with first.in_place():
        assert network.weight.item() == resumed
