"""Frozen settings of a run.

They are checked when they are made, so that whoever holds one can trust it.
"""

from __future__ import annotations

import numbers
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

Variant = Literal["auto", "int8", "float"]
Precision = Literal["auto", "f32", "bf16"]
VolumePrompt = Literal["fixed", "propagate", "hybrid"]
Regions = Literal["auto", "whole"]
OnError = Literal["skip", "empty"]

VARIANTS: tuple[Variant, ...] = get_args(Variant)
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
ON_ERROR: tuple[OnError, ...] = get_args(OnError)
REGIONS: tuple[Regions, ...] = get_args(Regions)
VOLUME_PROMPTS: tuple[VolumePrompt, ...] = get_args(VolumePrompt)


@dataclass(frozen=True)
class Settings:
    """How a `Segmenter` runs its model.

    Attributes:
        variant: which of two models, those that ship or yours; `auto` is int8 where the processor
            has VNNI, else float. Of a single model nothing else can be asked for.
        precision: of the layers that are not in int8; `auto` is what the processor runs fastest.
        threads: for the network; 0 lets the runtime choose.
        box_batch_size: most boxes in one decoder call; None derives it from the memory limit.
        volume_prompt: `fixed` prompts each slice with the object's own box, `propagate` goes
            outward from the middle slice and prompts with the box of the neighbour's mask, `hybrid`
            does that within the object's own box. `fixed` and `hybrid` expect the box of the whole
            object, its largest extent over all slices; `propagate` works with that of the middle
            one. `fixed` scores best on average, `hybrid` on CT (docs/decisions.md).
        regions: `auto` encodes regions round the boxes, near their own resolution; `whole` reduces
            the whole image to the model frame, as LiteMedSAM does.
        cache_dir: folder for compiled models, which makes the next start quicker; None is off.
    """

    variant: Variant = "auto"
    precision: Precision = "auto"
    threads: int = 0
    box_batch_size: int | None = None
    volume_prompt: VolumePrompt = "fixed"
    regions: Regions = "auto"
    cache_dir: Path | None = None

    def __post_init__(self) -> None:
        if self.variant not in VARIANTS:
            raise ValueError(f"Variant must be one of {VARIANTS}, got {self.variant!r}")
        if self.precision not in PRECISIONS:
            raise ValueError(f"Precision must be one of {PRECISIONS}, got {self.precision!r}")
        if self.volume_prompt not in VOLUME_PROMPTS:
            raise ValueError(
                f"Volume prompt must be one of {VOLUME_PROMPTS}, got {self.volume_prompt!r}"
            )
        if self.regions not in REGIONS:
            raise ValueError(f"Regions must be one of {REGIONS}, got {self.regions!r}")
        if not is_whole_number(self.threads) or self.threads < 0:
            raise ValueError(f"Threads must be a whole number, 0 or more, got {self.threads!r}")
        if self.cache_dir is not None:  # a string will do
            object.__setattr__(self, "cache_dir", as_path(self.cache_dir, "Cache folder"))
        size = self.box_batch_size
        if size is not None and (not is_whole_number(size) or size < 1):
            raise ValueError(f"Box batch size must be a whole number, 1 or more, got {size!r}")


def as_path(value: object, what: str) -> Path:
    """Return a path.

    Args:
        value: to be one.
        what: it is, with which the message begins.

    Raises:
        TypeError: it is none.
    """
    if isinstance(value, str):
        return Path(value)
    if isinstance(value, os.PathLike) and isinstance(found := os.fspath(value), str):
        return Path(found)
    raise TypeError(f"{what} must be a str or pathlib.Path, got {type(value).__name__}")


def is_whole_number(value: object) -> bool:
    """Say whether a value is an integer, of Python or NumPy."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)
