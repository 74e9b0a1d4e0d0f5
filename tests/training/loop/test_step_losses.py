"""From samples to losses: which boxes count for which part."""

from __future__ import annotations

import dataclasses

import pytest

pytest.importorskip("torch", reason="training/requirements.txt is not installed")

import numpy as np
import torch

from tests.training.small_networks import seeded_network
from training.data.dataset import Sample
from training.loop.losses import LOSS_PARTS
from training.loop.recipe import LossSettings
from training.loop.step_losses import StepLosses
from training.loop.teacher import Lesson

pytestmark = pytest.mark.training

SAMPLE = Sample(
    key="CT/a.npz#0",
    mtime_ns=1,
    modality="CT",
    image=np.random.default_rng(0).random((3, 256, 256), dtype=np.float32),
    teacher_image=np.zeros((3, 256, 256), dtype=np.float32),
    boxes=np.array([[20, 30, 90, 100]], dtype=np.float32),
    masks=np.zeros((1, 256, 256), dtype=np.float32),
    other_boxes=np.array([[100, 100, 180, 200], [10, 10, 50, 50]], dtype=np.float32),
    geometry="none",
)


def parts(sample, settings, lesson=None) -> dict[str, float]:
    losses = StepLosses(seeded_network(), settings, encoder_learns=True)
    found = losses([sample], None if lesson is None else [lesson])
    return dict(zip(LOSS_PARTS, found.tolist(), strict=True))


def lesson_of(logits) -> Lesson:
    return Lesson(torch.ones(256, 64, 64), torch.tensor(0.5), logits, torch.ones(len(logits)))


@torch.no_grad()
def other_logits() -> torch.Tensor:
    """What the network itself makes of the other boxes."""
    network = seeded_network()
    embedding = network.encode(torch.from_numpy(SAMPLE.image)[None])
    return network.decode(embedding, torch.from_numpy(SAMPLE.other_boxes)).float()


def test_other_boxes_are_imitated_and_change_no_other_part():
    settings = LossSettings(distillation=2.0, imitation=3.0)
    lesson = lesson_of(-other_logits())
    found = parts(SAMPLE, settings, lesson)
    without = parts(SAMPLE, LossSettings(distillation=2.0), lesson)
    assert found["imitation"] > 0.1
    assert without["imitation"] == 0
    for name in ("dice", "focal", "distillation"):
        assert found[name] == pytest.approx(without[name], rel=1e-5)
    assert found["loss"] == pytest.approx(without["loss"] + 3 * found["imitation"], rel=1e-5)


def test_who_answers_as_the_teacher_loses_nothing():
    found = parts(SAMPLE, LossSettings(imitation=1.0), lesson_of(other_logits()))
    assert found["imitation"] == pytest.approx(0, abs=1e-4)


def test_without_a_teacher_or_other_boxes_nothing_is_imitated():
    settings = LossSettings(imitation=1.0)
    assert parts(SAMPLE, settings)["imitation"] == 0
    alone = dataclasses.replace(SAMPLE, other_boxes=np.zeros((0, 4), dtype=np.float32))
    empty = lesson_of(torch.zeros(0, 256, 256))
    assert parts(alone, settings, empty)["imitation"] == 0
