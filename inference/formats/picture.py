"""PNG, JPEG and TIFF, by OpenCV; label maps as PNG."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ..files import write_bytes
from ..geometry import Boxes
from ..postprocess import LabelMap
from .intensity import AS_IT_IS, PERCENTILES, IntensityWindow, to_8_bits
from .scan import FormatError, Scan

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")


class PictureScan(Scan):
    """An image in a picture file.

    Args:
        path: of the file.
        window: of its values; None leaves 8 bits as they are and takes percentiles of more.

    Attributes:
        pixels: (H, W) or (H, W, 3) RGB, uint8.

    Raises:
        FormatError: the file cannot be read.
        WindowError: the window does not fit its values.
    """

    is_volume = False
    label_suffixes = (".png",)

    def __init__(self, path: Path, window: str | IntensityWindow | None = None) -> None:
        try:
            content = np.fromfile(path, dtype=np.uint8)
        except OSError as error:
            raise FormatError(f"{path} cannot be read: {error}") from error
        values = cv2.imdecode(content, cv2.IMREAD_UNCHANGED) if content.size else None
        if values is None or values.ndim not in (2, 3):
            raise FormatError(f"{path} must be a PNG, JPEG or TIFF image, got something else")
        if values.ndim == 3:
            values = values[..., :3][..., ::-1]  # OpenCV's order is blue, green, red
        if window is None:
            window = AS_IT_IS if values.dtype == np.uint8 else PERCENTILES
        self.pixels: NDArray[np.uint8] = np.ascontiguousarray(to_8_bits(values, window))

    def boxes_to_pixels(self, boxes: Boxes) -> Boxes:
        """Return boxes (N, 4) as they are: x, y of pixels."""
        return boxes

    def write(self, label_map: LabelMap, path: Path, note: str) -> None:
        """Write a label map as PNG of 8 or 16 bits."""
        is_encoded, content = cv2.imencode(".png", label_map)
        if not is_encoded:
            raise FormatError(f"{path} cannot be encoded")
        try:
            write_bytes(path, content.tobytes())
        except OSError as error:
            raise FormatError(f"{path} cannot be written: {error}") from error
