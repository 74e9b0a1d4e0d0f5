"""The volumes and images of a series, and which of them is taken.

A volume is a stack of parallel grey frames, one at each position; where there are several, what
the files say of echoes, b-values, phases and the like tells them apart. Frames that do not say
where they lie are a volume if they are grey and of one file. Whatever else is an image alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import PurePath

import numpy as np
from numpy.typing import NDArray

from ...system.files import printable
from ..scan import FormatError, SeveralVolumesError
from .frames import Frame
from .planes import Plane
from .series import in_short
from .traits import TRAITS, stack_of, trait_of

SAME_DIRECTION = 1e-3  # of the cosines of orientations
SAME_SPACING = 1e-3  # of the distances of pixels, so that 500 of them end within half a pixel
SAME_POSITION_MM = 1e-3
LONGEST_TRAIT = 48  # characters
VIEWS = ("sagittal", "coronal", "axial")  # by the axis of the normal


@dataclass(frozen=True)
class Volume:
    """Frames that belong together; a single one is an image.

    Attributes:
        frames: by position, or as stored where they do not say it.
        text: what it is, for a list to choose from.
        problem: why it cannot be taken, a sentence; empty of one that can.
    """

    frames: tuple[Frame, ...]
    text: str
    problem: str = ""

    @property
    def is_placed(self) -> bool:
        """Whether the frames say where they lie."""
        return self.frames[0].plane is not None


def volumes_of(frames: Iterable[Frame]) -> list[Volume]:
    """Return the volumes and images that frames are, in the order of their numbers."""
    found: list[tuple[int, Volume]] = []
    ordered = sorted(frames, key=_number)
    places = {id(frame): place for place, frame in enumerate(ordered)}
    for alike in _alike(ordered):
        for volume in _stacks(alike):
            found.append((min(places[id(frame)] for frame in volume.frames), volume))
    found.sort(key=lambda each: each[0])
    return [volume for _, volume in found]


def choose_volume(
    volumes: Sequence[Volume], name: str, number: int | None, left_out: Sequence[str] = ()
) -> Volume:
    """Return a volume by its number, from 1; None is the only one.

    Args:
        volumes: to choose from.
        name: of the file or folder, for messages.
        number: of the volume.
        left_out: of what files say, which may be why there are several; a sentence each.

    Raises:
        SeveralVolumesError: there are several.
        FormatError: there is none of that number, or it cannot be taken.
    """
    choices = [(place, volume.text) for place, volume in enumerate(volumes, 1)]
    if number is None and len(volumes) > 1:
        listed = in_short([f"{place}: {text}" for place, text in choices])
        raise SeveralVolumesError(
            f"{name} must hold one volume or image; choose with --volume, "
            f"got {len(volumes)}: {listed}{''.join(f' ({each})' for each in left_out[:1])}",
            choices,
        )
    if number is not None and not 1 <= number <= len(volumes):
        raise FormatError(f"{name} must hold a volume {number}, got 1 to {len(volumes)}")
    chosen = volumes[(number or 1) - 1]
    if chosen.problem:
        raise FormatError(f"{name}: {chosen.problem}")
    return chosen


def _number(frame: Frame) -> float:
    """Return the number of a frame's file, by which frames are sorted; else they stay in order."""
    try:
        number = frame.header.attributes.number("InstanceNumber")
    except FormatError:
        number = None
    return np.inf if number is None else number


def _alike(frames: Iterable[Frame]) -> list[list[Frame]]:
    """Part frames into those that may be one stack: of one size, frame of reference and plane."""
    found: list[list[Frame]] = []
    by_key: dict[object, list[list[Frame]]] = {}
    for frame in frames:
        if frame.is_colour or (frame.plane is None and frame.count == 1):
            found.append([frame])
            continue
        of_file = frame.header.file.name if frame.plane is None else ""
        reference = frame.header.attributes.lenient("FrameOfReferenceUID")
        groups = by_key.setdefault((frame.hw, reference, of_file), [])
        group = next((each for each in groups if _are_parallel(each[0], frame)), None)
        if group is None:
            groups.append([frame])
        else:
            group.append(frame)
    for groups in by_key.values():
        for group in groups:
            found.extend(_by_stack(group))
    return found


