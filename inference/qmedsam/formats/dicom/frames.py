"""The frames of a series, file by file, with what has to be alike among those of one volume."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ..scan import FormatError, check_size
from .attributes import GOT, Attributes
from .headers import Header
from .planes import Plane, groups_of, plane_of, spacing_of

COLOURS = 3  # samples of a pixel
PALETTE = "PALETTE COLOR"
MOST_FRAMES = 100_000  # of a file
Read = TypeVar("Read")


@dataclass(frozen=True)
class Frame:
    """An image in a file.

    Attributes:
        header: of its file.
        index: among the frames of the file.
        count: of these.
        groups: what an enhanced file says of it; none in another file.
        hw: rows and columns.
        is_colour: whether it becomes RGB.
        plane: where it lies; None where that is not said.
        spacing: between rows and between columns, mm; None where it is not said.
    """

    header: Header
    index: int
    count: int
    groups: tuple[Attributes, ...]
    hw: tuple[int, int]
    is_colour: bool
    plane: Plane | None
    spacing: tuple[float, float] | None

    @property
    def name(self) -> str:
        """What it is called beside the name of the folder."""
        of_file = PurePath(self.header.file.name).name
        return of_file if self.count == 1 else f"{of_file}, frame {self.index + 1},"

    def in_patient(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return where points (N, 2) in pixels lie, (N, 3) in mm; of a frame that has a place.

        Raises:
            ValueError: it has none.
        """
        plane, steps = self._steps()
        places: NDArray[np.float64] = plane.position + points @ steps
        return places

    def pixels_of(self, places: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return which pixels (N, 2) are nearest to places (N, 3) in mm; see `in_patient`."""
        plane, steps = self._steps()
        points: NDArray[np.float64] = (places - plane.position) @ np.linalg.pinv(steps)
        return points

    def _steps(self) -> tuple[Plane, NDArray[np.float64]]:
        """Return the plane, and the way from a column and a row to the next in mm, (2, 3).

        Raises:
            ValueError: the frame has no place.
        """
        if self.plane is None or self.spacing is None:
            raise ValueError(f"{self.name} must say where it lies")
        between_rows, between_columns = self.spacing
        along_row, along_column = self.plane.along_row, self.plane.along_column
        return self.plane, np.array([along_row * between_columns, along_column * between_rows])


def frames_of(headers: Sequence[Header]) -> tuple[list[Frame], list[str]]:
    """Return the frames of files, and what was left out of what they say, a sentence each.

    Raises:
        FormatError: a size cannot be read.
    """
    found: list[Frame] = []
    problems: list[tuple[str, str]] = []
    for header in headers:
        found.extend(_of_file(header, problems))
    return found, _told_once(problems)


def check_memory(frames: Sequence[Frame], name: str) -> None:
    """Check, before they are decoded, that frames fit in memory.

    Raises:
        FormatError: they do not.
    """
    check_size(
        name,
        sum(frame.hw[0] * frame.hw[1] * (COLOURS if frame.is_colour else 1) for frame in frames),
    )


def _told_once(problems: Sequence[tuple[str, str]]) -> list[str]:
    """Return a sentence on each kind of problem, for all files that have it.

    Args:
        problems: name of the file, and what is wrong in it.
    """
    names: dict[str, dict[str, str]] = {}
    for name, problem in problems:
        kind = problem.removeprefix(name).partition(GOT)[0]
        names.setdefault(kind, {}).setdefault(name, problem)
    found = []
    for of_kind in names.values():
        more = f" So it is in {len(of_kind) - 1} more files." if len(of_kind) > 1 else ""
        found.append(f"{next(iter(of_kind.values()))}; it is left out.{more}")
    return found


def _of_file(header: Header, problems: list[tuple[str, str]]) -> list[Frame]:
    """Return the frames of a file; what cannot be read of their places is left out.

    Raises:
        FormatError: a size cannot be read.
    """
    attributes = header.attributes
    hw = attributes.count("Rows", 0), attributes.count("Columns", 0)
    for keyword, size in zip(("Rows", "Columns"), hw, strict=True):
        if not size:
            raise attributes.wrong(keyword, "a whole number above 0")
    count = attributes.count("NumberOfFrames", 1)
    if count > MOST_FRAMES:
        raise attributes.wrong("NumberOfFrames", f"{MOST_FRAMES} at most")
    samples = attributes.count("SamplesPerPixel", 1)
    if samples not in (1, COLOURS):
        raise attributes.wrong("SamplesPerPixel", "1 or 3")
    is_colour = samples == COLOURS or attributes.text("PhotometricInterpretation") == PALETTE
    groups = groups_of(attributes, count)
    is_one = count == 1 or any(groups)  # else what the file says is not said of each frame
    return [
        Frame(
            header=header,
            index=index,
            count=count,
            groups=tuple(groups[index]),
            hw=hw,
            is_colour=is_colour,
            plane=_tolerated(plane_of, attributes, groups[index], problems) if is_one else None,
            spacing=_tolerated(spacing_of, attributes, groups[index], problems) if is_one else None,
        )
        for index in range(count)
    ]


def _tolerated(
    read: Callable[[Attributes, list[Attributes]], Read | None],
    attributes: Attributes,
    groups: list[Attributes],
    problems: list[tuple[str, str]],
) -> Read | None:
    """Return what is read; None of what is wrong, which is a problem of the file then."""
    try:
        return read(attributes, groups)
    except FormatError as error:
        problems.append((attributes.name, str(error)))
        return None
