"""Where each frame of a DICOM file lies, as the file says it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .attributes import Attributes

FARTHEST_MM, NARROWEST_MM = 1e6, 1e-6
PERPENDICULAR = 0.01  # of the lengths and the cosine of the directions of rows and columns


@dataclass(frozen=True)
class Plane:
    """Where a frame lies; millimetres in the patient's system, to the left, back and top.

    Attributes:
        position: of the first pixel, (3,).
        along_row: direction of a row, (3,).
        along_column: direction of a column, (3,).
    """

    position: NDArray[np.float64]
    along_row: NDArray[np.float64]
    along_column: NDArray[np.float64]

    @property
    def normal(self) -> NDArray[np.float64]:
        """Direction through the plane, (3,)."""
        return np.cross(self.along_row, self.along_column)

    @property
    def along_normal(self) -> float:
        """How far it lies along its normal."""
        return float(self.position @ self.normal)


def groups_of(attributes: Attributes, count: int) -> list[list[Attributes]]:
    """Return what is said of each frame in an enhanced file: of its own, then of all frames.

    Returns:
        A list for each of `count` frames, empty in a file that is not enhanced.

    Raises:
        FormatError: it cannot be read, or is of another number of frames.
    """
    own = attributes.items("PerFrameFunctionalGroupsSequence")
    if not own:
        return [[] for _ in range(count)]
    if len(own) != count:
        raise attributes.wrong("NumberOfFrames", f"{len(own)}, as many as there are described")
    shared = attributes.items("SharedFunctionalGroupsSequence")[:1]
    return [[each, *shared] for each in own]


def within(groups: list[Attributes], sequence: str) -> Attributes | None:
    """Return the first item of a sequence in functional groups; the first group that has it wins.

    Raises:
        FormatError: it cannot be read.
    """
    return next((items[0] for each in groups if (items := each.items(sequence))), None)


def plane_of(attributes: Attributes, groups: list[Attributes]) -> Plane | None:
    """Return where a frame lies; None where that is not said.

    Args:
        attributes: of its file.
        groups: of the frame; none in a file that is not enhanced.

    Raises:
        FormatError: what is said is no plane.
    """
    placed = within(groups, "PlanePositionSequence") if groups else attributes
    turned = within(groups, "PlaneOrientationSequence") if groups else attributes
    if placed is None or turned is None:
        return None
    position = placed.numbers("ImagePositionPatient", 3)
    directions = turned.numbers("ImageOrientationPatient", 6)
    if position is None or directions is None:
        return None
    if max(abs(number) for number in position) > FARTHEST_MM:
        raise placed.wrong("ImagePositionPatient", "in a room")
    rows = np.clip(np.array(directions), -2, 2).reshape(2, 3)
    if np.abs(rows @ rows.T - np.eye(2)).max() > PERPENDICULAR:
        raise turned.wrong("ImageOrientationPatient", "two perpendicular directions of length 1")
    return Plane(np.array(position), rows[0], rows[1])


def spacing_of(attributes: Attributes, groups: list[Attributes]) -> tuple[float, float] | None:
    """Return the distances between rows and between columns, mm; None where they are not said.

    Raises:
        FormatError: they cannot be distances.
    """
    measured = within(groups, "PixelMeasuresSequence") if groups else attributes
    found = None if measured is None else measured.numbers("PixelSpacing", 2)
    if measured is None or found is None:
        return None
    if min(found) < NARROWEST_MM or max(found) > FARTHEST_MM:
        raise measured.wrong("PixelSpacing", "two distances above 0")
    return found[0], found[1]
