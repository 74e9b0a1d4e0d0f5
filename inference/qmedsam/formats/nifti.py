"""NIfTI, by nibabel: any orientation in, the same orientation out.

The model sees slices as a radiologist does: axial, rows from front to back, columns from the
patient's right to left. Of an oblique affine axes go by where they mostly point; no value is
interpolated.
"""

from __future__ import annotations

import gzip
import io
import zlib
from typing import Any

import nibabel
import numpy as np
from nibabel import orientations as nibabel_orientations
from nibabel.filebasedimages import ImageFileError
from nibabel.nifti1 import Nifti1Extension
from nibabel.nifti2 import Nifti2Header
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError
from numpy.typing import NDArray

from ..core.geometry import Boxes
from ..core.postprocess import LabelMap
from .intensity import PERCENTILES, IntensityWindow
from .scan import FormatError, LabelNotes, Scan
from .suffixes import NIFTI_SUFFIXES
from .unpacking import unpack_gzip

orientations: Any = nibabel_orientations
SEEN = orientations.axcodes2ornt(("L", "P", "S"))  # x to the left, y to the back, z upwards
OWN_NOTE = b'"made_by": "qmedsam'  # in an extension that this wrote
LPS_TO_RAS = np.diag([-1.0, -1, 1, 1])  # x and y of DICOM and of cases run against NIfTI's
HEADER_2_BYTES = 540  # of version 2; of version 1 it is 348
READ_ERRORS = (
    OSError,
    EOFError,
    ValueError,
    MemoryError,
    zlib.error,
    ImageFileError,
    HeaderDataError,
    WrapStructError,
    np.linalg.LinAlgError,
    TypeError,
    IndexError,
    OverflowError,
)


class NiftiScan(Scan):
    """A volume in a NIfTI file.

    Args:
        name: of the file, for messages; `.gz` at its end says that it is packed.
        content: of the file.
        window: of its values; None is percentiles.

    Raises:
        FormatError: the file cannot be read, or holds no single volume.
        WindowError: the window does not fit its values.
    """

    label_suffixes = NIFTI_SUFFIXES

    def __init__(
        self, name: str, content: bytes, window: str | IntensityWindow | None = None
    ) -> None:
        try:
            plain = unpack_gzip(io.BytesIO(content)) if name.lower().endswith(".gz") else content
            image: Any = _read(plain)
            values = _values(image.dataobj)
            own = orientations.io_orientation(image.affine)
            np.linalg.inv(image.affine)  # no place of a voxel otherwise
            if np.isnan(own).any():
                raise ValueError("its affine leads several voxels to one place")
        except READ_ERRORS as error:
            raise FormatError(f"{name} must be a readable NIfTI file, got: {error}") from error
        self._image: Any = image
        shape = values.shape
        if values.ndim > 3 and all(side == 1 for side in shape[3:]):
            values = values.reshape(shape[:3])
        if values.ndim != 3 or values.dtype.kind not in "iuf":
            raise FormatError(
                f"{name} must hold one volume of numbers (X, Y, Z), got {shape} of {values.dtype}"
            )
        self._shape = values.shape
        self._to_seen = orientations.ornt_transform(own, SEEN)
        self._to_own = orientations.ornt_transform(SEEN, own)
        seen = orientations.apply_orientation(values, self._to_seen)
        super().__init__(np.ascontiguousarray(seen.T), window or PERCENTILES, is_volume=True)

    def boxes_to_pixels(self, boxes: Boxes) -> Boxes:
        """Turn boxes (N, 6) of the file's voxels, first and last i, j, k, to those of `pixels`."""
        corners = np.asarray(boxes).reshape(len(boxes), 2, 3)
        seen = np.empty_like(corners)
        for axis, (target, direction) in enumerate(self._to_seen):
            values = corners[:, :, axis]
            if direction < 0:
                values = self._shape[axis] - 1 - values
            seen[:, :, int(target)] = values
        return np.concatenate([seen.min(axis=1), seen.max(axis=1)], axis=1)

    def encode(self, label_map: LabelMap, suffix: str, notes: LabelNotes) -> bytes:
        """Return a NIfTI file with the affine, units and codes of the one that was read."""
        own = orientations.apply_orientation(label_map.T, self._to_own)
        return encode_nifti(own, self._image.affine, self._image.header.copy(), suffix, notes)


def encode_nifti(
    values: NDArray[Any],
    affine: NDArray[np.float64],
    header: nibabel.Nifti1Header,
    suffix: str,
    notes: LabelNotes | None = None,
) -> bytes:
    """Return values (X, Y, Z) as NIfTI.

    Args:
        values: in the order of the file's own axes.
        affine: voxels to millimetres to the right, front and top.
        header: of which units and codes are kept; it is written to.
        suffix: one of `NIFTI_SUFFIXES`.
        notes: of labels, written as an extension of the header; None where these are none.
    """
    fields: Any = header
    fields.set_data_dtype(values.dtype)
    fields.set_slope_inter(1, 0)
    fields["cal_max"] = fields["cal_min"] = 0
    if notes is not None:
        fields.set_intent("label")
        fields["descrip"] = notes.line().encode()[:79]
        for earlier in [each for each in fields.extensions if OWN_NOTE in each.get_content()]:
            fields.extensions.remove(earlier)
        fields.extensions.append(Nifti1Extension("comment", notes.as_json().encode()))
    kind: Any = nibabel.Nifti2Image if isinstance(header, Nifti2Header) else nibabel.Nifti1Image
    content: bytes = kind(np.ascontiguousarray(values), affine, header).to_bytes()
    return gzip.compress(content, mtime=0) if suffix.endswith(".gz") else content


def _values(stored: Any) -> NDArray[Any]:
    """Return the values of a file; those that are rescaled take no more bytes than needed."""
    if stored.is_proxy and (stored.slope, stored.inter) != (1, 0):
        values = np.asarray(stored.get_unscaled(), dtype=np.float32)
        return values * np.float32(stored.slope) + np.float32(stored.inter)
    return np.asarray(stored)


def _read(content: bytes) -> nibabel.Nifti1Image:
    """Read either version; the size of its header tells which."""
    kinds: list[Any] = [nibabel.Nifti1Image, nibabel.Nifti2Image]
    is_second = int.from_bytes(content[:4], "little") == HEADER_2_BYTES or (
        int.from_bytes(content[:4], "big") == HEADER_2_BYTES
    )
    return kinds[is_second].from_bytes(content)  # type: ignore[no-any-return]
