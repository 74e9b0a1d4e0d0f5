"""From the samples of a step to its losses."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from training.data.dataset import Sample
from training.loop.losses import (
    dice_loss,
    embedding_distance,
    focal_loss,
    imitation_loss,
    quality_loss,
)
from training.loop.recipe import LossSettings
from training.loop.teacher import Lesson
from training.networks.network import PromptableNetwork


class StepLosses(nn.Module):
    """From samples to losses; the module that is shared among processes.

    Args:
        network: that is trained.
        settings: weights of the parts of the loss.
        encoder_learns: whether gradients reach the encoder.
    """

    def __init__(
        self, network: PromptableNetwork, settings: LossSettings, *, encoder_learns: bool
    ) -> None:
        super().__init__()
        self.network, self.settings, self.encoder_learns = network, settings, encoder_learns

    def forward(self, samples: Sequence[Sample], lessons: Sequence[Lesson] | None) -> Tensor:
        """Return (6,): the loss, and its parts before they are weighted; see `LOSS_PARTS`."""
        device = next(self.network.parameters()).device
        embeddings = self._encode([torch.from_numpy(sample.image) for sample in samples], device)
        parts = torch.stack(
            [
                self._parts(embeddings[i], sample, None if lessons is None else lessons[i], device)
                for i, sample in enumerate(samples)
            ]
        ).mean(0)
        settings = self.settings
        weights = parts.new_tensor(
            [
                settings.dice,
                settings.focal,
                settings.distillation,
                settings.quality,
                settings.imitation,
            ]
        )
        return torch.cat([(parts * weights).sum()[None], parts])

    def _encode(self, images: Sequence[Tensor], device: torch.device) -> list[Tensor]:
        """Return the embedding (1, 256, h / 4, w / 4) of each image; those of one size at once."""
        found: list[Tensor] = [images[0]] * len(images)
        for shape in dict.fromkeys(image.shape for image in images):
            places = [place for place, image in enumerate(images) if image.shape == shape]
            batch = torch.stack([images[place] for place in places])
            batch = batch.to(device, memory_format=torch.channels_last)
            with torch.set_grad_enabled(self.encoder_learns and torch.is_grad_enabled()):
                embeddings = self.network.encode(batch)
            for place, embedding in zip(places, embeddings.split(1), strict=True):
                found[place] = embedding
        return found

    def _parts(
        self, embedding: Tensor, sample: Sample, lesson: Lesson | None, device: torch.device
    ) -> Tensor:
        own, imitates = len(sample.boxes), lesson is not None and self.settings.imitation > 0
        prompts = [sample.boxes, sample.other_boxes] if imitates else [sample.boxes]
        boxes = torch.from_numpy(np.concatenate(prompts)).to(device)
        masks = torch.from_numpy(sample.masks).to(device)
        quality = imitation = distillation = torch.zeros((), device=device)
        if self.settings.quality:
            logits, iou = (x.float() for x in self.network.decode_rated(embedding, boxes))
            quality = quality_loss(iou[:own], logits[:own], masks)
        else:
            logits = self.network.decode(embedding, boxes).float()
        dice = dice_loss(logits[:own], masks)
        focal = focal_loss(logits[:own], masks, self.settings.focal_gamma)
        if lesson is not None:
            distance = embedding_distance(embedding[0].float(), lesson.embedding)
            distillation = distance * lesson.iou
        if lesson is not None and len(boxes) > own:
            imitation = imitation_loss(logits[own:], lesson.other_logits, lesson.trust)
        return torch.stack([dice, focal, distillation, quality, imitation])
