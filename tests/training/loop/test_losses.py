"""Losses against values worked out by hand."""

from __future__ import annotations

import math

import pytest

pytest.importorskip("torch", reason="training/requirements.txt is not installed")

import torch
from torch.nn import functional as F

from training.loop.losses import (
    dice_loss,
    embedding_distance,
    focal_loss,
    imitation_loss,
    intersection_over_union,
    quality_loss,
    stability,
)

pytestmark = pytest.mark.training

SURE = 100.0  # a logit whose probability is 1 in float32
LN2, LN3 = math.log(2), math.log(3)


def masks_and_logits(seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(2, 3, 4, generator=generator, dtype=dtype)
    masks = (torch.rand(2, 3, 4, generator=generator) > 0.5).to(dtype)
    return logits, masks


def test_dice_counts_a_pixel_more_in_numerator_and_denominator():
    #            drawn   truth
    #            # .     # #
    #            # .     . .     one of 2 + 2 pixels in common
    logits = torch.tensor([[[SURE, -SURE], [SURE, -SURE]]])
    masks = torch.tensor([[[1.0, 1.0], [0.0, 0.0]]])
    assert dice_loss(logits, masks).item() == pytest.approx(1 - (2 * 1 + 1) / (4 + 1))


def test_dice_is_soft():
    # Four pixels of one half: 2 in all, 1 on the two pixels of the truth.
    masks = torch.tensor([[[1.0, 1.0], [0.0, 0.0]]])
    expected = 1 - (2 * 1 + 1) / (2 + 2 + 1)
    assert dice_loss(torch.zeros(1, 2, 2), masks).item() == pytest.approx(expected)


def test_dice_is_the_mean_over_objects_however_large_they_are():
    masks = torch.zeros(3, 4, 4)
    masks[0] = 1
    masks[1, 0, 0] = 1
    logits = torch.where(masks > 0, SURE, -SURE)
    assert dice_loss(logits, masks).item() == pytest.approx(0)  # the third: nothing, rightly
    logits[1] = -SURE  # the object of one pixel is missed: 1 - (0 + 1) / (1 + 1)
    assert dice_loss(logits, masks).item() == pytest.approx(0.5 / 3)


def test_focal_loss_of_few_pixels():
    # Probabilities 1/2, 3/4 and 1/4 of an object, and 1/4 where there is none.
    logits = torch.tensor([[[0.0, LN3], [-LN3, -LN3]]])
    masks = torch.tensor([[[1.0, 1.0], [1.0, 0.0]]])
    for gamma in (1.0, 2.0, 3.0):
        expected = (
            0.5**gamma * LN2
            + 0.25**gamma * math.log(4 / 3)
            + 0.75**gamma * math.log(4)
            + 0.25**gamma * math.log(4 / 3)
        ) / 4
        assert focal_loss(logits, masks, gamma).item() == pytest.approx(expected, rel=1e-5)


def test_focal_loss_without_focus_is_the_cross_entropy():
    logits, masks = masks_and_logits()
    expected = F.binary_cross_entropy_with_logits(logits, masks)
    torch.testing.assert_close(focal_loss(logits, masks, 0.0), expected)


def test_focal_loss_is_the_mean_over_the_pixels_of_all_objects():
    logits, masks = masks_and_logits()
    each = [focal_loss(logits[i : i + 1], masks[i : i + 1], 2.0) for i in range(2)]
    torch.testing.assert_close(focal_loss(logits, masks, 2.0), sum(each) / 2)


@pytest.mark.parametrize(
    "loss",
    [
        pytest.param(dice_loss, id="dice"),
        pytest.param(lambda logits, masks: focal_loss(logits, masks, 2.0), id="focal"),
    ],
)
def test_gradients_are_those_of_small_differences(loss):
    logits, masks = masks_and_logits()
    logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: loss(x, masks), (logits,))


def assert_finite(loss, expected):
    logits = torch.tensor([[[-1e4, -SURE, SURE, 1e4]]] * 2, requires_grad=True)
    masks = torch.tensor([[[0.0, 0.0, 1.0, 1.0]], [[1.0, 1.0, 0.0, 0.0]]])  # right, and wrong
    value = loss(logits, masks)
    value.backward()
    assert value.item() == pytest.approx(expected, rel=1e-5)
    assert torch.isfinite(logits.grad).all()


def test_dice_of_extreme_logits_is_finite():
    assert_finite(dice_loss, (0 + 1 - 1 / 5) / 2)


@pytest.mark.parametrize(
    "gamma",
    [
        0.0,
        0.5,
        1.0,
        2.0,
    ],
)
def test_focal_loss_of_extreme_logits_is_finite(gamma):
    wrong = 2 * (1e4 + SURE) / 8  # the cross-entropy of a sure mistake is its logit
    assert_finite(lambda logits, masks: focal_loss(logits, masks, gamma), wrong)


def test_embedding_distance_is_relative_to_the_teacher():
    teacher = torch.tensor([[[1.0, 2.0]]])
    student = torch.tensor([[[3.0, 2.0]]])
    assert embedding_distance(student, teacher).item() == pytest.approx(2 / 2.5)
    assert embedding_distance(10 * student, 10 * teacher).item() == pytest.approx(2 / 2.5)
    assert embedding_distance(torch.zeros(1, 1, 2), teacher).item() == pytest.approx(1)
    assert embedding_distance(teacher, teacher).item() == 0


def test_iou_is_the_mean_over_objects_of_what_lies_above_zero():
    logits = torch.tensor(
        [
            [[1.0, 1.0, -1.0]],  # one of three pixels in common
            [[0.0, 1.0, 5.0]],  # as the truth: 0 is not drawn
            [[-1.0, -1.0, -1.0]],  # nothing is drawn
        ]
    )
    masks = torch.tensor([[[0.0, 1.0, 1.0]], [[0.0, 1.0, 1.0]], [[1.0, 0.0, 0.0]]])
    assert intersection_over_union(logits, masks).tolist() == pytest.approx([1 / 3, 1, 0])
    predicted = torch.tensor([1 / 3, 0.5, 0.5])
    assert quality_loss(predicted, logits, masks).item() == pytest.approx((0 + 0.25 + 0.25) / 3)


def test_imitation_is_nothing_where_masks_are_equal_and_counts_by_trust():
    logits, _ = masks_and_logits()
    assert imitation_loss(logits, logits, torch.ones(2)).item() == pytest.approx(0, abs=1e-12)
    # Two pixels drawn and two others wanted: 1 - (0 + 1) / (2 + 2 + 1).
    drawn = torch.tensor([[[SURE, SURE], [-SURE, -SURE]]])
    for trust in (1.0, 0.25):
        found = imitation_loss(drawn, -drawn, torch.tensor([trust]))
        assert found.item() == pytest.approx(trust * 0.8)


def test_stability_is_the_share_of_a_mask_that_is_sure():
    sharp = torch.tensor([[[5.0, 2.0], [-3.0, -5.0]]])
    blurred = torch.tensor([[[5.0, 0.5], [-0.5, -0.9]]])  # one of four
    nothing = torch.full((1, 2, 2), -4.0)
    found = stability(torch.cat([sharp, blurred, nothing]))
    assert found.tolist() == [1.0, 0.25, 0.0]
