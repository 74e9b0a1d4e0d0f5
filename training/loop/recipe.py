"""Recipes: what one stage of training does, as TOML that states what differs from the defaults."""

from __future__ import annotations

import copy
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
)

from qmedsam.config import Regions
from training.data.augment import Augmentation
from training.data.sampler import SLICE_RULE_TEXT, Balance, is_slice_rule
from training.data.terms import TermsRule
from training.quantization.config import Part, QuantConfig
from training.settings import CheckedSettings, List, Probability, explain

OptimizerName = Literal["sgd", "adamw"]


class RecipeError(ValueError):
    """A recipe cannot be read, or asks for what there is not."""


def _slice_rule(value: object) -> object:
    if not is_slice_rule(value):
        raise ValueError(SLICE_RULE_TEXT)
    return value


class DataSettings(CheckedSettings):
    """Which slices an epoch shows.

    Attributes:
        slices: of each modality; `min`, `tenth`, `all` or a number (`training.data.sampler`).
        exclude: folders of the training data that are left out, such as `CT/Aorta`.
        terms: which folders are seen by their terms (`training.data.terms`): `all`; `not forbidden`
            leaves out those that forbid commercial use, `allowed` also those that do not state it.
        balance: what of a modality is drawn evenly: `slices`; `files`, so that a long volume does
            not outweigh the others; or `datasets`, so that a large one does not, and their files.
        regions: probability that a region is shown that serving would choose, not the whole image.
        batch_size: images of a step on one device, where `global_batch` is 0.
        global_batch: images of a step on all devices, of which each takes as many; a run may then
            go on with another number of devices.
        objects_per_image: most objects of an image that are prompted.
        other_boxes: drawn anywhere on an image, for `loss.imitation`.
        workers: processes that make samples.
        cache_mb: of decompressed volumes in each of them.
    """

    slices: Annotated[str | int, BeforeValidator(_slice_rule)] = "min"
    exclude: List[str] = ()
    terms: TermsRule = "all"
    balance: Balance = "slices"
    regions: Probability = 0.0
    batch_size: PositiveInt = 2
    global_batch: NonNegativeInt = 0
    objects_per_image: PositiveInt = 4
    other_boxes: NonNegativeInt = 0
    workers: NonNegativeInt = 1
    cache_mb: NonNegativeInt = 256

    def batch_of_each(self, processes: int) -> int:
        """Return how many images of a step one process takes.

        Raises:
            RecipeError: the global batch cannot be shared equally.
        """
        each, left = divmod(self.global_batch, processes)
        if left:
            raise RecipeError(
                f"data.global_batch must be a multiple of the number of processes, {processes}, "
                f"got {self.global_batch}"
            )
        return each or self.batch_size


class LossSettings(CheckedSettings):
    """Weights of the parts of the loss; see `training.loop.losses`.

    Attributes:
        quality: of the IoU that is predicted of each mask; at 0 its head does not learn.
        imitation: of the teacher's masks of `data.other_boxes`, so that what the teacher knows of
            other structures than those with a truth is not lost.
        focal_gamma: how much less a pixel counts the surer it is.
    """

    dice: NonNegativeFloat = 1.0
    focal: NonNegativeFloat = 1.0
    distillation: NonNegativeFloat = 1.0
    quality: NonNegativeFloat = 0.0
    imitation: NonNegativeFloat = 0.0
    focal_gamma: NonNegativeFloat = 2.0


class OptimizerSettings(CheckedSettings):
    """How weights move.

    Attributes:
        name: `sgd`, as in Table 3 of the paper, or `adamw`.
        learning_rate: at its highest.
        range_rate: factor on it for what is learned of ranges: the logarithm of scales, so that a
            step changes each by as many percent, and zero points in units of the activation.
        momentum: of `sgd`.
        weight_decay: of weights; not of biases, norms, scales and zero points.
        clip_norm: longest gradient; 0 is off.
        ema_decay: of the exponential moving average (EMA) of the weights, which is validated and
            kept in place of the weights of the last step; 0 is off.
    """

    name: OptimizerName = "sgd"
    learning_rate: NonNegativeFloat = 0.01
    range_rate: NonNegativeFloat = 1.0
    momentum: NonNegativeFloat = 0.9
    weight_decay: NonNegativeFloat = 0.0
    clip_norm: NonNegativeFloat = 0.0
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.0


