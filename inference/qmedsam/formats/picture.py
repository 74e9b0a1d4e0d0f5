"""PNG, JPEG, TIFF and BMP: sizes and label maps by Pillow, pixels by OpenCV.

Pillow reads the header of a file without its pixels, and OpenCV more kinds of pixels.
"""

from __future__ import annotations

import io
import warnings
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from ..core.postprocess import LabelMap
from .intensity import AS_IT_IS, PERCENTILES, IntensityWindow
from .scan import FormatError, LabelNotes, Scan, check_size

KINDS = ("PNG", "JPEG", "TIFF", "BMP")


class PictureScan(Scan):
    """An image in a picture file.

    Args:
        name: of the file, for messages.
        content: of the file.
        window: of its values; None leaves 8 bits as they are and takes percentiles of more.

    Raises:
        FormatError: the file cannot be read, or has several pages.
        WindowError: the window does not fit its values.
    """

    label_suffixes = (".png",)

    def __init__(
        self, name: str, content: bytes, window: str | IntensityWindow | None = None
    ) -> None:
        _check_header(name, content)
        try:
            read = cv2.imdecode(np.frombuffer(content, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
        except cv2.error:  # of a kind that it does not know
            read = None
        values: NDArray[Any] | None = read
        if values is None or values.ndim not in (2, 3):
            raise FormatError(f"{name} must be a PNG, JPEG or TIFF image, got one that is broken")
        if values.ndim == 3:
            values = values[..., :3][..., ::-1]  # OpenCV's order is blue, green, red
        default = AS_IT_IS if values.dtype == np.uint8 else PERCENTILES
        super().__init__(values, window or default, is_volume=False)

    def encode(self, label_map: LabelMap, suffix: str, notes: LabelNotes) -> bytes:
        """Return a label map as PNG; see `encode_label_png`."""
        return encode_label_png(label_map, notes)


def encode_label_png(label_map: LabelMap, notes: LabelNotes) -> bytes:
    """Return a label map (H, W) as PNG of 8 or 16 bits, with the notes as its comment."""
    texts = PngImagePlugin.PngInfo()
    texts.add_itxt("Comment", notes.as_json())
    content = io.BytesIO()
    Image.fromarray(label_map).save(content, "PNG", pnginfo=texts)
    return content.getvalue()


def _check_header(name: str, content: bytes) -> None:
    """Check kind, pages and size before anything is decoded.

    Raises:
        FormatError: the file is no picture, has several pages, or does not fit in memory.
    """
    try:
        with (
            warnings.catch_warnings(action="ignore"),  # of large ones, which are checked here
            Image.open(io.BytesIO(content), formats=KINDS) as picture,
        ):
            pages = getattr(picture, "n_frames", 1) if picture.format == "TIFF" else 1
            count = picture.width * picture.height * len(picture.getbands())
    except Image.DecompressionBombError as error:
        raise FormatError(f"{name} is too large: {error}") from error
    except Exception as error:  # of a file that is broken, any
        raise FormatError(
            f"{name} must be a PNG, JPEG or TIFF image, got something else"
        ) from error
    if pages > 1:
        raise FormatError(f"{name} must have one page, got {pages}; make a NIfTI file of a stack")
    check_size(name, count)
