"""The volumes and images of a series, and which of them is taken.

A volume is a stack of parallel grey frames, one at each position; where there are several, what
the files say of echoes, b-values, phases and the like tells them apart. Frames that do not say
where they lie are a volume if they are grey and of one file. Whatever else is an image alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePath

import numpy as np

from ...system.files import printable
from ..scan import FormatError, SeveralVolumesError
from .frames import Frame
from .phases import in_order, tell_apart
from .planes import Plane
from .series import in_short
from .traits import stack_of

SAME_DIRECTION = 1e-3  # of the cosines of orientations
SAME_SPACING = 1e-3  # of the distances of pixels, so that 500 of them end within half a pixel
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


def volumes_of(frames: Iterable[Frame]) -> list[Volume]:
    """Return the volumes and images that frames are, in the order of their numbers."""
    found: list[tuple[int, Volume]] = []
    ordered = in_order(list(frames))
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
    if frames[0].plane is None:
        return [Volume(tuple(frames), _described(frames, ()))]
    return [
        Volume(tuple(part.frames), _described(part.frames, part.label), part.problem)
        for part in tell_apart(frames)
    ]


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
