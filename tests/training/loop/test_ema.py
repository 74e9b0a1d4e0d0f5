"""The moving average of the weights over the last steps, which is validated and kept."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="training/requirements.txt is not installed")

from torch import nn  # noqa: E402

from training.loop.optimization import build_ema  # noqa: E402

pytestmark = pytest.mark.training


def network_at(value: float) -> nn.Linear:
    network = nn.Linear(1, 1)
    nn.init.constant_(network.weight, value)
    return network


def walk(network, ema, values) -> None:
    for value in values:
        nn.init.constant_(network.weight, value)
        ema.update_parameters(network)


def test_it_begins_as_a_plain_mean_and_then_forgets():
    network = network_at(1.0)
    ema = build_ema(network, 0.5)
    walk(network, ema, [3.0])
    assert ema.module.weight.item() == 2.0  # of 1 and 3
    walk(network, ema, [5.0, 6.0])
    assert ema.module.weight.item() == pytest.approx(4.75)  # 2, 3.5 and 4.75
    assert network.weight.item() == 6.0


def test_a_long_memory_is_a_plain_mean_for_as_long():
    network = network_at(1.0)
    ema = build_ema(network, 0.9)
    walk(network, ema, [3.0, 8.0, 0.0])
    assert ema.module.weight.item() == pytest.approx(3.0)  # of 1, 3, 8 and 0


def test_what_does_not_move_stays():
    network = network_at(1.0)
    network.bias.requires_grad_(False)
    ema = build_ema(network, 0.9)
    walk(network, ema, [3.0, 4.0, 7.0])
    assert ema.module.bias.equal(network.bias)


def test_it_goes_on_where_it_was():
    network = network_at(1.0)
    first = build_ema(network, 0.9)
    walk(network, first, [3.0, 4.0])
    second = build_ema(network, 0.9)
    second.load_state_dict(first.state_dict())
    for ema in (first, second):
        walk(network, ema, [9.0])
    assert second.module.weight.item() == first.module.weight.item() == pytest.approx(4.25)
