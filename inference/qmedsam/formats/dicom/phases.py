"""Frames at one position: what tells echoes, b-values, phases and the like apart.

What the files say does, where it is the same at every position; else the order of the files, where
one volume comes after the other or one position after the other. Anything else would mix them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ..scan import FormatError
from .frames import Frame
from .traits import TRAITS, trait_of

SAME_POSITION_MM = 1e-3


@dataclass(frozen=True)
class Phase:
    """Parallel frames, one at each position.

    Attributes:
        frames: by position.
        label: what tells them from the others, in words; empty if there are none.
        problem: why they could not be told from others, a sentence; empty if they could.
    """

    frames: list[Frame]
    label: tuple[str, ...]
    problem: str = ""


def tell_apart(frames: list[Frame]) -> list[Phase]:
    """Return the phases that parallel frames are, which say where they lie."""
    positions = _positions(frames)
    by_label: dict[tuple[str, ...], list[int]] = {}
    for place, label in enumerate(_labels(frames, positions)):
        by_label.setdefault(label, []).append(place)
    return [
        phase
        for label, places in by_label.items()
        for phase in _by_rank([frames[place] for place in places], positions[places], label)
    ]


def in_order(frames: Sequence[Frame]) -> list[Frame]:
    """Return frames in the order of the numbers of their files; of names, if these do not tell."""
    return [frames[place] for place in _order(frames)]


def _positions(frames: list[Frame]) -> NDArray[np.intp]:
    """Return the number of the position of each frame along their normal."""
    planes = [frame.plane for frame in frames if frame.plane is not None]
    along = np.array([plane.position @ planes[0].normal for plane in planes])
    order = np.argsort(along, kind="stable")
    positions = np.zeros(len(frames), dtype=np.intp)
    positions[order[1:]] = np.cumsum(np.diff(along[order]) > SAME_POSITION_MM)
    return positions


def _labels(frames: list[Frame], positions: NDArray[np.intp]) -> list[tuple[str, ...]]:
    """Return what tells the frames at one position apart, the same at all positions.

    A trait that differs from position to position, such as a time, is none that makes volumes.
    """
    labels: list[tuple[str, ...]] = [()] * len(frames)
    counts = np.bincount(positions)
    fullest = np.flatnonzero(counts == counts.max())
    for keyword, word in TRAITS.items():
        if len(set(zip(labels, positions.tolist(), strict=True))) == len(frames):
            break
        values = [trait_of(frame, keyword) for frame in frames]
        tried = [
            (*label, f"{word} {value}" if value else f"no {word}")
            for label, value in zip(labels, values, strict=True)
        ]
        at_fullest = {
            frozenset(tried[place] for place in np.flatnonzero(positions == position))
            for position in fullest
        }
        if at_fullest == {frozenset(tried)} and len(set(tried)) > len(set(labels)):
            labels = tried
    return labels


def _by_rank(
    frames: list[Frame], positions: NDArray[np.intp], label: tuple[str, ...]
) -> list[Phase]:
    """Return phases of frames where nothing but their order tells those at one position apart.

    The first at each position are a phase, the second another. That holds if all of one phase
    come before all of the next, or, where each position has equally many, all of one position do.
    """
    order = _order(frames)
    frames, positions = [frames[place] for place in order], positions[order]
    seen: Counter[int] = Counter()
    by_rank: dict[int, list[int]] = {}
    by_position: dict[int, list[int]] = {}
    for place, position in enumerate(positions.tolist()):
        by_rank.setdefault(seen[position], []).append(place)
        by_position.setdefault(position, []).append(place)
        seen[position] += 1
    is_even = len(set(seen.values())) == 1
    if not _follow(by_rank.values()) and not (is_even and _follow(by_position.values())):
        return [Phase(frames, label, _mixed(frames, by_position))]
    phases = []
    for number, places in enumerate(by_rank.values(), 1):
        part = [frames[place] for place in sorted(places, key=lambda place: positions[place])]
        of_all = (f"{number} of {len(by_rank)} at each position",) if len(by_rank) > 1 else ()
        phases.append(Phase(part, (*label, *of_all)))
    return phases


def _order(frames: Sequence[Frame]) -> list[int]:
    """Return the places of frames in their order; see `in_order`."""
    keys: list[tuple[object, ...]] = [(_number(frame), frame.index) for frame in frames]
    is_numbered = len(set(keys)) == len(keys) and all(key[0] != np.inf for key in keys)
    if not is_numbered:
        keys = [(*_parts(frame.header.file.name), frame.index) for frame in frames]
    return sorted(range(len(frames)), key=keys.__getitem__)


def _number(frame: Frame) -> float:
    """Return the number of a frame's file, infinite without one."""
    try:
        number = frame.header.attributes.number("InstanceNumber")
    except FormatError:
        number = None
    return np.inf if number is None else number


def _parts(name: str) -> list[object]:
    """Return the parts of a name by which 10 comes after 9."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]


def _follow(groups: Iterable[list[int]]) -> bool:
    """Whether all of each group come before all of the next."""
    return all(one[-1] < following[0] for one, following in pairwise(groups))


def _mixed(frames: list[Frame], by_position: dict[int, list[int]]) -> str:
    """Say which frames lie at one position, and that nothing tells them apart."""
    fullest = max(by_position.values(), key=len)
    first, second = (frames[place].name for place in fullest[:2])
    return (
        f"{first} and {second} must lie at different positions, or say of which volume they are; "
        "they lie at one, and what is there of the others does not tell"
    )
