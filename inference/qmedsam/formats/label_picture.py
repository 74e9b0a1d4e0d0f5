"""Label maps in pictures: the numbers that are stored, not the brightness that viewers show.

A palette's colours are for the eye, and its indices are the labels, unless it has greys alone;
1 to 7 bits of grey are not spread over 8. TIFF may hold a stack.
"""

from __future__ import annotations

import io
import warnings
from typing import Any

import numpy as np
import tifffile as tifffile_library
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from .raster import Raster
from .scan import FormatError, check_size
from .tiff import checked_pages, is_tiff, orientation_of

tifffile: Any = tifffile_library
KINDS = ("PNG", "BMP", "GIF")  # as Pillow names them
PNG_BITS_AT = 24  # in a file, of a value
WHOLE = 255  # what the largest of few bits becomes in Pillow


def read_label_picture(name: str, content: bytes) -> NDArray[Any]:
    """Return the labels of a picture.

    Args:
        name: of the file, for messages.
        content: of the file: PNG, BMP, GIF or TIFF.

    Returns:
        (H, W), or (D, H, W) of a stack, as the file has them.

    Raises:
        FormatError: it cannot be read, holds colours, or does not fit in memory.
    """
    try:
        labels = _of_tiff(name, content) if is_tiff(content) else _of_picture(name, content)
    except FormatError:
        raise
    except UnidentifiedImageError as error:
        raise FormatError(f"{name} must be a PNG, BMP, GIF or TIFF image") from error
    except Exception as error:  # of a file that is broken, any
        raise FormatError(f"{name} must be a readable image, got: {error}") from error
    if labels.ndim not in (2, 3) or labels.dtype.kind not in "uib":
        raise FormatError(f"{name} must have one label a pixel, got {labels.dtype} {labels.shape}")
    return labels


def _of_picture(name: str, content: bytes) -> NDArray[Any]:
    with (
        warnings.catch_warnings(action="ignore"),  # of large ones, which are checked here
        Image.open(io.BytesIO(content), formats=KINDS) as picture,
    ):
        check_size(name, picture.width * picture.height * len(picture.getbands()))
        values = np.asarray(picture)
        if picture.mode == "P":
            colours = np.asarray(picture.convert("RGB"))
            is_grey = not (colours != colours[..., :1]).any()
            values = colours[..., 0] if is_grey else values
        if picture.mode == "LA":
            values = values[..., 0]
        if picture.format == "PNG" and picture.mode == "L":
            largest = (1 << content[PNG_BITS_AT]) - 1
            values = values // max(WHOLE // largest, 1)
    if values.ndim == 3:
        if (values[..., :3] != values[..., :1]).any():
            raise FormatError(f"{name} must have one label a pixel, got colours without a palette")
        values = values[..., 0]
    return values.astype(np.uint8) if values.dtype == np.bool_ else values


def _of_tiff(name: str, content: bytes) -> NDArray[Any]:
    with tifffile.TiffFile(io.BytesIO(content), is_ome=False) as file:
        pages = checked_pages(name, file)
        sides = {(page.imagelength, page.imagewidth) for page in pages}
        if len(sides) > 1 or any(page.samplesperpixel > 1 for page in pages):
            raise FormatError(f"{name} must have one label a pixel, on pages of one size")
        check_size(name, sum(page.size for page in pages))
        if len(pages) == 1 and file.series[0].size > pages[0].size:  # behind one directory
            check_size(name, file.series[0].size)
            stack: NDArray[Any] = file.series[0].asarray(maxworkers=1)
            return stack
        found = [
            Raster(page.asarray(maxworkers=1), orientation_of(page), ()).upright() for page in pages
        ]
    labels = np.stack(found) if len(found) > 1 else found[0]
    return labels.astype(np.uint8) if labels.dtype == np.bool_ else labels
