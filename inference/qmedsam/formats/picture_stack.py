"""A folder of pictures, a slice each, as a volume."""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import tifffile as tifffile_library
from numpy.typing import NDArray

from ..core.postprocess import LabelMap
from .intensity import AS_IT_IS, PERCENTILES, IntensityWindow
from .nifti import encode_nifti, new_header
from .picture import decode_picture
from .scan import FormatError, LabelNotes, Scan, check_size
from .suffixes import NIFTI_SUFFIXES, PICTURE_SUFFIXES
from .volume import LPS_TO_RAS

tifffile: Any = tifffile_library
STACK_SUFFIX = ".tif"
DIGITS = re.compile(r"(\d+)")
MOST_GAPS = 3  # in a message


class PictureStackScan(Scan):
    """Grey pictures of one size and kind, in the order of the numbers in their names.

    Args:
        name: of the folder, for messages.
        contents: of its files, by name; those that are no pictures are left out.
        window: of their values; None leaves 8 bits as they are and takes percentiles of more.

    Raises:
        FormatError: a file cannot be read, or they are not alike.
        WindowError: the window does not fit their values.
    """

    label_suffixes = (STACK_SUFFIX, *NIFTI_SUFFIXES)

    def __init__(
        self,
        name: str,
        contents: Mapping[str, bytes],
        window: str | IntensityWindow | None = None,
    ) -> None:
        names = sorted(
            (each for each in contents if each.lower().endswith(PICTURE_SUFFIXES)), key=_in_order
        )
        kinds = sorted({each.lower().rpartition(".")[2] for each in names})
        if len(kinds) > 1:
            raise FormatError(f"{name} must have slices of one kind, got .{', .'.join(kinds)}")
        remarks: dict[str, None] = {}
        slices: list[NDArray[Any]] = []
        for each in names:
            raster = decode_picture(f"{name}/{each}", contents[each])
            slices.append(_grey(f"{name}/{each}", raster.upright()))
            check_size(name, slices[0].size * len(names))
            first = slices[0]
            if (slices[-1].shape, slices[-1].dtype) != (first.shape, first.dtype):
                raise FormatError(
                    f"{name}/{each} must be like {names[0]}, {first.shape} of {first.dtype}, got "
                    f"{slices[-1].shape} of {slices[-1].dtype}"
                )
            remarks.update(dict.fromkeys(raster.all_remarks()))
        remarks.update(dict.fromkeys(_gaps(names)))
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
        return encode_nifti(
            label_map.T, LPS_TO_RAS, header=new_header(), suffix=suffix, notes=notes
        )


def _in_order(name: str) -> list[tuple[int, str]]:
    """Return what sorts names by the numbers in them."""
    parts = DIGITS.split(name.lower())
    return [(int(part), part) if part.isdecimal() else (-1, part) for part in parts]


def _gaps(names: list[str]) -> tuple[str, ...]:
    """Say so, if the last numbers in names leave some out."""
    found = [[int(part) for part in DIGITS.findall(name)] for name in names]
    numbers = sorted(each[-1] for each in found if each)
    pairs = list(itertools.pairwise(numbers))
    step = min((high - low for low, high in pairs), default=0)
    gaps = [f"{low} to {high}" for low, high in pairs if high - low > step]
    if not gaps or len(numbers) < len(names):
        return ()
    more = ", ..." if len(gaps) > MOST_GAPS else ""
    listed = ", ".join(gaps[:MOST_GAPS])
    return (f"Numbers in the names of slices leap from {listed}{more}: some may be missing.",)


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
