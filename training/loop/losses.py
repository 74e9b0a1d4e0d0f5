"""What training makes smaller: Dice, focal loss, and distances from what a teacher makes."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

# What is kept of a step: the weighted sum, and its parts before they are weighted.
LOSS_PARTS = ("loss", "dice", "focal", "distillation", "quality", "imitation")
SURE = 1e-7  # probability of the wrong class
DICE_SMOOTHING = 1.0  # pixels; an empty prediction of an empty mask then costs nothing


def dice_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """Return 1 - Dice of the probabilities, mean over objects.

    Args:
        logits: (N, H, W).
        masks: (N, H, W), 0 or 1.
    """
    probabilities = logits.sigmoid().flatten(1)
    truth = masks.flatten(1)
    common = (probabilities * truth).sum(1)
    total = probabilities.sum(1) + truth.sum(1)
    return (1 - (2 * common + DICE_SMOOTHING) / (total + DICE_SMOOTHING)).mean()


def focal_loss(logits: Tensor, masks: Tensor, gamma: float) -> Tensor:
    """Return the focal loss (Lin et al., ICCV 2017) without class weights, mean over pixels.

    Args:
        logits: (N, H, W).
        masks: (N, H, W), 0 or 1.
        gamma: how much less a pixel counts the surer it is; 0 is the cross-entropy.
    """
    cross_entropy = F.binary_cross_entropy_with_logits(logits, masks, reduction="none")
    miss = 1 - torch.exp(-cross_entropy)  # probability of the wrong class
    # A slope of 0 and not infinity where the probability is wrong by nothing.
    return (miss.clamp_min(SURE) ** gamma * cross_entropy).mean()


def embedding_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the squared distance of two embeddings relative to the teacher's mean square.

    Args:
        student: (256, h, w).
        teacher: of the same shape.
    """
    return (student - teacher).square().mean() / teacher.square().mean()


def imitation_loss(student: Tensor, teacher: Tensor, trust: Tensor) -> Tensor:
    """Return how far masks are from a teacher's, whatever these are of, mean over boxes.

    It is 1 - Dice of the probabilities with their squares below, which is 0 where they are equal.

    Args:
        student: logits (N, H, W).
        teacher: logits of the same shape.
        trust: (N,), 0 to 1, how much each of the teacher's counts.
    """
    ours, theirs = student.sigmoid().flatten(1), teacher.sigmoid().flatten(1)
    common = (ours * theirs).sum(1)
    total = ours.square().sum(1) + theirs.square().sum(1)
    return (trust * (1 - (2 * common + DICE_SMOOTHING) / (total + DICE_SMOOTHING))).mean()


def stability(logits: Tensor) -> Tensor:
    """Return the IoU (N,) of what lies above 1 and above -1 in logits (N, H, W); 0 of nothing.

    It is 1 where the border is sharp, as Segment Anything measures it.
    """
    inner, outer = ((logits > bound).flatten(1).sum(1) for bound in (1.0, -1.0))
    return inner / outer.clamp_min(1)


def intersection_over_union(logits: Tensor, masks: Tensor) -> Tensor:
    """Return the IoU (N,) of what lies above 0 with (N, H, W) masks of 0 or 1."""
    drawn, truth = (logits > 0).flatten(1), (masks > 0).flatten(1)
    common, either = (drawn & truth).sum(1), (drawn | truth).sum(1)
    return common / either.clamp_min(1)


def quality_loss(predicted: Tensor, logits: Tensor, masks: Tensor) -> Tensor:
    """Return the mean square by which the IoU (N,) predicted of each mask is wrong.

    Args:
        predicted: what SAM's head says.
        logits: (N, H, W), of which it says so.
        masks: (N, H, W), 0 or 1.
    """
    return (predicted - intersection_over_union(logits, masks)).square().mean()
