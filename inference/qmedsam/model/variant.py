"""Which of the models that ship suits this processor.

8-bit products are quicker than those in float where one instruction multiplies and adds four of
them (VNNI; processors with AMX have it too). Without it the runtime adds pairs of products in 16
bits, which is hardly quicker and overflows.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from ..config import Variant
from ..errors import ModelError
from ..system.processor import processor_flags

INT8: Literal["int8"] = "int8"  # a variant, and the precision in a manifest
VNNI_FLAGS = {"avx512_vnni", "avx_vnni"}


def has_vnni() -> bool:
    """Say whether the processor is known to multiply and add 8-bit integers in one instruction."""
    return not VNNI_FLAGS.isdisjoint(processor_flags())


def choose_variant(variant: Variant) -> Literal["int8", "float"]:
    """Return the variant that is asked for, or that suits this processor."""
    if variant == "auto":
        return INT8 if has_vnni() else "float"
    return variant


def default_model_dir(variant: Variant = "auto") -> Path:
    """Return the folder of a model that ships: in the package, or above it in a checkout.

    `auto` takes the float model where the installation has been slimmed to that one.

    Raises:
        ModelError: the installation has no such model.
    """
    package = Path(__file__).resolve().parents[1]
    for root in (package, package.parents[1]):
        if folder := _variant_in(root / "models", variant):
            return folder
    raise ModelError(
        f"No {choose_variant(variant)} model ships with this installation of {package}"
    )


def find_model(model_dir: Path | None, variant: Variant = "auto") -> Path:
    """Return the folder of the model to run.

    Args:
        model_dir: of one model, or of several in folders that are named like variants; None takes
            those that ship.
        variant: which of several.

    Raises:
        ModelError: there is no such model, or one alone of which a variant is asked for, or its
            folder cannot be looked at.
    """
    if model_dir is None:
        return default_model_dir(variant)
    try:
        return _model_in(model_dir, variant)
    except OSError as error:
        raise ModelError(f"Model folder {model_dir} cannot be read: {error}") from error


def _model_in(model_dir: Path, variant: Variant) -> Path:
    if not any((model_dir / name).is_dir() for name in ("int8", "float")):
        if variant != "auto":
            raise ModelError(
                f"Model folder {model_dir} is of one model, and must have folders int8 and float "
                f"to choose {variant} of"
            )
        return model_dir
    folder = _variant_in(model_dir, variant)
    if folder is None:
        raise ModelError(f"Model folder {model_dir} must have a folder {choose_variant(variant)}")
    return folder


def _variant_in(folder: Path, variant: Variant) -> Path | None:
    """Return the folder of a variant; of `auto` the float model's where it is the only one."""
    chosen = choose_variant(variant)
    names = (chosen, "float") if variant == "auto" else (chosen,)
    return next((folder / name for name in names if (folder / name).is_dir()), None)
