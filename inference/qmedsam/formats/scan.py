"""What a file of any format holds: values, 8-bit pixels, and a way back into its geometry."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.geometry import Boxes
from ..core.postprocess import LabelMap
from ..errors import InferenceError
from ..system.memory import largest_array_bytes
from ..version import __version__
from .intensity import (
    OF_FILE,
    IntensityWindow,
    Limits,
    WindowError,
    describe,
    find_limits,
    to_8_bits,
)

VALUE_BYTES = 4  # of a value as it is kept, float32 at most


class FormatError(InferenceError):
    """A file cannot be read or written in a format; the message says what was expected."""


class SeveralSeriesError(FormatError):
    """There are several DICOM series, and none was chosen.

    Args:
        message: for a user of the command.
        choices: UID of each, and what it is.
    """

    def __init__(self, message: str, choices: Sequence[tuple[str, str]]) -> None:
        super().__init__(message)
        self.choices = tuple(choices)


class SeveralVolumesError(FormatError):
    """There are several volumes or images in a DICOM series, and none was chosen.

    Args:
        message: for a user of the command.
        choices: number of each, and what it is.
    """

    def __init__(self, message: str, choices: Sequence[tuple[int, str]]) -> None:
        super().__init__(message)
        self.choices = tuple(choices)


def check_size(name: str, count: int) -> None:
    """Check, before they are decoded, that so many values fit in memory.

    Raises:
        FormatError: they do not.
    """
    most = largest_array_bytes() // VALUE_BYTES
    if count > most:
        raise FormatError(f"{name} must hold {most} values at most for this memory, got {count}")


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
        values: (H, W) or (H, W, 3) of an image, (D, H, W) of a volume. Those that are not finite
            are no measurement and become 0.
        window: how they become 8 bits; see `to_8_bits`.
        is_volume: whether it is one.
        remarks: what a user should know of the file, a sentence each.

    Attributes:
        pixels: of the shape of the values, uint8.
        window: as given.
        described_window: the window in words, with the percentiles that were found.
        label_suffixes: in which the name of a file of labels may end.
        refusals: why it may not end in others, by suffix.

    Raises:
        WindowError: the window does not fit the values.
    """

    label_suffixes: tuple[str, ...]
    refusals: Mapping[str, str] = MappingProxyType({})

    def __init__(
        self,
        values: NDArray[Any],
        window: str | IntensityWindow,
        *,
        is_volume: bool,
        remarks: tuple[str, ...] = (),
    ) -> None:
        self._values = values
        missing = int(values.size - np.isfinite(values).sum()) if values.dtype.kind == "f" else 0
        found = (f"{missing} values are no measurement and are seen as 0.",) if missing else ()
        self.remarks = (*remarks, *found)
        self.is_volume = is_volume
        self.set_window(window)

    @property
    def nbytes(self) -> int:
        """Memory of values and pixels."""
        return self._values.nbytes + self.pixels.nbytes

    @property
    def label_shape(self) -> tuple[int, ...]:
        """Shape of its label map, (H, W) or (D, H, W)."""
        return self.pixels.shape if self.is_volume else self.pixels.shape[:2]

    def set_window(self, window: str | IntensityWindow) -> None:
        """Make the pixels anew from the values.

        Raises:
            WindowError: the window does not fit the values.
        """
        limits = find_limits(self._values, self._resolved(window))
        self.pixels: NDArray[np.uint8] = self._to_8_bits(limits)
        self.window = window
        self.described_window = describe(window, limits)

    def boxes_to_pixels(self, boxes: Boxes) -> Boxes:
        """Turn boxes in the file's own coordinates, (N, 4) or (N, 6), into those of `pixels`."""
        return boxes

    def notes_of(self, names: Sequence[str]) -> LabelNotes:
        """Return what is written with a label map of objects with names."""
        return LabelNotes(self.described_window, tuple(names))

    def check(self, suffix: str) -> None:
        """Check that a label map can be written, before it is found.

        Raises:
            FormatError: it cannot, in a format whose name ends so.
        """
        if self.refusals.get(suffix):
            raise FormatError(self.refusals[suffix])

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

    def _resolved(self, window: str | IntensityWindow) -> str | IntensityWindow:
        """Return the window that a file itself says in place of `file`.

        Raises:
            WindowError: it says none.
        """
        if window == OF_FILE:
            raise WindowError("Only DICOM files say a window of their own, and not all of them")
        return window

    def _to_8_bits(self, limits: Limits | None) -> NDArray[np.uint8]:
        return to_8_bits(self._values, limits)
