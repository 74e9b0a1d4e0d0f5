"""What a file of any format holds: values, 8-bit pixels, and a way back into its geometry."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InferenceError
from ..geometry import Boxes
from ..postprocess import LabelMap
from ..version import __version__
from .intensity import IntensityWindow, describe, to_8_bits


class FormatError(InferenceError):
    """A file cannot be read or written in a format; the message says what was expected."""


@dataclass(frozen=True)
class LabelNotes:
    """What is written with a label map.

    Attributes:
        window: how values became 8 bits.
        names: of the objects, in the order of their labels; an empty one is that of its number.
    """

    window: str
    names: tuple[str, ...] = ()

    def name(self, label: int) -> str:
        """Return the name of an object by its label, counted from 1."""
        named = self.names[label - 1] if label <= len(self.names) else ""
        return named or f"Object {label}"

    def line(self) -> str:
        """Return how the labels were made, for a short field of a header."""
        return f"qmedsam {__version__}, {self.window}"

    def as_json(self) -> str:
        """Return all of it."""
        names = {label: self.name(label) for label in range(1, len(self.names) + 1)}
        document = {"made_by": f"qmedsam {__version__}", "window": self.window, "labels": names}
        return json.dumps(document)


class Scan(ABC):
    """An image or a volume from a file.

    Args:
        values: (H, W) or (H, W, 3) of an image, (D, H, W) of a volume.
        window: how they become 8 bits; see `to_8_bits`.
        is_volume: whether it is one.
        remarks: what a user should know of the file, a sentence each.

    Attributes:
        pixels: of the shape of the values, uint8.
        window: as given.
        label_suffixes: in which the name of a file of labels may end.

    Raises:
        WindowError: the window does not fit the values.
    """

    label_suffixes: tuple[str, ...]

    def __init__(
        self,
        values: NDArray[Any],
        window: str | IntensityWindow,
        *,
        is_volume: bool,
        remarks: tuple[str, ...] = (),
    ) -> None:
        self._values = values
        self.remarks = remarks
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

    def notes_of(self, names: Sequence[str]) -> LabelNotes:
        """Return what is written with a label map of objects with names."""
        return LabelNotes(describe(self.window), tuple(names))

    @abstractmethod
    def encode(self, label_map: LabelMap, suffix: str, notes: LabelNotes) -> bytes:
        """Return the file of a label map of `pixels` in the file's geometry.

        Args:
            label_map: of `label_shape`.
            suffix: one of `label_suffixes`.
            notes: to go with it.

        Raises:
            FormatError: it cannot be encoded.
        """

    def _to_8_bits(self, window: str | IntensityWindow) -> NDArray[np.uint8]:
        return to_8_bits(self._values, window)
