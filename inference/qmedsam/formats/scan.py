"""What a file of any format holds: values, 8-bit pixels, and a way back into its geometry."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..core.geometry import Boxes
from ..core.postprocess import LabelMap
from ..core.prompts import IMAGE_COLUMNS, VOLUME_COLUMNS, as_array
from ..errors import InferenceError, InvalidCaseError
from ..system.memory import largest_array_bytes
from .intensity import (
    OF_FILE,
    IntensityWindow,
    Limits,
    WindowError,
    check_window,
    describe,
    find_limits,
    is_measured,
    to_8_bits,
)
from .label_notes import LabelNotes
from .suffixes import RTSTRUCT

AUTOMATIC_PLANE = "auto"
PLANES = ("axial", "coronal", "sagittal")  # in which a volume is cut into slices
VALUE_BYTES = 4  # of a value as it is kept, float32 at most
MOST_LABEL = 65_535  # of a label map


LINE_BREAKS = re.compile(r"\s*[\r\n]+\s*")


class FormatError(InferenceError):
    """A file cannot be read or written in a format; the message says what was expected.

    Args:
        message: becomes one line, as those of libraries may be several.
    """

    def __init__(self, message: str) -> None:
        super().__init__(LINE_BREAKS.sub(" ", message.strip()))


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
    """There are several volumes or images in a file or a DICOM series, and none was chosen.

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
        plane: in which a volume is cut into slices; empty where the file leaves no choice.
        label_suffixes: in which the name of a file of labels may end.
        refusals: why it may not end in others, by suffix.

    Raises:
        WindowError: the window does not fit the values.
    """

    label_suffixes: tuple[str, ...]
    refusals: Mapping[str, str] = MappingProxyType({})
    plane: str = ""

    def __init__(
        self,
        values: NDArray[Any],
        window: str | IntensityWindow,
        *,
        is_volume: bool,
        remarks: tuple[str, ...] = (),
    ) -> None:
        self._values = values
        missing = int(values.size - sum(int(is_measured(part).sum()) for part in values))
        found = (f"{missing} values are no measurement and are seen as 0.",) if missing else ()
        self.remarks = (*remarks, *found)
        self.is_volume = is_volume
        self.set_window(window)

    @property
    def nbytes(self) -> int:
        """Memory of values and pixels."""
        return self._values.nbytes + self.pixels.nbytes

    @property
    def is_placed(self) -> bool:
        """Whether it says where it lies."""
        return self.affine is not None

    @property
    def label_shape(self) -> tuple[int, ...]:
        """Shape of its label map, (H, W) or (D, H, W)."""
        return self.pixels.shape if self.is_volume else self.pixels.shape[:2]

    def set_window(self, window: str | IntensityWindow) -> None:
        """Make the pixels anew from the values.

        Raises:
            WindowError: the window does not fit the values.
        """
        check_window(window)
        limits = find_limits(self._values, self._resolved(window))
        self.pixels: NDArray[np.uint8] = self._to_8_bits(limits)
        self.window = window
        self.described_window = describe(window, limits)

    @property
    def values(self) -> NDArray[Any]:
        """The values of the file, in the shape of `pixels`, as they were before they had 8 bits."""
        return self._values

    @property
    def own_axes(self) -> NDArray[np.float64]:
        """Turns places (x, y, z, 1) in `pixels` into those in the file, (4, 4).

        The z of an image is 0.
        """
        return np.eye(4)

    @property
    def affine(self) -> NDArray[np.float64] | None:
        """Turns places (x, y, z, 1) in the file into millimetres, (4, 4).

        They are those to the patient's left, back and top (LPS), as in DICOM; None where the file
        does not say where it lies, or where that is no grid.
        """
        return None

    @property
    def spacing(self) -> tuple[float, ...] | None:
        """Millimetres from a pixel to the next along columns, rows and slices; None if unknown.

        They are two of an image and three of a volume.
        """
        if self.affine is None:
            return None
        steps = np.linalg.norm((self.affine @ self.own_axes)[:3, :3], axis=0)
        return tuple(float(step) for step in steps[: 2 + self.is_volume])

    def slice_name(self, place: int) -> str:
        """Return what a slice of `pixels` is called in the file: an axis, and a place along it."""
        turn = self.own_axes
        axis = int(np.abs(turn[:3, 2]).argmax())
        return f"{'xyz'[axis]} {turn[axis, 2] * place + turn[axis, 3]:.0f}"

    def pixels_of(self, places: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return where places in the patient lie in `pixels`.

        Args:
            places: (N, 3), millimetres to the patient's left, back and top.

        Returns:
            (N, 3): columns, rows and slices, and parts of them.

        Raises:
            FormatError: the file does not say where it lies.
        """
        if self.affine is None:
            raise FormatError("The image must say where its pixels lie in the patient")
        turn = np.linalg.inv(self.affine @ self.own_axes)
        found: NDArray[np.float64] = places @ turn[:3, :3].T + turn[:3, 3]
        return found

    @property
    def box_columns(self) -> tuple[int, ...]:
        """How many numbers a box may have."""
        return (VOLUME_COLUMNS,) if self.is_volume else (IMAGE_COLUMNS,)

    @property
    def plane_axes(self) -> tuple[int, int]:
        """The axes of boxes, as they are written, that lie in the slices."""
        return 0, 1

    def as_pixels_have(self, boxes: Boxes) -> Boxes:
        """Return boxes of the file's own coordinates with as many numbers as those of `pixels`.

        Raises:
            FormatError: they do not fit.
        """
        return boxes

    def boxes_to_pixels(self, boxes: ArrayLike) -> Boxes:
        """Turn boxes in the file's own coordinates into those of `pixels`.

        Args:
            boxes: (N, 4) or (N, 6), of which `box_columns` says what fits; any number type.

        Raises:
            FormatError: they have another type or shape.
        """
        try:
            rows = np.atleast_2d(as_array(boxes))
        except InvalidCaseError as error:
            raise FormatError(str(error)) from error
        if rows.size == 0:
            return np.zeros((0, self.box_columns[0]), dtype=np.float32)
        if rows.dtype.kind not in "iuf":
            raise FormatError(f"Boxes must be integers or floats, got {rows.dtype}")
        if rows.ndim != 2 or rows.shape[1] not in self.box_columns:
            wanted = " or ".join(f"(N, {columns})" for columns in self.box_columns)
            raise FormatError(f"Boxes must have shape {wanted} for this file, got {rows.shape}")
        return self._to_pixels(self.as_pixels_have(rows.astype(np.float32)))

    def notes_of(self, names: Sequence[str]) -> LabelNotes:
        """Return what is written with a label map of objects with names."""
        return LabelNotes(self.described_window, tuple(names))

    def check(self, suffix: str) -> None:
        """Check that a label map can be written, before it is found.

        Raises:
            FormatError: it cannot, in a format whose name ends so, or as an RTSTRUCT.
        """
        if suffix == RTSTRUCT:
            raise FormatError("An RTSTRUCT refers to slices of DICOM, and the image is none")
        if self.refusals.get(suffix):
            raise FormatError(self.refusals[suffix])

    @abstractmethod
    def encode(self, label_map: LabelMap, suffix: str, notes: LabelNotes) -> bytes:
        """Return the file of a label map of `pixels` in the file's geometry.

        Args:
            label_map: of `label_shape`.
            suffix: one of `label_suffixes`, or `rtstruct`, which `check` has allowed.
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

    def _to_pixels(self, boxes: Boxes) -> Boxes:
        return boxes

    def _to_8_bits(self, limits: Limits | None) -> NDArray[np.uint8]:
        return to_8_bits(self._values, limits)
