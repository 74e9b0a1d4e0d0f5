"""Recipes: what one stage of training does, as TOML that states what differs from the defaults."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from training.data.augment import Augmentation
from training.quantization.config import PARTS, Part, QuantConfig

OptimizerName = Literal["sgd", "adamw"]
SLICE_RULES = ("min", "tenth", "all")


class RecipeError(ValueError):
    """A recipe cannot be read, or asks for what there is not."""


@dataclass(frozen=True)
class DataSettings:
    """Which slices an epoch shows.

    Attributes:
        slices: of each modality; `min`, `tenth`, `all` or a number (`training.data.sampler`).
        balance_files: draw files evenly, so that a long volume does not outweigh the others.
        batch_size: images of a step on one device, where `global_batch` is 0.
        global_batch: images of a step on all devices, of which each takes as many; a run may then
            go on with another number of devices.
        objects_per_image: most objects of an image that are prompted.
        workers: processes that make samples.
        cache_mb: of decompressed volumes in each of them.
    """

    slices: str | int = "min"
    balance_files: bool = False
    batch_size: int = 2
    global_batch: int = 0
    objects_per_image: int = 4
    workers: int = 1
    cache_mb: int = 256

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


@dataclass(frozen=True)
class LossSettings:
    """Weights of the parts of the loss; see `training.loop.losses`.

    Attributes:
        focal_gamma: how much less a pixel counts the surer it is.
    """

    dice: float = 1.0
    focal: float = 1.0
    distillation: float = 1.0
    focal_gamma: float = 2.0


@dataclass(frozen=True)
class OptimizerSettings:
    """How weights move.

    Attributes:
        name: `sgd`, as in Table 3 of the paper, or `adamw`.
        learning_rate: at its highest.
        range_rate: factor on it for what is learned of ranges: the logarithm of scales, so that a
            step changes each by as many percent, and zero points in units of the activation.
        momentum: of `sgd`.
        weight_decay: of weights; not of biases, norms, scales and zero points.
        clip_norm: longest gradient; 0 is off.
        averaging: decay of a running mean of what is trained, which is judged and kept in place of
            the weights of the last step; 0 is off.
    """

    name: OptimizerName = "sgd"
    learning_rate: float = 0.01
    range_rate: float = 1.0
    momentum: float = 0.9
    weight_decay: float = 0.0
    clip_norm: float = 0.0
    averaging: float = 0.0


@dataclass(frozen=True)
class ScheduleSettings:
    """The learning rate over the epochs, Section 3.3 and Table 3 of the paper.

    Attributes:
        warmup_epochs: N_w, from 1 % to the whole rate.
        annealing_epochs: N_a, of which the first is the last of the warm-up: down to 0.1 % along
            a cosine of half-period N_a - 1.
    """

    warmup_epochs: int = 5
    annealing_epochs: int = 10

    @property
    def epochs(self) -> int:
        """Epochs in all."""
        return self.warmup_epochs + self.annealing_epochs - 1


@dataclass(frozen=True)
class ValidationSettings:
    """What every epoch is judged by: all images, some slices of each volume.

    Attributes:
        slices_per_volume: evenly among those with objects.
        objects_per_image: most objects scored on an image.
    """

    slices_per_volume: int = 4
    objects_per_image: int = 8


@dataclass(frozen=True)
class Recipe:
    """One stage of training.

    Attributes:
        name: of the stage.
        quantized: parts that are quantized in this stage.
        trained: parts whose weights and ranges move.
        frozen: modules of them that do not, by their full names.
        calibration_images: that the ranges of newly quantized parts start from.
        seed: of everything drawn at random.
    """

    name: str
    quantized: tuple[Part, ...] = ("image_encoder",)
    trained: tuple[Part, ...] = ("image_encoder",)
    frozen: tuple[str, ...] = ()
    calibration_images: int = 44
    seed: int = 0
    quant: QuantConfig = field(default_factory=QuantConfig)
    data: DataSettings = field(default_factory=DataSettings)
    augmentation: Augmentation = field(default_factory=Augmentation)
    loss: LossSettings = field(default_factory=LossSettings)
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    schedule: ScheduleSettings = field(default_factory=ScheduleSettings)
    validation: ValidationSettings = field(default_factory=ValidationSettings)

    def __post_init__(self) -> None:
        for part in (*self.quantized, *self.trained):
            if part not in PARTS:
                raise ValueError(f"Parts must be of {PARTS}, got {part!r}")
        if not self.trained:
            raise ValueError("A stage must train a part, got none")
        if self.optimizer.name not in get_args(OptimizerName):
            raise ValueError(
                f"Optimizer must be one of {get_args(OptimizerName)}, got {self.optimizer.name!r}"
            )
        if not 0 <= self.optimizer.averaging < 1:
            raise ValueError(
                f"Averaging must be 0 or more and below 1, got {self.optimizer.averaging}"
            )
        for name, least, value in (
            ("data.batch_size", 1, self.data.batch_size),
            ("data.global_batch", 0, self.data.global_batch),
            ("data.objects_per_image", 1, self.data.objects_per_image),
            ("validation.slices_per_volume", 1, self.validation.slices_per_volume),
            ("validation.objects_per_image", 1, self.validation.objects_per_image),
            ("calibration_images", 1, self.calibration_images),
            ("data.workers", 0, self.data.workers),
            ("data.cache_mb", 0, self.data.cache_mb),
            ("optimizer.learning_rate", 0, self.optimizer.learning_rate),
            ("optimizer.range_rate", 0, self.optimizer.range_rate),
            ("optimizer.momentum", 0, self.optimizer.momentum),
            ("optimizer.weight_decay", 0, self.optimizer.weight_decay),
            ("optimizer.clip_norm", 0, self.optimizer.clip_norm),
            ("loss.dice", 0, self.loss.dice),
            ("loss.focal", 0, self.loss.focal),
            ("loss.distillation", 0, self.loss.distillation),
            ("loss.focal_gamma", 0, self.loss.focal_gamma),
            ("seed", 0, self.seed),
        ):
            if value < least:
                raise ValueError(f"{name} must be {least} or more, got {value}")
        check_slice_rule(self.data.slices)
        if self.schedule.warmup_epochs < 1 or self.schedule.annealing_epochs < 1:
            raise ValueError(f"Epochs must be 1 or more of each kind, got {self.schedule}")


def check_slice_rule(rule: str | int) -> None:
    """Raise `ValueError` for what is no rule of `training.data.sampler.slices_per_modality`."""
    is_count = isinstance(rule, int) and not isinstance(rule, bool) and rule > 0
    if not is_count and rule not in SLICE_RULES:
        raise ValueError(
            f"Slices must be one of {', '.join(SLICE_RULES)} or a number above 0, got {rule!r}"
        )


def read_recipe(path: Path, changes: Sequence[str] = ()) -> Recipe:
    """Read a recipe.

    Args:
        path: of the TOML file.
        changes: to it, each as TOML: `data.slices = 900`.

    Raises:
        RecipeError: the file is missing or no TOML, has a key that is none, or a wrong value.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
        for change in changes:
            _merge(document, tomllib.loads(change))
        return recipe_of(document)
    except OSError as error:
        raise RecipeError(f"{path} must be a recipe, but cannot be read: {error}") from error
    except (tomllib.TOMLDecodeError, TypeError, ValueError) as error:
        raise RecipeError(f"{path}: {error}") from error


