"""One stage of training: steps, checkpoints, validation after every epoch, the best kept.

All that a step depends on is a function of the seed, the epoch and the step, so that a run that was
killed goes on with the losses it would have had. Every process does the same; the first one writes.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO, cast

import numpy as np
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from training.data.dataset import Batches, Sample, SliceDataset
from training.data.sampler import EpochSampler
from training.data.volumes import DataError
from training.loop.distributed import Rank, from_first, mean_over_processes, wait_for_all
from training.loop.logbook import Logbook
from training.loop.losses import LOSS_PARTS
from training.loop.optimization import (
    build_ema,
    build_optimizer,
    build_scheduler,
    choose_trained,
    damp_shared_ranges,
    rate_share,
)
from training.loop.recipe import Recipe
from training.loop.starting import LAST_FILE
from training.loop.state import Trained, save_document, trained_document
from training.loop.step_losses import StepLosses
from training.loop.stopping import StopRequest
from training.loop.teacher import Teacher
from training.loop.validation import ValidationSlice, overall, validate
from training.networks.network import PromptableNetwork
from training.pace import Pace

logger = logging.getLogger(__name__)

START_FILE, BEST_FILE = "start.pt", "best.pt"
CHECKPOINT_EVERY_S = 180.0


@dataclass
class Progress:
    """How far a stage is.

    Attributes:
        step: steps done, in all.
        best_score: highest mean DSC of an epoch; None before the first.
        images: seen by all devices.
        step_s: what all steps took, in seconds.
        validation_s: what all validations took.
        validations: how many there were.
    """

    step: int = 0
    best_score: float | None = None
    images: int = 0
    step_s: float = 0.0
    validation_s: float = 0.0
    validations: int = 0


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
        seen: cases and terms of each folder of the training data, for the account of it.
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
        seen: dict[str, str],
        origin: dict[str, str],
        output_dir: Path,
        stream: TextIO | None,
        stop: StopRequest | None = None,
    ) -> None:
        self.stop = StopRequest() if stop is None else stop
        self.trained, self.recipe, self.rank = trained, recipe, rank
        self.sampler, self.slices, self.teacher = sampler, slices, teacher
        self.seen, self.origin, self.output_dir, self.stream = seen, origin, output_dir, stream
        self.network = trained.network
        self.network.to(rank.device)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        choose_trained(self.network, recipe)
        self.optimizer = build_optimizer(self.network, recipe.optimizer)
        self.steps = recipe.schedule.epochs * len(sampler)
        self.scheduler = build_scheduler(self.optimizer, recipe.schedule, self.steps)
        self.batches = Batches(dataset, sampler, recipe.data.workers)
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
        if book is not None and book.epochs and self.progress.best_score is not None:
            # A run may be killed between its validation and the checkpoint that would tell of it.
            self.progress.best_score = max(row["mean"] for row in book.epochs)
        done, left_over = divmod(self.progress.step, len(self.sampler))
        if not left_over and not from_first(lambda: self._is_validated(book, done)):
            self._validate(book, epoch=done)
        if not start_only:
            if book is not None and not self.progress.step:
                self._save(LAST_FILE)  # one that is killed early need not calibrate again
            self._train(book)
        if book is not None:
            self._tell_the_best(book)
            book.close()

    def _train(self, book: Logbook | None) -> None:
        """Do the epochs that are left, each with its validation."""
        pace = Pace(self.steps - self.progress.step, self.stream, "Step")
        saved = time.monotonic()
        first_step, first_s = self.progress.step, self.progress.step_s
        for epoch in range(self.progress.step // len(self.sampler), self.recipe.schedule.epochs):
            self.sampler.set_epoch(epoch, self.progress.step % len(self.sampler))
            for samples in self._unbroken():
                parts = self._step(samples)
                if book is not None:
                    book.add_step(self.progress.step - 1, parts)
                each_s = (self.progress.step_s - first_s) / (self.progress.step - first_step)
                pace.advance(f"epoch {epoch + 1}, loss {parts['loss']:.3f}", self._left_s(each_s))
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
        pace.close()

    def _unbroken(self) -> Iterator[list[Sample]]:
        """Yield the batches of the epoch; what was done is kept where a file turns out broken."""
        try:
            yield from self.batches
        except DataError:
            if self.rank.is_first:
                self._save(LAST_FILE)
            raise

    def _left_s(self, step_s: float) -> float:
        """Return what steps and validations that are left take, in seconds."""
        progress = self.progress
        validations = self.recipe.schedule.epochs - progress.step // len(self.sampler)
        each_s = progress.validation_s / max(progress.validations, 1)
        return (self.steps - progress.step) * step_s + validations * each_s

    def _tell_the_best(self, book: Logbook) -> None:
        best = max(book.epochs, key=lambda row: row["mean"])
        logger.info(
            "Best is epoch %d, after step %d: %s %.2f, at the start %.2f; %s",
            best["epoch"],
            best["step"],
            self._score_name,
            100 * best["mean"],
            100 * book.epochs[0]["mean"],
            self.output_dir / BEST_FILE,
        )

    @property
    def _score_name(self) -> str:
        return "DSC and NSD" if self.recipe.validation.contours else "DSC"

    def _is_validated(self, book: Logbook | None, epoch: int) -> bool:
        """Say whether an epoch was scored before the run was stopped, and its score kept."""
        rows = book.epochs if book is not None and self.progress.best_score is not None else []
        return any(row["epoch"] == epoch for row in rows)

    def _step(self, samples: Sequence[Sample]) -> dict[str, float]:
        started = time.monotonic()
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
        self.progress.step_s += time.monotonic() - started
        named = dict(zip(LOSS_PARTS, values, strict=True))
        return {**named, "rate": self.recipe.optimizer.learning_rate * share}

    def _validate(self, book: Logbook | None, epoch: int) -> None:
        """Score the network, all processes together; keep it where no epoch before was better."""
        started = time.monotonic()
        settings = self.recipe.validation
        pace = Pace(len(self.slices), self.stream, "Validation, image")

        def go_on() -> None:
            pace.advance(f"epoch {epoch}")
            self.stop.check()

        by_modality = validate(
            self.validated,
            self.slices,
            self._autocast(),
            contours=settings.contours,
            on_slice=go_on,
        )
        pace.close()
        took_s = time.monotonic() - started
        self.progress.validation_s += took_s
        self.progress.validations += 1
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
            self._score_name,
            100 * scores["mean"],
            ", ".join(f"{name} {100 * value:.1f}" for name, value in by_modality.items()),
            took_s,
        )

    def _save(self, name: str, scores: dict[str, float] | None = None) -> None:
        """Write the network with its scores or, without, all that is needed to go on.

        The state of the EMA has the whole network, also what is frozen and buffers.
        """
        account = {
            "recipe": self.recipe.model_dump(),
            "steps": self.progress.step,
            "images": self.progress.images,
            "hours": round((self.progress.step_s + self.progress.validation_s) / 3600, 2),
            "data": self.seen,
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
