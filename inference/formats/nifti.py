"""NIfTI, by nibabel: any orientation in, the same orientation out.

The model sees slices as a radiologist does: axial, rows from front to back, columns from the
patient's right to left. Of an oblique affine axes go by where they mostly point; no value is
interpolated.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from nibabel import orientations as typed_in_part
from nibabel.filebasedimages import ImageFileError
from numpy.typing import NDArray

from ..geometry import Boxes
from ..postprocess import LabelMap
from .intensity import IntensityWindow, to_8_bits
from .scan import FormatError, Scan

orientations: Any = typed_in_part
SUFFIXES = (".nii", ".nii.gz")
SEEN = orientations.axcodes2ornt(("L", "P", "S"))  # x to the left, y to the back, z upwards
READ_ERRORS = (OSError, EOFError, ValueError, zlib.error, ImageFileError)


class NiftiScan(Scan):
    """A volume in a NIfTI file.

    Args:
        path: of the file.
        window: of its values; see `to_8_bits`.

    Attributes:
        pixels: (D, H, W), uint8.

    Raises:
        FormatError: the file cannot be read, or holds no single volume.
        WindowError: the window does not fit its values.
    """

    is_volume = True
    label_suffixes = SUFFIXES

    def __init__(self, path: Path, window: str | IntensityWindow) -> None:
        try:
            image: Any = nibabel.load(path)
            if not isinstance(image, nibabel.Nifti1Image):  # version 2 is one, too
                raise ValueError(f"a {type(image).__name__}")
            values = np.asarray(image.dataobj)
        except READ_ERRORS as error:
            raise FormatError(f"{path} must be a readable NIfTI file, got: {error}") from error
        self._image: Any = image
        shape = values.shape
        if values.ndim > 3 and all(side == 1 for side in shape[3:]):
            values = values.reshape(shape[:3])
        if values.ndim != 3 or values.dtype.kind not in "iuf":
            raise FormatError(
                f"{path} must hold one volume of numbers (X, Y, Z), got {shape} of {values.dtype}"
            )
        self._shape = values.shape
        own = orientations.io_orientation(self._image.affine)
        self._to_seen = orientations.ornt_transform(own, SEEN)
        self._to_own = orientations.ornt_transform(SEEN, own)
        seen = orientations.apply_orientation(values, self._to_seen)
        self.pixels: NDArray[np.uint8] = to_8_bits(np.ascontiguousarray(seen.T), window)

    def boxes_to_pixels(self, boxes: Boxes) -> Boxes:
        """Turn boxes (N, 6) of the file's voxels, first and last i, j, k, to those of `pixels`."""
        corners = boxes.reshape(len(boxes), 2, 3)
        seen = np.empty_like(corners)
        for axis, (target, direction) in enumerate(self._to_seen):
            values = corners[:, :, axis]
            if direction < 0:
                values = self._shape[axis] - 1 - values
            seen[:, :, int(target)] = values
        return np.concatenate([seen.min(axis=1), seen.max(axis=1)], axis=1)

    def write(self, label_map: LabelMap, path: Path, note: str) -> None:
        """Write a NIfTI file with the affine, units and codes of the one that was read."""
        own = orientations.apply_orientation(label_map.T, self._to_own)
        header = self._image.header.copy()
        header.set_data_dtype(label_map.dtype)
        header.set_slope_inter(1, 0)
        header["cal_max"] = header["cal_min"] = 0
        header["descrip"] = note.encode()[:79]
        labels: Any = np.ascontiguousarray(own)
        written = type(self._image)(labels, self._image.affine, header)
        temporary = path.with_name(f".{path.name}")
        try:
            nibabel.save(written, temporary)
            temporary.replace(path)
        except OSError as error:
            raise FormatError(f"{path} cannot be written: {error}") from error
        finally:
            temporary.unlink(missing_ok=True)
