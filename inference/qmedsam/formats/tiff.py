"""TIFF, by tifffile and imagecodecs: bit depths, layouts and compressions that science uses.

One image is taken: the largest page. Thumbnails, masks and the smaller levels of a pyramid count
for nothing, and several pages of one size are a stack, which is refused.
"""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
import tifffile as tifffile_library
from numpy.typing import NDArray

from .raster import UPRIGHT, Raster
from .scan import FormatError, check_size

tifffile: Any = tifffile_library
MAGICS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # the latter two of BigTIFF
REDUCED, MASK = 1, 4  # bits of the tag NewSubfileType
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, YCBCR = 0, 1, 2, 3, 6  # tag PhotometricInterpretation
JPEG_COMPRESSIONS = (6, 7)  # which are decoded to RGB
SEPARATE_PLANES = 2
ALPHAS = (1, 2)  # tag ExtraSamples
PHOTOMETRIC_TAG, ORIENTATION_TAG = 262, 274
BYTE_BITS = 8


def is_tiff(content: bytes) -> bool:
    """Whether a file says that it is TIFF."""
    return content[:4] in MAGICS


def decode_tiff(name: str, content: bytes) -> Raster:
    """Decode the largest page.

    Grey of 1 to 7 bits is spread over 8; where white is zero, values are inverted; palettes are
    applied, and transparency is left out.

    Args:
        name: of the file, for messages.
        content: of the file.

    Raises:
        FormatError: it cannot be read, is a stack, is of a kind that is not read, or is too large.
    """
    try:
        # As OME-TIFF, other files would be looked for.
        with tifffile.TiffFile(io.BytesIO(content), is_ome=False) as file:
            page, remarks = _largest_page(name, file)
            _check_kind(name, page)
            _check_segments(name, page, len(content))
            stored = page.asarray(maxworkers=1)
            return Raster(_values(page, stored), orientation_of(page), remarks)
    except FormatError:
        raise
    except Exception as error:  # of a file that is broken, any
        raise FormatError(f"{name} must be a readable TIFF image, got: {error}") from error


def checked_pages(name: str, file: Any) -> list[Any]:
    """Return the pages, before anything is reckoned with what they say.

    Raises:
        FormatError: a size is no number, or does not fit in memory.
    """
    pages = list(file.pages)
    for page in pages:
        sides = (page.imagewidth, page.imagelength, page.imagedepth, page.samplesperpixel)
        if not all(isinstance(side, int) and side >= 0 for side in sides):
            raise FormatError(f"{name} must have pages with whole numbers for sides, got {sides}")
        check_size(name, math.prod(sides))
    return pages


def orientation_of(page: Any) -> int:
    """Return how a page is to be turned, as of `Raster`."""
    return int(np.ravel(page.tags.valueof(ORIENTATION_TAG, UPRIGHT))[0])


def _largest_page(name: str, file: Any) -> tuple[Any, tuple[str, ...]]:
    """Return the page to take, and what to say of it.

    Raises:
        FormatError: it is one of a stack, or a page does not fit in memory.
    """
    pages = checked_pages(name, file)
    whole = [page for page in pages if not page.subfiletype & (REDUCED | MASK)] or pages
    areas = [page.imagewidth * page.imagelength for page in whole]
    largest = [page for page, area in zip(whole, areas, strict=True) if area == max(areas)]
    page = largest[0]
    # Some programs write the pages of a stack behind the directory of the first.
    count = max([len(largest), *(series.size // page.size for series in file.series)])
    if count > 1 or page.imagedepth > 1:
        raise FormatError(
            f"{name} must have one page, got {max(count, page.imagedepth)}; make a NIfTI, NRRD or "
            "MetaImage file of a stack, or a folder of PNG files"
        )
    if len(whole) == 1:
        return page, ()
    size = f"{page.imagewidth} x {page.imagelength}"
    return page, (f"Of {len(whole)} pages the largest is taken, {size} pixels.",)


def _check_kind(name: str, page: Any) -> None:
    """Check that the values are grey or colours.

    Raises:
        FormatError: they are something else.
    """
    kind = _photometric(page)
    if page.dtype is None or page.dtype.kind not in "iufb":
        raise FormatError(f"{name} must hold integers or floats, got {page.dtype or 'others'}")
    is_read = kind in (WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE)
    if not (is_read or (kind == YCBCR and page.compression in JPEG_COMPRESSIONS)):
        shown = getattr(page.photometric, "name", kind)
        raise FormatError(f"{name} must be grey, RGB, a palette or JPEG, got {shown}")
    extra = page.samplesperpixel - (3 if kind in (RGB, YCBCR) else 1)
    has_alpha = kind == RGB or tuple(page.extrasamples[:1]) in [(alpha,) for alpha in ALPHAS]
    if extra < 0 or extra > 1 or (extra == 1 and not has_alpha):
        raise FormatError(
            f"{name} must have one channel, or those of RGB, got {page.samplesperpixel}"
        )


def _check_segments(name: str, page: Any, size: int) -> None:
    """Check that all strips or tiles are there; tifffile puts zeros in place of missing ones.

    Raises:
        FormatError: some are not in the file, which has `size` bytes.
    """
    if page.is_contiguous:  # of which tifffile checks that it is whole
        return
    expected = int(np.prod(page.chunked, dtype=np.int64))
    places = list(zip(page.dataoffsets, page.databytecounts, strict=False))
    found = sum(offset > 0 and 0 < count <= size - offset for offset, count in places[:expected])
    if found < expected:
        raise FormatError(
            f"{name} must be a readable TIFF image, got {found} of {expected} strips or tiles: "
            "others are cut off or left out"
        )


def _photometric(page: Any) -> int:
    """Return how values are meant; without the tag, by the number of channels."""
    default = RGB if page.samplesperpixel in (3, 4) else BLACK_IS_ZERO
    return int(page.photometric) if PHOTOMETRIC_TAG in page.tags else default


def _values(page: Any, stored: NDArray[Any]) -> NDArray[Any]:
    kind, bits = _photometric(page), int(np.max(page.bitspersample))
    if page.samplesperpixel > 1:
        stored = np.moveaxis(stored, 0, -1) if page.planarconfig == SEPARATE_PLANES else stored
        stored = stored[..., :3] if kind in (RGB, YCBCR) else stored[..., 0]
    if kind == PALETTE:
        colours = np.asarray(page.colormap)
        is_16_bits = colours.max() > np.iinfo(np.uint8).max  # as it should be
        table = (colours >> BYTE_BITS if is_16_bits else colours).astype(np.uint8)
        return np.moveaxis(table[:, stored.astype(np.intp)], 0, -1)
    if stored.dtype.kind == "b" or (stored.dtype.kind == "u" and bits < BYTE_BITS):
        spread = stored.astype(np.float32) * 255 / ((1 << bits) - 1)
        stored, bits = np.rint(spread).astype(np.uint8), BYTE_BITS
    return _inverted(stored, bits) if kind == WHITE_IS_ZERO else stored


def _inverted(values: NDArray[Any], bits: int) -> NDArray[Any]:
    """Return values whose order is the other way round, within the bits of integers."""
    if values.dtype.kind == "u":
        inverted: NDArray[Any] = np.subtract((1 << bits) - 1, values, dtype=values.dtype)
        return inverted
    return ~values if values.dtype.kind == "i" else -values
