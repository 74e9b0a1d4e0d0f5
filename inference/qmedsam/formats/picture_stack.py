"""A folder of pictures, a slice each, as a volume."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile as tifffile_library
from numpy.typing import NDArray

from ..core.postprocess import LabelMap
from .folder import read_file
from .intensity import AS_IT_IS, PERCENTILES, IntensityWindow
from .label_notes import LabelNotes
from .nifti import encode_nifti, new_header
from .picture import decode_picture
from .picture_names import find_gaps, in_order, numbers_of
from .scan import FormatError, Scan, check_size
from .suffixes import NIFTI_SUFFIXES
from .volume import LPS_TO_RAS

tifffile: Any = tifffile_library
STACK_SUFFIX = ".tif"


class PictureStackScan(Scan):
    """Grey pictures of one size and kind, in the order of the numbers in their names.

    Args:
        name: of the folder, for messages.
        files: the pictures, in any order.
        window: of their values; None leaves 8 bits as they are and takes percentiles of more.

    Raises:
        FormatError: a file is no such picture, they are not alike, or not of one volume.
        OSError: a file cannot be read.
        WindowError: the window does not fit their values.
    """

    label_suffixes = (STACK_SUFFIX, *NIFTI_SUFFIXES)

    def __init__(
        self,
        name: str,
        files: Sequence[Path],
        window: str | IntensityWindow | None = None,
    ) -> None:
        by_name = {file.name: file for file in files}
        names = in_order(by_name)
        kinds = sorted({each.lower().rpartition(".")[2] for each in names})
        if len(kinds) > 1:
            raise FormatError(f"{name} must have slices of one kind, got .{', .'.join(kinds)}")
        gaps = find_gaps(numbers_of(name, names))
        remarks: dict[str, None] = {}
        slices: list[NDArray[Any]] = []
        for each in names:
            raster = decode_picture(f"{name}/{each}", read_file(by_name[each]))
            slices.append(_grey(f"{name}/{each}", raster.upright()))
            check_size(name, slices[0].size * len(names))
            first = slices[0]
            if (slices[-1].shape, slices[-1].dtype) != (first.shape, first.dtype):
                raise FormatError(
                    f"{name}/{each} must be like {names[0]}, {first.shape} of {first.dtype}, got "
                    f"{slices[-1].shape} of {slices[-1].dtype}"
                )
            remarks.update(dict.fromkeys(raster.all_remarks()))
        remarks.update(dict.fromkeys([gaps] if gaps else []))
        values = np.stack(slices)
        if window is None:
            window = AS_IT_IS if values.dtype == np.uint8 else PERCENTILES
        super().__init__(values, window, is_volume=True, remarks=tuple(remarks))

    def encode(self, label_map: LabelMap, suffix: str, notes: LabelNotes) -> bytes:
        """Return a stack in TIFF, or NIfTI with voxels of 1 mm, for pictures do not say."""
        if suffix == STACK_SUFFIX:
            content = io.BytesIO()
            options = {"photometric": "minisblack", "compression": "zlib", "metadata": None}
            tifffile.imwrite(content, label_map, description=notes.as_json(), **options)
            return content.getvalue()
        header = new_header(label_map.shape)
        return encode_nifti(label_map.T, LPS_TO_RAS, header=header, suffix=suffix, notes=notes)


def _grey(name: str, values: NDArray[Any]) -> NDArray[Any]:
    """Return a grey slice, of one in colour that has none.

    Raises:
        FormatError: it has colours.
    """
    if values.ndim == 2:
        return values
    if not (values == values[..., :1]).all():
        raise FormatError(f"{name} must be grey, as slices of a volume are, got colours")
    return np.ascontiguousarray(values[..., 0])
