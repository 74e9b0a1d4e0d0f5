"""What moves, by how much, and when."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="training/requirements.txt is not installed")

import torch
from torch import nn

from tests.training.small_networks import (
    BOTH,
    build_small_network,
    images_with_boxes,
    seeded_network,
    small_encoder,
)
from training.loop.optimization import (
    build_optimizer,
    build_scheduler,
    choose_trained,
    damp_shared_ranges,
    rate_share,
)
from training.loop.recipe import OptimizerSettings, Recipe, ScheduleSettings
from training.networks.network import PromptableNetwork, build_lite_medsam
from training.quantization.calibration import quantize_and_calibrate
from training.quantization.config import QuantConfig
from training.quantization.quantize import (
    activation_quantizers,
    quantize_network,
    quantizer_parameters,
)

pytestmark = [pytest.mark.training, pytest.mark.usefixtures("small_lite_medsam")]

# 5 epochs up and 10 down, of which one is both; cosines of 60 and 120 degrees are 1/2 and -1/2.
PAPER = ScheduleSettings(warmup_epochs=5, annealing_epochs=10)
PAPER_SHARES = {0: 0.01, 1: 0.2575, 2: 0.505, 3: 0.7525, 4: 1.0, 7: 0.75025, 10: 0.25075, 13: 0.001}
TRAINABLE = ("image_encoder", "mask_decoder")


def trained_names(network) -> set[str]:
    return {name for name, value in network.named_parameters() if value.requires_grad}


def values(network) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in network.named_parameters()}


def moved(network, before) -> set[str]:
    return {name for name, value in network.named_parameters() if not value.equal(before[name])}


def quantized_network(parts=BOTH) -> PromptableNetwork:
    network = seeded_network()
    quantize_and_calibrate(network, QuantConfig(), images_with_boxes(), parts)
    return network


def do_steps(network, optimizer, count=2) -> None:
    image, boxes = images_with_boxes(1)[0]
    for _ in range(count):
        optimizer.zero_grad()
        network(image, boxes).square().mean().backward()
        optimizer.step()


def group_of(optimizer, parameter) -> dict:
    """Return the one group that a parameter is in."""
    (found,) = (
        group
        for group in optimizer.param_groups
        if any(parameter is one for one in group["params"])
    )
    return found


@pytest.mark.parametrize(("epoch", "share"), PAPER_SHARES.items())
def test_rates_of_the_paper_at_the_borders_of_epochs(epoch, share):
    assert rate_share(epoch, 14, PAPER) == pytest.approx(share, abs=1e-12)
    assert rate_share(10 * epoch, 131, PAPER) == pytest.approx(share, abs=1e-12)


def test_rates_within_epochs_rise_on_a_line_and_fall_on_a_cosine():
    assert rate_share(5, 131, PAPER) == pytest.approx(0.01 + 0.99 / 8)
    # The middle of the fall, four and a half of nine epochs: a cosine of 90 degrees.
    assert rate_share(85, 131, PAPER) == pytest.approx(0.001 + 0.999 / 2)
    shares = [rate_share(step, 131, PAPER) for step in range(131)]
    assert shares[:41] == sorted(shares[:41])
    assert shares[40:] == sorted(shares[40:], reverse=True)


@pytest.mark.parametrize("steps", [14, 28, 97, 1000])
def test_a_stage_begins_at_one_percent_and_ends_at_a_tenth_of_it(steps):
    shares = [rate_share(step, steps, PAPER) for step in range(steps)]
    assert (shares[0], shares[-1]) == pytest.approx((0.01, 0.001))
    assert max(shares) == pytest.approx(1, abs=0.1)


def test_a_single_epoch_of_warm_up_begins_at_the_top():
    schedule = ScheduleSettings(warmup_epochs=1, annealing_epochs=3)
    assert [rate_share(step, 3, schedule) for step in range(3)] == pytest.approx(
        [1.0, 0.5005, 0.001]
    )


@pytest.mark.parametrize(
    ("warmup_epochs", "expected"), [(1, [1.0, 1.0, 1.0]), (3, [0.01, 0.505, 1.0])]
)
def test_a_single_epoch_of_annealing_stays_at_the_top(warmup_epochs, expected):
    schedule = ScheduleSettings(warmup_epochs=warmup_epochs, annealing_epochs=1)
    assert [rate_share(step, 3, schedule) for step in range(3)] == pytest.approx(expected)


def test_the_scheduler_sets_every_group_from_its_own_highest_rate():
    one, other = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([{"params": [one], "lr": 2.0}, {"params": [other], "lr": 0.5}])
    scheduler = build_scheduler(optimizer, PAPER, 14)
    for step in range(14):
        assert [group["lr"] for group in optimizer.param_groups] == [
            2.0 * rate_share(step, 14, PAPER),
            0.5 * rate_share(step, 14, PAPER),
        ]
        optimizer.step()
        scheduler.step()


@pytest.mark.parametrize("step", [0, 6, 12])
def test_a_scheduler_goes_on_where_it_was(step):
    def build():
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0, momentum=0.9)
        return optimizer, build_scheduler(optimizer, PAPER, 14)

    optimizer, scheduler = build()
    for _ in range(step):
        optimizer.step()
        scheduler.step()
    resumed, goes_on = build()
    resumed.load_state_dict(optimizer.state_dict())
    goes_on.load_state_dict(scheduler.state_dict())
    assert resumed.param_groups[0]["lr"] == 2.0 * rate_share(step, 14, PAPER)
    resumed.step()
    goes_on.step()
    assert resumed.param_groups[0]["lr"] == 2.0 * rate_share(step + 1, 14, PAPER)


@pytest.mark.parametrize("trained", [("image_encoder",), ("mask_decoder",), TRAINABLE])
def test_only_the_trained_parts_may_move(trained):
    network = seeded_network()
    choose_trained(network, Recipe(name="any", trained=trained))
    expected = {name for name, _ in network.named_parameters() if name.startswith(tuple(trained))}
    assert expected
    assert trained_names(network) == expected


def test_what_was_chosen_before_does_not_matter():
    network = seeded_network()
    choose_trained(network, Recipe(name="one", trained=TRAINABLE))
    choose_trained(
        network, Recipe(name="two", trained=("mask_decoder",), frozen=("mask_decoder.pixel",))
    )
    assert trained_names(network) == {"mask_decoder.token.weight", "mask_decoder.token.bias"}
    choose_trained(network, Recipe(name="three", trained=("mask_decoder",)))
    assert "mask_decoder.pixel.weight" in trained_names(network)


def test_a_module_to_freeze_must_be_there():
    recipe = Recipe(name="any", frozen=("image_encoder.layers.9",))
    with pytest.raises(ValueError, match=r"'image_encoder\.layers\.9' to freeze is not in"):
        choose_trained(build_small_network(), recipe)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_frozen_modules_do_not_move_and_all_others_of_the_part_do(name):
    network = quantized_network()
    recipe = Recipe(name="any", trained=TRAINABLE, frozen=("image_encoder.2", "mask_decoder.token"))
    choose_trained(network, recipe)
    settings = OptimizerSettings(name=name, learning_rate=0.05, weight_decay=0.1)
    before = values(network)
    do_steps(network, build_optimizer(network, settings))
    frozen = ("image_encoder.2.", "mask_decoder.token.", "prompt_encoder.")
    changed = moved(network, before)
    assert not any(name.startswith(frozen) for name in changed)
    # All others but a range whose gradient is nothing, such as that of an image from 0 on.
    free = {name for name in before if not name.startswith(frozen)}
    assert {name for name in free if name.endswith((".weight", ".bias"))} <= changed
    assert any("scaling_impl" in name for name in changed)


def test_learned_ranges_of_a_frozen_module_do_not_move():
    network = quantized_network(("image_encoder",))
    choose_trained(network, Recipe(name="any", frozen=("image_encoder.2",)))
    quantizers = activation_quantizers(network.image_encoder[2])
    assert len(quantizers) == 1
    still = {id(p) for proxy in quantizers.values() for p in proxy.parameters()}
    optimizer = build_optimizer(network, OptimizerSettings())
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert still.isdisjoint(held)
    assert not held.isdisjoint(id(p) for p in quantizer_parameters(network))


@pytest.mark.parametrize("parts", [(), BOTH], ids=["float", "quantized"])
def test_what_moves_is_in_one_group_and_only_weights_decay(parts):
    network = quantized_network(parts) if parts else seeded_network()
    choose_trained(network, Recipe(name="any", trained=TRAINABLE))
    settings = OptimizerSettings(name="adamw", learning_rate=0.2, range_rate=10.0, weight_decay=0.3)
    optimizer = build_optimizer(network, settings)
    weights = ["image_encoder.2.weight", "mask_decoder.token.weight", "mask_decoder.pixel.weight"]
    weights.append("image_encoder.0.weight" if parts else "image_encoder.0.c.weight")
    ranges = {id(p) for p in quantizer_parameters(network)}
    assert bool(ranges) == bool(parts)
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        group = group_of(optimizer, parameter)
        is_range = id(parameter) in ranges
        assert group["weight_decay"] == (0.3 if name in weights else 0), name
        assert group["lr"] == pytest.approx(2.0 if is_range else 0.2), name
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(
        trained_names(network)
    )


def test_attention_biases_do_not_decay():
    network = build_lite_medsam()
    choose_trained(network, Recipe(name="any"))
    optimizer = build_optimizer(network, OptimizerSettings(weight_decay=0.3))
    found = {
        name: group_of(optimizer, parameter)["weight_decay"]
        for name, parameter in network.image_encoder.named_parameters()
        if "bias" in name
    }
    assert any("attention_biases" in name for name in found)
    assert {name for name, decay in found.items() if decay} == set()


def test_scales_of_each_channel_do_not_decay():
    # They have four axes, as the weights of convolutions.
    network = build_lite_medsam()
    quantize_network(network, QuantConfig(), ("image_encoder",))
    choose_trained(network, Recipe(name="any"))
    optimizer = build_optimizer(network, OptimizerSettings(weight_decay=0.3, range_rate=3.0))
    shaped = [p for p in quantizer_parameters(network) if p.ndim > 1]
    assert shaped
    for parameter in shaped:
        group = group_of(optimizer, parameter)
        assert (group["weight_decay"], group["lr"]) == (0, pytest.approx(0.03))


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_decay_alone_makes_weights_smaller_and_leaves_the_rest(name):
    network = quantized_network()
    choose_trained(network, Recipe(name="any", trained=TRAINABLE))
    settings = OptimizerSettings(name=name, learning_rate=0.5, weight_decay=0.2)
    optimizer = build_optimizer(network, settings)
    before = values(network)
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None
    optimizer.step()
    after = dict(network.named_parameters())
    assert moved(network, before) == {
        "image_encoder.0.weight",
        "image_encoder.2.weight",
        "mask_decoder.token.weight",
        "mask_decoder.pixel.weight",
    }
    for name in moved(network, before):
        torch.testing.assert_close(after[name].detach(), before[name] * (1 - 0.5 * 0.2))


def test_sgd_has_momentum():
    linear = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(linear.weight)
    optimizer = build_optimizer(
        linear, OptimizerSettings(name="sgd", learning_rate=1.0, momentum=0.5)
    )
    assert type(optimizer) is torch.optim.SGD
    for position in (-1.0, -2.5):  # the second step is 1 + 0.5 long
        linear.weight.grad = torch.ones(1, 1)
        optimizer.step()
        assert linear.weight.item() == pytest.approx(position)


def test_adamw_steps_by_the_rate_however_long_the_gradient():
    linear = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(linear.weight)
    optimizer = build_optimizer(linear, OptimizerSettings(name="adamw", learning_rate=0.25))
    assert type(optimizer) is torch.optim.AdamW
    linear.weight.grad = torch.full((1, 1), 1e3)
    optimizer.step()
    assert linear.weight.item() == pytest.approx(-0.25, rel=1e-4)


def test_everything_that_moves_gets_a_gradient_from_the_real_decoder():
    # Processes that share their gradients wait for each of them.
    network = PromptableNetwork(small_encoder(), 256).eval()
    quantize_network(network, QuantConfig())
    image, boxes = images_with_boxes(1)[0]
    unused = [p for module in network.mask_decoder.unused_parts() for p in module.parameters()]
    assert unused
    for trained in (("image_encoder",), ("mask_decoder",), TRAINABLE):
        choose_trained(network, Recipe(name="any", trained=trained))
        network.zero_grad()
        network(image, boxes).square().mean().backward()
        reached = {name for name, p in network.named_parameters() if p.grad is not None}
        assert reached == trained_names(network)
        assert not any(parameter.requires_grad for parameter in unused)


def test_ranges_that_see_a_share_of_the_images_move_as_by_all():
    network = quantized_network()
    encoder = network.image_encoder
    images = torch.cat([image for image, _ in images_with_boxes(4)])
    encoder(images).square().mean().backward()
    by_all = {name: value.grad.clone() for name, value in encoder.named_parameters()}
    network.zero_grad()
    for image in images.split(1):  # as four processes whose gradients are averaged
        (encoder(image).square().mean() / 4).backward()
    damp_shared_ranges(network, 4)
    for name, value in encoder.named_parameters():
        torch.testing.assert_close(value.grad, by_all[name], rtol=1e-4, atol=1e-6, msg=name)
