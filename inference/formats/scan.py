"""What a file of any format holds: values, 8-bit pixels, and a way back into its geometry."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..errors import InferenceError
from ..geometry import Boxes
from ..postprocess import LabelMap
from .intensity import IntensityWindow, to_8_bits


class FormatError(InferenceError):
    """A file cannot be read or written in a format; the message says what was expected."""


class Scan(ABC):
    """An image or a volume from a file.

    Args:
        values: (H, W) or (H, W, 3) of an image, (D, H, W) of a volume.
        window: how they become 8 bits; see `to_8_bits`.
        is_volume: whether it is one.

    Attributes:
        pixels: of the shape of the values, uint8.
        window: as given.
        label_suffixes: in which the name of a file of labels may end.

    Raises:
        WindowError: the window does not fit the values.
    """

    label_suffixes: ClassVar[tuple[str, ...]]

    def __init__(
        self, values: NDArray[Any], window: str | IntensityWindow, *, is_volume: bool
    ) -> None:
        self._values = values
        self.is_volume = is_volume
        self.set_window(window)

    @property
    def label_shape(self) -> tuple[int, ...]:
        """Shape of its label map, (H, W) or (D, H, W)."""
        return self.pixels.shape if self.is_volume else self.pixels.shape[:2]

    def set_window(self, window: str | IntensityWindow) -> None:
        """Make the pixels anew from the values.

        Raises:
            WindowError: the window does not fit the values.
        """
        self.pixels: NDArray[np.uint8] = np.ascontiguousarray(self._to_8_bits(window))
        self.window = window

    def boxes_to_pixels(self, boxes: Boxes) -> Boxes:
        """Turn boxes in the file's own coordinates, (N, 4) or (N, 6), into those of `pixels`."""
        return boxes

    @abstractmethod
    def encode(self, label_map: LabelMap, suffix: str, note: str) -> bytes:
        """Return the file of a label map of `pixels` in the file's geometry.

        Args:
            label_map: of `label_shape`.
            suffix: one of `label_suffixes`.
            note: of how it was made.

        Raises:
            FormatError: it cannot be encoded.
        """

    def _to_8_bits(self, window: str | IntensityWindow) -> NDArray[np.uint8]:
        return to_8_bits(self._values, window)
