"""Options that many measurements have."""

from __future__ import annotations

import argparse
from collections.abc import Collection
from pathlib import Path

from qmedsam.options import at_least


def add_count(
    parser: argparse.ArgumentParser, name: str, default: int, text: str = "", *, least: int = 1
) -> None:
    """Add an option that counts something."""
    words = f"{text} (default: %(default)s)".strip()
    parser.add_argument(name, type=at_least(least), default=default, metavar="N", help=words)


def add_path(parser: argparse.ArgumentParser, name: str, default: Path, text: str = "") -> None:
    """Add an option that takes a file or folder."""
    words = f"{text} (default: %(default)s)".strip()
    parser.add_argument(name, type=Path, default=default, help=words)


def add_seconds(parser: argparse.ArgumentParser, name: str, default: float, text: str) -> None:
    """Add an option that bounds how long something goes on."""
    words = f"{text} (default: %(default)s s)"
    parser.add_argument(name, type=float, default=default, metavar="S", help=words)


def add_choices(
    parser: argparse.ArgumentParser,
    name: str,
    choices: Collection[str],
    text: str,
    *,
    default: Collection[str] | None = None,
) -> None:
    """Add an option that takes some of several; without a `default` that is all."""
    chosen = list(choices if default is None else default)
    words = f"{text} (default: {' '.join(chosen)})"
    parser.add_argument(name, nargs="+", choices=list(choices), default=chosen, help=words)


def add_precision(parser: argparse.ArgumentParser, default: str) -> None:
    """Add the precision of the layers that are not in int8."""
    words = "of the layers that are not in int8 (default: %(default)s)"
    parser.add_argument("--precision", choices=["f32", "bf16"], default=default, help=words)
