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
    chosen = choose_variant(variant)
    package = Path(__file__).resolve().parents[1]
    for name in (chosen, "float") if variant == "auto" else (chosen,):
        for root in (package, package.parents[1]):
            folder = root / "models" / name
            if folder.is_dir():
                return folder
    raise ModelError(f"No {chosen} model ships with this installation of {package}")
