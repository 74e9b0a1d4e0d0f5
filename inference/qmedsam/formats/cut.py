"""In which plane a volume is cut into slices, and where its voxels come to lie.

The network sees slices, best as the scanner took them: in the plane where voxels are smallest. A
slice is turned as a radiologist sees it. Of an oblique affine axes go by where they mostly point;
nothing is interpolated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from nibabel import orientations as nibabel_orientations
from numpy.typing import NDArray

from ..core.geometry import Boxes
from ..core.postprocess import LabelMap
from .scan import AUTOMATIC_PLANE, PLANES, FormatError

orientations: Any = nibabel_orientations
# Where columns, rows and slices lead: to the patient's left, right, back, top or bottom.
VIEWS = {"axial": "LPS", "coronal": "LIP", "sagittal": "PIR"}
WORLD = ["sagittal", "coronal", "axial"]  # the plane across each axis of the world
THICK = 1.5  # times the voxel's other sides: its slices were taken across that one
FEW = 0.5  # times the other axes' voxels: as THICK, where sides do not tell


@dataclass(frozen=True)
class Cut:
    """How the voxels (i, j, k) of a file become slices.

    Attributes:
        shape: of the file's voxels.
        plane: one of `PLANES`.
        axes: of the file, which run along columns, rows and slices.
        flips: which of the file's axes run against that.
    """

    shape: tuple[int, int, int]
    plane: str
    axes: tuple[int, int, int]
    flips: tuple[bool, bool, bool]

    @property
    def slice_axis(self) -> int:
        """The axis of the file that runs through the slices."""
        return self.axes[2]

    @property
    def plane_axes(self) -> tuple[int, int]:
        """The other axes of the file, in its order."""
        first, second = sorted(self.axes[:2])
        return first, second

    @property
    def is_one_slice(self) -> bool:
        """Whether there is one slice, a picture."""
        return self.shape[self.slice_axis] == 1

    def slices_of(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return the voxels (I, J, K) of the file as slices (D, H, W)."""
        return np.ascontiguousarray(np.flip(values, self._flipped).transpose(self.axes[::-1]))

    def voxels_of(self, label_map: LabelMap) -> LabelMap:
        """Return slices (D, H, W) as voxels of the file."""
        own = label_map.transpose(np.argsort(self.axes[::-1]))
        return np.ascontiguousarray(np.flip(own, self._flipped))

    def own_axes(self) -> NDArray[np.float64]:
        """Return what turns places (x, y, z, 1) on slices into those in the file, (4, 4)."""
        found = np.zeros((4, 4))
        found[3, 3] = 1
        for target, axis in enumerate(self.axes):
            found[axis, target] = -1 if self.flips[axis] else 1
            found[axis, 3] = self.shape[axis] - 1 if self.flips[axis] else 0
        return found

    def boxes_on_slices(self, boxes: Boxes) -> Boxes:
        """Turn boxes (N, 6) of the file's voxels to those of slices, the lower corner first.

        Half a slice belongs to the higher voxel of the file, whichever way its axis runs.
        """
        corners = boxes.reshape(len(boxes), 2, 3)
        found = np.empty_like(corners)
        for target, axis in enumerate(self.axes):
            values = corners[:, :, axis]
            if self.flips[axis]:
                values = self.shape[axis] - 1 - values
                if axis == self.slice_axis:  # halves are rounded up later
                    values = np.where(values % 1 == 0.5, np.nextafter(values, -np.inf), values)
            found[:, :, target] = values
        return np.concatenate([found.min(axis=1), found.max(axis=1)], axis=1)

    @property
    def _flipped(self) -> tuple[int, ...]:
        return tuple(axis for axis, is_flipped in enumerate(self.flips) if is_flipped)


def cut_volume(shape: tuple[int, int, int], affine: NDArray[np.float64], plane: str) -> Cut:
    """Return how to cut a volume.

    Args:
        shape: of the file's voxels (i, j, k).
        affine: voxels to millimetres to the right, front and top.
        plane: one of `PLANES`, or `auto`: across an axis of one voxel; else across voxels' longest
            side, if it is `THICK`; else across the axis that has `FEW` voxels; else axial.

    Raises:
        FormatError: there is no such plane.
        ValueError: the affine leads several voxels to one place.
    """
    if plane not in (AUTOMATIC_PLANE, *PLANES):
        choices = ", ".join((AUTOMATIC_PLANE, *PLANES))
        raise FormatError(f"Plane must be one of {choices}, got {plane!r}")
    np.linalg.inv(affine)  # which fails if there is no place of a voxel
    own = orientations.io_orientation(affine)
    if not np.isfinite(own).all():
        raise ValueError("its affine leads several voxels to one place")
    world = [int(axis) for axis in own[:, 0]]
    if plane == AUTOMATIC_PLANE:
        sides = np.linalg.norm(affine[:3, :3], axis=0)
        plane = WORLD[world[_acquired_across(shape, sides, world.index(2))]]
    seen = orientations.axcodes2ornt(tuple(VIEWS[plane]))
    first, second, third = (world.index(int(axis)) for axis in seen[:, 0])
    flips = [False] * 3
    for axis, (_, direction) in zip((first, second, third), seen, strict=True):
        flips[axis] = bool(own[axis, 1] != direction)
    return Cut(shape, plane, (first, second, third), (flips[0], flips[1], flips[2]))


def _acquired_across(shape: tuple[int, int, int], sides: NDArray[np.float64], axial: int) -> int:
    """Return the axis of the file across which its slices were taken, by all that is known."""
    single = [axis for axis in range(3) if shape[axis] == 1]
    if single:
        return axial if axial in single else single[0]
    *_, second, thickest = np.argsort(sides)
    if sides[thickest] >= THICK * sides[second]:
        return int(thickest)
    fewest, next_fewest, _ = np.argsort(shape)
    if shape[fewest] <= FEW * shape[next_fewest]:
        return int(fewest)
    return axial