class ScheduleSettings(CheckedSettings):
    """The learning rate over the epochs, Section 3.3 and Table 3 of the paper.

    Attributes:
        warmup_epochs: N_w, from 1 % to the whole rate.
        annealing_epochs: N_a, of which the first is the last of the warm-up: down to 0.1 % along
            a cosine of half-period N_a - 1.
    """

    warmup_epochs: PositiveInt = 5
    annealing_epochs: PositiveInt = 10

    @property
    def epochs(self) -> int:
        """Epochs in all."""
        return self.warmup_epochs + self.annealing_epochs - 1


class ValidationSettings(CheckedSettings):
    """What every epoch is validated on: all images, some slices of each volume.

    Attributes:
        slices_per_volume: evenly among those with objects.
        contours: whether the score is the mean of DSC and NSD on contours, not DSC alone.
        objects_per_image: most objects scored on an image.
        regions: what the network sees, as in serving: `auto` the regions round the boxes, `whole`
            the whole image.
    """

    slices_per_volume: PositiveInt = 4
    contours: bool = False
    objects_per_image: PositiveInt = 8
    regions: Regions = "whole"


class Recipe(CheckedSettings):
    """One stage of training.

    Attributes:
        name: of the stage.
        quantized: parts that are quantized in this stage.
        trained: parts whose weights and ranges move.
        frozen: modules of them that do not, by their full names.
        calibration_images: that the ranges of newly quantized parts start from.
        needs_init: whether `--init` must say what to begin with, as best.pt of the stage before;
            else published weights do.
        seed: of everything drawn at random.
    """

    name: str
    quantized: List[Part] = ("image_encoder",)
    trained: Annotated[List[Part], Field(min_length=1)] = ("image_encoder",)
    frozen: List[str] = ()
    calibration_images: PositiveInt = 44
    needs_init: bool = False
    seed: NonNegativeInt = 0
    quant: QuantConfig = QuantConfig()
    data: DataSettings = DataSettings()
    augmentation: Augmentation = Augmentation()
    loss: LossSettings = LossSettings()
    optimizer: OptimizerSettings = OptimizerSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    validation: ValidationSettings = ValidationSettings()


def read_recipe(path: Path, changes: Sequence[str] = ()) -> Recipe:
    """Read a recipe.

    Args:
        path: of the TOML file.
        changes: to it, each as TOML: `data.slices = 900`.

    Raises:
        RecipeError: the file is missing or no TOML, or it or a change has a key that is none or a
            wrong value; the message says which.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(f"{path} must be a recipe, but cannot be read: {error}") from error
    except ValueError as error:
        raise RecipeError(f"{path}: {error}") from error
    changed = copy.deepcopy(document)
    for change in changes:
        try:
            _merge(changed, tomllib.loads(change))
        except ValueError as error:
            raise RecipeError(f"--set {change} must be KEY=VALUE as in TOML: {error}") from error
    try:
        return recipe_of(changed)
    except RecipeError as error:
        source = "--set" if _is_recipe(document) else path
        raise RecipeError(f"{source}: {error}") from error


def recipe_of(document: dict[str, Any]) -> Recipe:
    """Build a recipe from what TOML or `Recipe.model_dump` gives.

    Raises:
        RecipeError: a key is none, or a value is wrong; the message names it.
    """
    try:
        return Recipe.model_validate(document)
    except ValidationError as error:
        raise RecipeError(explain(error, Recipe)) from error


def differences(kept: Recipe, recipe: Recipe) -> list[str]:
    """Return the keys in which two recipes differ, as `data.slices 18 and not 900`."""
    before, after = (_flat(one.model_dump()) for one in (kept, recipe))
    return [
        f"{key} {before[key]!r} and not {after[key]!r}"
        for key in before
        if before[key] != after[key]
    ]


def _flat(document: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the values of nested tables by their whole keys."""
    flat: dict[str, Any] = {}
    for key, value in document.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def _is_recipe(document: dict[str, Any]) -> bool:
    try:
        recipe_of(document)
    except RecipeError:
        return False
    return True


def _merge(document: dict[str, Any], change: dict[str, Any]) -> None:
    for name, value in change.items():
        if isinstance(value, dict) and isinstance(document.get(name), dict):
            _merge(document[name], value)
        else:
            document[name] = value
