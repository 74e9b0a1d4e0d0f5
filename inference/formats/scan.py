"""What a file holds, whatever its format: 8-bit pixels, and a way back into its geometry."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import InferenceError
from ..geometry import Boxes
from ..postprocess import LabelMap


class FormatError(InferenceError):
    """A file cannot be read or written in a format; the message says what was expected."""


class Scan(Protocol):
    """An image or a volume from a file.

    Attributes:
        pixels: (H, W) or (H, W, 3) of an image, (D, H, W) of a volume; uint8.
        is_volume: whether it is one.
        label_suffixes: in which the name of a file that it writes may end.
    """

    pixels: NDArray[np.uint8]
    is_volume: bool
    label_suffixes: tuple[str, ...]

    @property
    def label_shape(self) -> tuple[int, ...]:
        """Shape of its label map, (H, W) or (D, H, W)."""
        return self.pixels.shape if self.is_volume else self.pixels.shape[:2]

    def boxes_to_pixels(self, boxes: Boxes) -> Boxes:
        """Turn boxes in the file's own coordinates, (N, 4) or (N, 6), into those of `pixels`."""
        ...

    def write(self, label_map: LabelMap, path: Path, note: str) -> None:
        """Write a label map of `pixels` in the file's geometry, with a note of how it was made."""
        ...
