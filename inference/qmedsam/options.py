"""Options of every command that runs the model."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path

from .config import PRECISIONS, REGIONS, VARIANTS, VOLUME_PROMPTS, Settings

CACHE_VARIABLE = "QMEDSAM_CACHE_DIR"


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add which model is run, and how."""
    parser.add_argument(
        "--variant",
        choices=VARIANTS,
        default=Settings.variant,
        help="which of two models; auto is int8 where the processor has VNNI, else float (default: "
        "%(default)s)",
    )
    parser.add_argument(
        "--model-dir",
        type=Path,
        metavar="DIR",
        help="an exported model, or a folder with both, instead of those that ship",
    )
    parser.add_argument(
        "--cache-dir",
        type=Path,
        default=default_cache_dir(),
        metavar="DIR",
        help="folder for compiled models; only read when unwritable (default: "
        f"${CACHE_VARIABLE}, or qmedsam in the user's cache folder; an empty variable is off)",
    )
    parser.add_argument(
        "--volume-prompt",
        choices=VOLUME_PROMPTS,
        default=Settings.volume_prompt,
        help="fixed: the object's box on each slice; propagate: from the middle slice outward, the "
        "box of the neighbour's mask; hybrid: that within the object's box (default: %(default)s)",
    )
    parser.add_argument(
        "--regions",
        choices=REGIONS,
        default=Settings.regions,
        help="auto: encode regions round the boxes, near their own resolution; whole: the whole "
        "image, reduced (default: %(default)s)",
    )
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        default=Settings.precision,
        help="of the layers that are not in int8; auto is what the processor runs fastest "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--threads", type=at_least(0), default=0, metavar="N", help="0 is automatic (default: 0)"
    )
    parser.add_argument(
        "--box-batch-size",
        type=_box_batch_size,
        metavar="N|auto",
        help="most boxes decoded at once; auto goes by the memory limit (default: auto)",
    )


def read_settings(arguments: argparse.Namespace) -> Settings:
    """Return the settings that the options say."""
    return Settings(
        variant=arguments.variant,
        precision=arguments.precision,
        threads=arguments.threads,
        box_batch_size=arguments.box_batch_size,
        volume_prompt=arguments.volume_prompt,
        regions=arguments.regions,
        cache_dir=arguments.cache_dir,
    )


def default_cache_dir() -> Path | None:
    """Return the cache folder of the environment or of the user; None where there is none.

    An empty variable switches the cache off.
    """
    named = os.environ.get(CACHE_VARIABLE)
    if named is not None:
        return Path(named) if named else None
    if user := os.environ.get("XDG_CACHE_HOME"):
        return Path(user) / "qmedsam"
    try:
        return Path("~/.cache/qmedsam").expanduser()
    except RuntimeError:  # no home
        return None


def at_least(lowest: int) -> Callable[[str], int]:
    """Return the type of an option that is a number of `lowest` or more."""

    def number(text: str) -> int:
        if not text.isdecimal() or int(text) < lowest:
            raise argparse.ArgumentTypeError(f"must be a number of {lowest} or more, got {text!r}")
        return int(text)

    return number


def _box_batch_size(text: str) -> int | None:
    return None if text == "auto" else at_least(1)(text)
