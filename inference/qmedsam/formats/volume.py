"""A volume of voxels that a file places in the world, seen as slices."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.geometry import Boxes
from ..core.postprocess import LabelMap
from ..core.prompts import IMAGE_COLUMNS, VOLUME_COLUMNS
from .cut import cut_volume
from .intensity import PERCENTILES, IntensityWindow
from .scan import FormatError, Scan

LPS_TO_RAS = np.diag([-1.0, -1, 1, 1])  # and back: x and y of DICOM and cases run against NIfTI's


class VolumeScan(Scan):
    """A volume with an affine; one slice is an image.

    Boxes are of the file's voxels. Those of one slice may leave out its axis.

    Args:
        values: (I, J, K), in the order of the file's axes.
        affine: voxels to millimetres to the right, front and top.
        window: of its values; None is percentiles.
        plane: as of `cut_volume`.

    Attributes:
        plane: in which it is cut.

    Raises:
        FormatError: there is no such plane.
        ValueError: the affine leads several voxels to one place.
        WindowError: the window does not fit its values.
    """

    def __init__(
        self,
        values: NDArray[Any],
        affine: NDArray[np.float64],
        *,
        window: str | IntensityWindow | None,
        plane: str,
    ) -> None:
        first, second, third = values.shape
        self._cut = cut_volume((first, second, third), affine, plane)
        self.plane = self._cut.plane
        self._affine = LPS_TO_RAS @ affine
        slices = self._cut.slices_of(values)
        is_volume = not self._cut.is_one_slice
        shown = slices if is_volume else slices[0]
        super().__init__(shown, PERCENTILES if window is None else window, is_volume=is_volume)

    @property
    def own_axes(self) -> NDArray[np.float64]:
        """Turns places in slices into voxels of the file, (4, 4)."""
        return self._cut.own_axes()

    @property
    def affine(self) -> NDArray[np.float64]:
        """Turns voxels of the file into millimetres to the left, back and top, (4, 4)."""
        return self._affine

    @property
    def box_columns(self) -> tuple[int, ...]:
        """How many numbers a box may have."""
        return (VOLUME_COLUMNS,) if self.is_volume else (IMAGE_COLUMNS, VOLUME_COLUMNS)

    @property
    def plane_axes(self) -> tuple[int, int]:
        """The axes of boxes that lie in the slices."""
        return self._cut.plane_axes if self.is_volume else super().plane_axes

    def as_pixels_have(self, boxes: Boxes) -> Boxes:
        """Leave out of boxes on the only slice that they are on it.

        Raises:
            FormatError: they are not.
        """
        if self.is_volume or boxes.shape[1] == IMAGE_COLUMNS:
            return boxes
        corners = boxes.reshape(len(boxes), 2, 3)
        across = np.floor(corners[:, :, self._cut.slice_axis] + 0.5)
        for box, ends in zip(boxes, across, strict=True):
            if not min(ends) <= 0 <= max(ends):
                axis = "xyz"[self._cut.slice_axis]
                raise FormatError(
                    f"Box must be on the file's only slice, {axis} = 0, got {_numbers(box)}"
                )
        kept = np.delete(corners, self._cut.slice_axis, axis=2)
        return np.ascontiguousarray(kept).reshape(len(boxes), IMAGE_COLUMNS)

    def _to_pixels(self, boxes: Boxes) -> Boxes:
        if self.is_volume:
            return self._cut.boxes_on_slices(boxes)
        across = np.insert(boxes.reshape(-1, 2, 2), self._cut.slice_axis, 0, axis=2)
        on_slice = self._cut.boxes_on_slices(across.reshape(-1, VOLUME_COLUMNS))
        return on_slice[:, [0, 1, 3, 4]]

    def _own_voxels(self, label_map: LabelMap) -> LabelMap:
        """Return a label map of `label_shape` as voxels (I, J, K) of the file."""
        return self._cut.voxels_of(label_map if self.is_volume else label_map[None])


def _numbers(box: NDArray[np.float32]) -> str:
    return ", ".join(f"{value:g}" for value in box)