def recipe_of(document: dict[str, Any]) -> Recipe:
    """Build a recipe from what TOML or `dataclasses.asdict` gives."""
    return _build(Recipe, document, "")


def _merge(document: dict[str, Any], change: dict[str, Any]) -> None:
    for name, value in change.items():
        if isinstance(value, dict) and isinstance(document.get(name), dict):
            _merge(document[name], value)
        else:
            document[name] = value


def _build(kind: Any, values: dict[str, Any], place: str) -> Any:
    hints = get_type_hints(kind)
    unknown = sorted(set(values) - set(hints))
    if unknown:
        known = ", ".join(hints)
        raise ValueError(f"Unknown key {place}{unknown[0]}; there are {known}")
    arguments = {}
    for name, value in values.items():
        if dataclasses.is_dataclass(hints[name]):
            if not isinstance(value, dict):
                raise ValueError(f"{place}{name} must be a table, got {value!r}")
            value = _build(hints[name], value, f"{place}{name}.")
        else:
            value = _checked(hints[name], value, f"{place}{name}")
        arguments[name] = value
    return kind(**arguments)


def _checked(hint: Any, value: Any, place: str) -> Any:
    """Return a plain value, a list as a tuple; numbers without a point are numbers with one too."""
    if get_origin(hint) is Literal:  # whose owner says which values there are
        return value
    if get_origin(hint) is tuple:
        if not isinstance(value, list | tuple):
            raise ValueError(f"{place} must be a list, got {value!r}")
        return tuple(value)
    kinds = get_args(hint) or (hint,)
    if float in kinds and type(value) is int:
        return float(value)
    if type(value) not in kinds:
        names = " or ".join(kind.__name__ for kind in kinds)
        raise ValueError(f"{place} must be of type {names}, got {value!r}")
    return value
