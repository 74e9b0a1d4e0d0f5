"""Whether the slices of a volume lie on one grid, and where it lies.

NIfTI says where voxels are by one affine. A slice that lies elsewhere by more than a tenth of a
voxel, along the stack or sideways, would make that wrong, and is named; a SEG has the place of each
slice. Slices that are shifted evenly, as under a tilted gantry, have an affine with a shear.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...core.postprocess import LabelMap
from ..scan import FormatError
from .frames import Frame
from .planes import FARTHEST_MM, within

TOLERANCE = 0.1  # of a voxel
UNKNOWN_THICKNESS_MM = 1.0  # of a single slice, which a SEG must say
SHEARED = 1e-9  # of a pixel from slice to slice, above the rounding of numbers


@dataclass(frozen=True)
class Grid:
    """Where the slices of a volume lie, millimetres in the patient's system.

    Attributes:
        origin: of the first voxel, (3,).
        steps: from a column, row and slice to the next, as rows of (3, 3).
        normal: direction through the slices, (3,).
        problem: why the slices do not lie on it, a sentence; empty if they do.
    """

    origin: NDArray[np.float64]
    steps: NDArray[np.float64]
    normal: NDArray[np.float64]
    problem: str

    @property
    def affine(self) -> NDArray[np.float64]:
        """Voxels (column, row, slice) to millimetres, (4, 4)."""
        found = np.eye(4)
        found[:3, :3] = self.steps.T
        found[:3, 3] = self.origin
        return found

    def lean_px(self) -> NDArray[np.float64]:
        """How far a slice is shifted against the one before, along rows and columns, (2,)."""
        shift: NDArray[np.float64] = (
            self.steps[:2] @ self.steps[2] / (self.steps[:2] ** 2).sum(axis=1)
        )
        return shift

    @property
    def is_sheared(self) -> bool:
        """Whether the way from slice to slice is not that through the slices."""
        return bool(np.abs(self.lean_px()).max() > SHEARED)

    def tilt_degrees(self) -> float:
        """The angle between the way from slice to slice and the normal of the slices."""
        along = self.steps[2] @ self.normal
        aside = np.linalg.norm(self.steps[2] - along * self.normal)
        return float(np.degrees(np.arctan2(aside, abs(along))))


def is_placed(frames: Sequence[Frame]) -> bool:
    """Say whether all frames say where they and their pixels lie."""
    return all(frame.plane and frame.spacing for frame in frames)


def grid_of(frames: Sequence[Frame]) -> Grid | None:
    """Return the grid through the first and the last of slices in order.

    A single one goes on along its normal by its thickness. None of frames that do not say where
    they and their pixels lie.
    """
    planes = [frame.plane for frame in frames if frame.plane is not None]
    first = frames[0]
    if len(planes) < len(frames) or first.spacing is None:
        return None
    positions = np.array([plane.position for plane in planes])
    if len(planes) == 1:
        step = planes[0].normal * (thickness_of(frames) or UNKNOWN_THICKNESS_MM)
    else:
        step = (positions[-1] - positions[0]) / (len(planes) - 1)
    along_row, along_column = planes[0].along_row, planes[0].along_column
    between_rows, between_columns = first.spacing
    steps = np.array([along_row * between_columns, along_column * between_rows, step])
    normal = planes[0].normal
    grid = Grid(positions[0], steps, normal, "")
    lean = np.abs(grid.lean_px()) * (len(planes) - 1)
    if lean.max() <= TOLERANCE:  # rounding of what files say; a shear would keep ITK from reading
        steps[2] = (step @ normal) * normal
    return Grid(positions[0], steps, normal, _problem(frames, positions, steps, normal))


def thickness_of(frames: Sequence[Frame]) -> float | None:
    """Return the thickness of slices as it is said; else their distance, None of a single one."""
    measured = within(list(frames[0].groups), "PixelMeasuresSequence")
    try:
        found = (measured or frames[0].header.attributes).number("SliceThickness")
    except FormatError:
        found = None
    if found is not None and 0 < found <= FARTHEST_MM:
        return found
    along = [
        frame.plane.position @ frames[0].plane.normal
        for frame in frames
        if frame.plane and frames[0].plane
    ]
    return float(np.median(np.abs(np.diff(along)))) if len(along) > 1 else None


def straight_shape(shape: tuple[int, ...], grid: Grid) -> tuple[int, int, int]:
    """Return the shape that a label map of a shape (D, H, W) has on a grid without a shear."""
    depth, height, width = shape
    across, down = np.ptp(_shifts_px(depth, grid), axis=0)
    return depth, height + int(down), width + int(across)


def straighten(label_map: LabelMap, grid: Grid) -> tuple[LabelMap, Grid]:
    """Shift the slices of a label map (D, H, W) by whole pixels onto a grid without a shear.

    Returns:
        The label map, larger by what the slices are shifted, and its grid.
    """
    depth, height, width = label_map.shape
    shifts = _shifts_px(depth, grid)
    least = shifts.min(axis=0)
    straight = np.zeros(straight_shape(label_map.shape, grid), dtype=label_map.dtype)
    for source, target, (x, y) in zip(label_map, straight, shifts - least, strict=True):
        target[y : y + height, x : x + width] = source
    steps = grid.steps.copy()
    steps[2] = (steps[2] @ grid.normal) * grid.normal
    return straight, Grid(grid.origin + least @ steps[:2], steps, grid.normal, grid.problem)


def _shifts_px(depth: int, grid: Grid) -> NDArray[np.int64]:
    """Return how far slices lie from the first one along rows and columns, (D, 2)."""
    shifts: NDArray[np.int64] = np.rint(np.arange(depth)[:, None] * grid.lean_px()).astype(np.int64)
    return shifts


def _problem(
    frames: Sequence[Frame],
    positions: NDArray[np.float64],
    steps: NDArray[np.float64],
    normal: NDArray[np.float64],
) -> str:
    """Say which slice lies beside the grid."""
    expected = positions[0] + np.arange(len(frames))[:, None] * steps[2]
    beside = positions - expected
    step_mm = abs(steps[2] @ normal)
    along = np.abs(beside @ normal) / step_mm
    aside = np.abs(beside @ steps[:2].T / (steps[:2] ** 2).sum(axis=1)).max(axis=1)
    if along.max() > TOLERANCE:
        gaps = np.diff(positions @ normal)
        widest = int(np.argmax(np.abs(gaps)))
        return (
            f"Slices lie {np.abs(gaps).min():g} to {np.abs(gaps).max():g} mm apart, most between "
            f"{frames[widest].name} and {frames[widest + 1].name}: some may be missing, or be "
            "scouts."
        )
    if aside.max() > TOLERANCE:
        name, distance = _outlier(frames, positions, normal)
        return f"{name} lies {distance:.3g} mm beside the line of the other slices."
    return ""


def _outlier(
    frames: Sequence[Frame], positions: NDArray[np.float64], normal: NDArray[np.float64]
) -> tuple[str, float]:
    """Return which slice lies farthest beside the others' line, and how far, mm."""
    aside = positions - np.outer(positions @ normal, normal)
    leaning = np.median(np.diff(aside, axis=0), axis=0)  # of which one slice changes nothing
    beside = aside - np.arange(len(frames))[:, None] * leaning
    distances = np.linalg.norm(beside - np.median(beside, axis=0), axis=1)
    worst = int(np.argmax(distances))
    return frames[worst].name, float(distances[worst])
