"""PNG, JPEG and TIFF, by OpenCV; label maps as PNG."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..postprocess import LabelMap
from .intensity import AS_IT_IS, PERCENTILES, IntensityWindow
from .scan import FormatError, LabelNotes, Scan

HEADER_BYTES = 33  # of a PNG: signature and IHDR
SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")


class PictureScan(Scan):
    """An image in a picture file.

    Args:
        name: of the file, for messages.
        content: of the file.
        window: of its values; None leaves 8 bits as they are and takes percentiles of more.

    Raises:
        FormatError: the file cannot be read.
        WindowError: the window does not fit its values.
    """

    label_suffixes = (".png",)

    def __init__(
        self, name: str, content: bytes, window: str | IntensityWindow | None = None
    ) -> None:
        try:
            read = cv2.imdecode(np.frombuffer(content, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
        except cv2.error:  # too large, or empty
            read = None
        values: NDArray[Any] | None = read
        if values is None or values.ndim not in (2, 3):
            raise FormatError(f"{name} must be a PNG, JPEG or TIFF image, got something else")
        if values.ndim == 3:
            values = values[..., :3][..., ::-1]  # OpenCV's order is blue, green, red
        default = AS_IT_IS if values.dtype == np.uint8 else PERCENTILES
        super().__init__(values, window or default, is_volume=False)

    def encode(self, label_map: LabelMap, suffix: str, notes: LabelNotes) -> bytes:
        """Return a label map as PNG; see `encode_label_png`."""
        return encode_label_png(label_map, notes)


def encode_label_png(label_map: LabelMap, notes: LabelNotes) -> bytes:
    """Return a label map (H, W) as PNG of 8 or 16 bits, with the notes as its comment.

    Raises:
        FormatError: it cannot be encoded.
    """
    is_encoded, content = cv2.imencode(".png", label_map)
    if not is_encoded:
        raise FormatError(f"A label map of {label_map.shape} cannot be encoded as PNG")
    return _with_comment(bytes(content), notes.as_json())


def _with_comment(png: bytes, text: str) -> bytes:
    """Put a text after the header of a PNG (its chunk `iTXt`, not compressed, in no language)."""
    body = b"iTXt" + b"Comment\0" + b"\0\0" + b"\0" + b"\0" + text.encode()
    chunk = struct.pack(">L", len(body) - 4) + body + struct.pack(">L", zlib.crc32(body))
    return png[:HEADER_BYTES] + chunk + png[HEADER_BYTES:]
