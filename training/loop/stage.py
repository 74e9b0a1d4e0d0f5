"""One stage of training: steps, checkpoints, validation after every epoch, the best kept.

All that a step depends on is a function of the seed, the epoch and the step, so that a run that was
killed goes on with the losses it would have had. Every process does the same; the first one writes.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from qmedsam.batch.progress import ProgressBar
from training.data.dataset import Sample, SliceDataset, make_loader
from training.data.sampler import EpochSampler
from training.loop.distributed import Rank, from_first, mean_over_processes, wait_for_all
from training.loop.logbook import Logbook
from training.loop.losses import (
    LOSS_PARTS,
    dice_loss,
    embedding_distance,
    focal_loss,
    quality_loss,
)
from training.loop.optimization import (
    build_ema,
    build_optimizer,
    build_scheduler,
    choose_trained,
    damp_shared_ranges,
    rate_share,
)
from training.loop.recipe import LossSettings, Recipe
from training.loop.state import Trained, save_document, trained_document
from training.loop.stopping import StopRequest
from training.loop.teacher import Lesson, Teacher
from training.loop.validation import ValidationSlice, overall, validate
from training.networks.network import PromptableNetwork

logger = logging.getLogger(__name__)

START_FILE, LAST_FILE, BEST_FILE = "start.pt", "last.pt", "best.pt"
CHECKPOINT_EVERY_S = 180.0


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
        """Return (5,): the loss, and its parts before they are weighted; see `LOSS_PARTS`."""
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
            [settings.dice, settings.focal, settings.distillation, settings.quality]
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
        boxes = torch.from_numpy(sample.boxes).to(device)
        masks = torch.from_numpy(sample.masks).to(device)
        if self.settings.quality:
            logits, iou = (x.float() for x in self.network.decode_rated(embedding, boxes))
            quality = quality_loss(iou, logits, masks)
        else:
            logits = self.network.decode(embedding, boxes).float()
            quality = logits.new_zeros(())
        dice = dice_loss(logits, masks)
        focal = focal_loss(logits, masks, self.settings.focal_gamma)
        distillation = torch.zeros_like(dice)
        if lesson is not None:
            distance = embedding_distance(embedding[0].float(), lesson.embedding)
            distillation = distance * lesson.iou
        return torch.stack([dice, focal, distillation, quality])


@dataclass
class Progress:
    """How far a stage is.

    Attributes:
        step: steps done, in all.
        best_score: highest mean DSC of an epoch; None before the first.
        images: seen by all devices.
    """

    step: int = 0
    best_score: float | None = None
    images: int = 0


class Stage:
    """Runs a recipe.

    Args:
        trained: the network, with the parts quantized that the recipe wants quantized.
        recipe: what to do.
        dataset: of training samples.
        sampler: of this process.
        slices: to validate on, the share of this process.
        teacher: None without distillation.
        rank: of this process.
        origin: what the stage began with, for those who resume it (`state.check_resumable`).
        output_dir: gets checkpoints, CSV, curves and TensorBoard.
        stream: where progress is drawn.
        stop: asks the run to stop after a step.
    """

    def __init__(
        self,
        trained: Trained,
        recipe: Recipe,
        *,
        dataset: SliceDataset,
        sampler: EpochSampler,
        slices: Sequence[ValidationSlice],
        teacher: Teacher | None,
        rank: Rank,
        origin: dict[str, str],
        output_dir: Path,
        stream: TextIO | None,
        stop: StopRequest | None = None,
    ) -> None:
        self.stop = StopRequest() if stop is None else stop
        self.trained, self.recipe, self.rank = trained, recipe, rank
        self.sampler, self.slices, self.teacher = sampler, slices, teacher
        self.origin, self.output_dir, self.stream = origin, output_dir, stream
        self.network = trained.network
        self.network.to(rank.device)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        choose_trained(self.network, recipe)
        self.optimizer = build_optimizer(self.network, recipe.optimizer)
        self.steps = recipe.schedule.epochs * len(sampler)
        self.scheduler = build_scheduler(self.optimizer, recipe.schedule, self.steps)
        self.loader = make_loader(dataset, sampler, recipe.data.workers)
        self.progress = Progress()
        self.losses: nn.Module = StepLosses(
            self.network, recipe.loss, encoder_learns="image_encoder" in recipe.trained
        )
        if rank.world_size > 1:
            self.losses = DistributedDataParallel(self.losses)
        decay = recipe.optimizer.ema_decay
        self.ema = build_ema(self.network, decay) if decay else None

    @property
    def validated(self) -> PromptableNetwork:
        """The network that is validated and kept: the EMA where there is one."""
        if self.ema is None:
            return self.network
        return cast(PromptableNetwork, self.ema.module)

    def resume(self, document: dict[str, Any]) -> None:
        """Go on where a checkpoint of this recipe was written; its weights are loaded already."""
        self.optimizer.load_state_dict(document["optimizer"])
        self.scheduler.load_state_dict(document["scheduler"])
        if self.ema is not None:
            self.ema.load_state_dict(document["ema"])
        self.progress = Progress(**document["progress"])

    def run(self, *, start_only: bool = False) -> None:
        """Do the steps that are left, or only validate what the stage starts from.

        Args:
            start_only: do no step; `start.pt` has the network as it was calibrated.

        Raises:
            Stopped: by a signal; a run with `resume` goes on.
        """
        book = Logbook(self.output_dir, self.progress.step) if self.rank.is_first else None
        bar = ProgressBar(self.steps - self.progress.step, self.stream)
        saved = time.monotonic()
        if book is not None and book.epochs and self.progress.best_score is not None:
            # A run may be killed between its validation and the checkpoint that would tell of it.
            self.progress.best_score = max(row["mean"] for row in book.epochs)
        done, left_over = divmod(self.progress.step, len(self.sampler))
        if not left_over and not from_first(lambda: self._is_validated(book, done)):
            self._validate(book, epoch=done)
        if start_only:
            if book is not None:
                book.close()
            return
        if book is not None and not self.progress.step:
            self._save(LAST_FILE)  # so that a run that is killed early need not calibrate again
        for epoch in range(self.progress.step // len(self.sampler), self.recipe.schedule.epochs):
            self.sampler.set_epoch(epoch, self.progress.step % len(self.sampler))
            for samples in self.loader:
                parts = self._step(samples)
                if book is not None:
                    book.add_step(self.progress.step - 1, parts)
                bar.advance(f"epoch {epoch + 1}, loss {parts['loss']:.3f}")
                is_due = self.stop or time.monotonic() - saved > CHECKPOINT_EVERY_S
                if self.rank.is_first and is_due:
                    self._save(LAST_FILE)
                    saved = time.monotonic()
                self.stop.check()
            if self.rank.is_first:
                self._save(LAST_FILE)  # validation may be stopped
            self._validate(book, epoch=epoch + 1)
            if self.rank.is_first:
                self._save(LAST_FILE)
                saved = time.monotonic()
            wait_for_all()
        bar.close()
        if book is not None:
            book.close()

    def _is_validated(self, book: Logbook | None, epoch: int) -> bool:
        """Say whether an epoch was scored before the run was stopped, and its score kept."""
        rows = book.epochs if book is not None and self.progress.best_score is not None else []
        return any(row["epoch"] == epoch for row in rows)

    def _step(self, samples: Sequence[Sample]) -> dict[str, float]:
        share = rate_share(self.progress.step, self.steps, self.recipe.schedule)
        entropy = self.recipe.seed, self.progress.step, self.rank.number
        torch.manual_seed(int(np.random.SeedSequence(entropy).generate_state(1)[0]))
        with self._autocast():
            lessons = None if self.teacher is None else self.teacher.teach(samples)
            parts = self.losses(samples, lessons)
        parts[0].backward()
        if self.rank.world_size > 1:
            damp_shared_ranges(self.network, self.rank.world_size)
        if self.recipe.optimizer.clip_norm:
            moving = [p for p in self.network.parameters() if p.requires_grad]
            nn.utils.clip_grad_norm_(moving, self.recipe.optimizer.clip_norm)
        self.optimizer.step()
        self.scheduler.step()
        self.optimizer.zero_grad()
        if self.ema is not None:
            self.ema.update_parameters(self.network)
        self.progress.step += 1
        self.progress.images += len(samples) * self.rank.world_size
        values = mean_over_processes(parts.detach()).tolist()
        named = dict(zip(LOSS_PARTS, values, strict=True))
        return {**named, "rate": self.recipe.optimizer.learning_rate * share}

    def _validate(self, book: Logbook | None, epoch: int) -> None:
        """Score the network, all processes together; keep it where no epoch before was better."""
        started = time.monotonic()
        settings = self.recipe.validation
        bar = ProgressBar(len(self.slices), self.stream)

        def go_on() -> None:
            bar.advance("validation")
            self.stop.check()

        by_modality = validate(
            self.validated,
            self.slices,
            self._autocast(),
            contours=settings.contours,
            on_slice=go_on,
        )
        bar.close()
        if book is None:
            return
        scores = {"mean": overall(by_modality), **by_modality}
        # The book comes last: what it has is not validated again when a killed run goes on.
        if self.progress.best_score is None or scores["mean"] > self.progress.best_score:
            self.progress.best_score = scores["mean"]
            self._save(BEST_FILE, scores=scores)
        if epoch == 0:
            self._save(START_FILE, scores=scores)
        book.add_epoch(epoch, self.progress.step, scores)
        logger.info(
            "Epoch %d, step %d of %d: validation %s %.2f (%s), %.0f s",
            epoch,
            self.progress.step,
            self.steps,
            "DSC and NSD" if settings.contours else "DSC",
            100 * scores["mean"],
            ", ".join(f"{name} {100 * value:.1f}" for name, value in by_modality.items()),
            time.monotonic() - started,
        )

    def _save(self, name: str, scores: dict[str, float] | None = None) -> None:
        """Write the network with its scores or, without, all that is needed to go on.

        The state of the EMA has the whole network, also what is frozen and buffers.
        """
        account = {
            "recipe": self.recipe.model_dump(),
            "steps": self.progress.step,
            "images": self.progress.images,
            "validation": scores,
        }
        document = trained_document(self.trained)
        if scores is None:
            document.update(
                recipe=account["recipe"],
                optimizer=self.optimizer.state_dict(),
                scheduler=self.scheduler.state_dict(),
                ema=None if self.ema is None else self.ema.state_dict(),
                progress=dataclasses.asdict(self.progress),
                origin=self.origin,
            )
        else:
            document["network"] = self.validated.state_dict()
            document["history"] = [*document["history"], account]
        save_document(document, self.output_dir / name)

    def _autocast(self) -> AbstractContextManager[None]:
        return torch.autocast(self.rank.device.type, dtype=torch.bfloat16)
