"""What the names of pictures say of slices: their order, and whether all are of one volume."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence
from pathlib import PurePath

from .scan import FormatError

DIGITS = re.compile(r"(\d+)")
NUMBER = re.compile(r"(\d+(?:\.\d+)*)")  # the parts of a version or UID are one
ANY_NUMBER = "#"
MOST_LISTED = 3  # gaps or kinds of names, in a message


def in_order(names: Iterable[str]) -> list[str]:
    """Return names in the order of the numbers in them."""
    return sorted(names, key=_place)


def numbers_of(folder: str, names: Sequence[str]) -> list[str]:
    """Return of each name the number that tells it from others; none of a single one.

    It is the first in which names differ. What comes after it is of the slice as well, as its
    place; names that share it are of several volumes.

    Args:
        folder: for messages.
        names: of files.

    Raises:
        FormatError: the names are of several volumes, as of images and their labels.
    """
    if len(names) < 2:
        return []
    parts = [NUMBER.split(PurePath(name.lower()).stem) for name in names]
    _check_one(folder, [_pattern(each, 0) for each in parts])
    numbers = list(zip(*(each[1::2] for each in parts), strict=True))
    first = next((place for place, each in enumerate(numbers) if len(set(each)) > 1), None)
    if first is None:  # as where names differ in capitals alone
        return []
    if len(set(numbers[first])) < len(names):
        _check_one(folder, [_pattern(each, first + 1) for each in parts])
    return list(numbers[first])


def find_gaps(numbers: Sequence[str]) -> str:
    """Say, in a sentence, that numbers of slices leave some out; nothing if they do not."""
    if not all(each.isdecimal() for each in numbers):
        return ""
    pairs = list(itertools.pairwise(sorted(int(each) for each in numbers)))
    step = min((high - low for low, high in pairs), default=0)
    gaps = [f"{low} to {high}" for low, high in pairs if high - low > step]
    if not gaps:
        return ""
    return f"Numbers in the names of slices leap from {_listed(gaps)}: some may be missing."


def _check_one(folder: str, patterns: Iterable[str]) -> None:
    """Check that there is one pattern.

    Raises:
        FormatError: there are several.
    """
    found = sorted(set(patterns))
    if len(found) > 1:
        raise FormatError(
            f"{folder} must have slices of one volume, whose names differ in their number, got "
            f"{_listed(found)}"
        )


def _pattern(parts: Sequence[str], kept: int) -> str:
    """Return a name without its numbers but for the first ones.

    Args:
        parts: text and numbers of it in turn.
        kept: how many numbers stay.
    """
    whole = [ANY_NUMBER if place % 2 else part for place, part in enumerate(parts)]
    return "".join([*parts[: 2 * kept], *whole[2 * kept :]])


def _listed(texts: Sequence[str]) -> str:
    return ", ".join([*texts[:MOST_LISTED], *(["..."] if len(texts) > MOST_LISTED else [])])


def _place(name: str) -> list[tuple[int, str]]:
    parts = DIGITS.split(name.lower())
    return [(int(part), part) if part.isdecimal() else (-1, part) for part in parts]