def _are_parallel(first: Frame, second: Frame) -> bool:
    """Whether two frames lie in parallel planes with rows, columns and distances alike."""
    if (first.spacing is None) != (second.spacing is None):
        return False
    if first.spacing is not None and not np.allclose(
        first.spacing, np.array(second.spacing), rtol=SAME_SPACING, atol=0
    ):
        return False
    one, other = first.plane, second.plane
    if one is None or other is None:
        return one is other
    turned = (one.along_row - other.along_row, one.along_column - other.along_column)
    return bool(np.abs(turned).max() <= SAME_DIRECTION)


def _by_stack(frames: list[Frame]) -> list[list[Frame]]:
    """Part the frames of enhanced files by the stacks that these say, unless each has its own."""
    by_stack: dict[str, list[Frame]] = {}
    for frame in frames:
        by_stack.setdefault(stack_of(frame), []).append(frame)
    if len(by_stack) == len(frames):
        return [frames]
    return list(by_stack.values())


def _stacks(frames: list[Frame]) -> list[Volume]:
    """Return the volumes that parallel frames are, each with one frame at a position."""
    positions = _positions(frames)
    if positions is None:
        return [Volume(tuple(frames), _described(frames, ()))]
    by_label: dict[tuple[str, ...], list[int]] = {}
    for place, label in enumerate(_labels(frames, positions)):
        by_label.setdefault(label, []).append(place)
    return [
        volume
        for label, places in by_label.items()
        for volume in _by_rank([frames[place] for place in places], positions[places], label)
    ]


def _positions(frames: list[Frame]) -> NDArray[np.intp] | None:
    """Return the number of the position of each frame along their normal; None of unplaced ones."""
    planes = [frame.plane for frame in frames if frame.plane is not None]
    if len(planes) < len(frames):
        return None
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
) -> list[Volume]:
    """Return volumes of frames where nothing but numbers tells those at one position apart.

    The first at each position are a volume, the second another. Where positions have not equally
    many, that holds only if all of one volume come before all of the next.
    """
    seen: Counter[int] = Counter()
    ranked: dict[int, list[int]] = {}
    for place, position in enumerate(positions.tolist()):
        ranked.setdefault(seen[position], []).append(place)
        seen[position] += 1
    ranks = list(ranked.values())
    is_even = len(set(seen.values())) == 1
    if not is_even and any(max(one) > min(next_) for one, next_ in pairwise(ranks)):
        return [Volume(tuple(frames), _described(frames, label), _mixed(frames, positions))]
    volumes = []
    for number, places in enumerate(ranks, 1):
        part = [frames[place] for place in sorted(places, key=lambda place: positions[place])]
        of_all = (f"{number} of {len(ranks)} at each position",) if len(ranks) > 1 else ()
        volumes.append(Volume(tuple(part), _described(part, (*label, *of_all))))
    return volumes


def _mixed(frames: list[Frame], positions: NDArray[np.intp]) -> str:
    """Say which frames lie at one position, and that nothing tells them apart."""
    fullest = int(np.argmax(np.bincount(positions)))
    first, second = (frames[place].name for place in np.flatnonzero(positions == fullest)[:2])
    return (
        f"{first} and {second} must lie at different positions, or say of which volume they are; "
        "they lie at one, and others there are missing"
    )


def _described(frames: list[Frame], label: tuple[str, ...]) -> str:
    """Return what a volume or image is, for a list."""
    first = frames[0]
    view = f" {_view(first.plane)}" if first.plane is not None else ""
    size = f"{first.hw[1]} x {first.hw[0]}"
    if len(frames) == 1:
        at = f", frame {first.index + 1}" if first.count > 1 else ""
        what = f"{'colour' if first.is_colour else 'grey'}{view} image of {size}{at}"
    else:
        what = f"{len(frames)}{view} slices of {size}"
    spacing = f", {first.spacing[1]:g} x {first.spacing[0]:g} mm" if first.spacing else ""
    traits = [printable(trait)[:LONGEST_TRAIT] for trait in label]
    file = PurePath(first.header.file.name).name.rstrip(",")
    return f"{', '.join([*traits, what])}{spacing}, {file}"


def _view(plane: Plane) -> str:
    return VIEWS[int(np.argmax(np.abs(plane.normal)))]
