"""The check of what a caller passes in: pixels and boxes.

It happens once, at the edge; the pipeline trusts what comes out of here.
"""

from __future__ import annotations

from collections.abc import Sized
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import InvalidCaseError
from .geometry import Boxes
from .notes import (
    CLIPPED,
    CORNER,
    OUTSIDE,
    PUT_IN_ORDER,
    ROUNDED,
    described_extent,
    named_boxes,
    notes_of,
)

COLOUR_CHANNELS = (3, 4)
IMAGE_CHANNELS = (1, *COLOUR_CHANNELS)
IMAGE_COLUMNS, VOLUME_COLUMNS = 4, 6
MOST_BOXES = np.iinfo(np.uint16).max
CORNER_SIDE = 2  # of what boxes from 0 to 1 can be in pixels
LONGEST_SIDE = np.iinfo(np.uint16).max  # of an image or volume, in pixels or slices


@dataclass(frozen=True)
class Prompts:
    """Checked boxes.

    Attributes:
        boxes: (N, 4) xyxy or (N, 6) xyzxyz, float32, minimum first, inside the image or volume.
        written: the boxes as the user wrote them, for further notes.
        objects: rows of the boxes that touch a pixel; the others have an empty mask.
        notes: what had to be corrected, one sentence each.
    """

    boxes: Boxes
    written: NDArray[np.float64]
    objects: tuple[int, ...]
    notes: tuple[str, ...]

    @property
    def is_volume(self) -> bool:
        """Whether the boxes have a z-range."""
        return int(self.boxes.shape[1]) == VOLUME_COLUMNS

    @property
    def slices(self) -> NDArray[np.int64]:
        """The first and the last slice of each box, (N, 2), both inclusive; zeros of an image."""
        if not self.is_volume:
            return np.zeros((len(self.boxes), 2), dtype=np.int64)
        return self.boxes[:, [2, 5]].astype(np.int64)


def check_prompts(
    pixels: NDArray[np.uint8],
    boxes: NDArray[np.generic],
    *,
    written: NDArray[np.generic] | None = None,
    plane_axes: tuple[int, int] = (0, 1),
) -> Prompts:
    """Check pixels and boxes and bring the boxes into one form.

    Args:
        pixels: image (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), or volume (D, H, W); uint8.
        boxes: (N, 4) with an image, (N, 6) with a volume, any integer or float type; one box may
            come as (4,) or (6,), no box as an array of size 0.
        written: the boxes as a user wrote them, for the notes; None where they are `boxes`.
        plane_axes: the axes of what was written that lie in the slices.

    Returns:
        The boxes: swapped where a maximum came first, z rounded, clipped to the border. A box
        that lies outside is noted, and keeps its label without an object.

    Raises:
        InvalidCaseError: a type or shape is wrong, a value is not finite, or the boxes are
            normalised.
    """
    check_pixels(pixels)
    rows = _as_rows(pixels, boxes)
    is_volume = rows.shape[1] == VOLUME_COLUMNS
    _check_match(pixels, is_volume)
    shown = rows if written is None else written.astype(np.float64)
    broken = np.any(~np.isfinite(rows), axis=1)
    if broken.any():
        raise InvalidCaseError(f"Boxes must be finite, got {named_boxes(shown, broken)}")
    corners = _corner_boxes(shown, pixels.shape, plane_axes)
    half = rows.shape[1] // 2
    low, high = rows[:, :half], rows[:, half:]
    ordered = np.concatenate([np.minimum(low, high), np.maximum(low, high)], axis=1)
    outside = _outside(ordered, pixels.shape)
    rounded = ordered.copy()
    if is_volume:
        rounded[:, [2, 5]] = np.floor(ordered[:, [2, 5]] + 0.5)
    named = _border_as_last_pixel(rounded, pixels.shape)
    clipped = _clipped(named, pixels.shape)
    extent = described_extent(pixels.shape, is_volume=is_volume)
    kinds = {
        CORNER: corners,
        PUT_IN_ORDER: np.any(shown[:, :half] > shown[:, half:], axis=1),
        ROUNDED: np.any(rounded != ordered, axis=1),
        OUTSIDE % extent: outside,
        CLIPPED % extent: np.any(clipped != named, axis=1) & ~outside,
    }
    return Prompts(
        boxes=clipped.astype(np.float32),
        written=shown,
        objects=tuple(int(i) for i in np.flatnonzero(~outside)),
        notes=notes_of(shown, kinds),
    )


def as_array(boxes: ArrayLike) -> NDArray[np.generic]:
    """Return boxes as an array.

    Raises:
        InvalidCaseError: they are rows of different lengths.
    """
    try:
        return np.asarray(boxes)
    except ValueError as error:
        rows: Any = boxes
        lengths = sorted({len(row) if isinstance(row, Sized) else 1 for row in rows})
        found = ", ".join(str(length) for length in lengths)
        raise InvalidCaseError(
            f"Boxes must be rows of equal length, got lengths {found}"
        ) from error


def boxes_on_slices(
    boxes: NDArray[np.generic], slice_index: int, slices: tuple[int, int]
) -> NDArray[np.float64]:
    """Return the (N, 6) boxes of what was boxed, (N, 4), on one slice of several.

    Raises:
        InvalidCaseError: the boxes have another shape, or the slice is not among the others.
    """
    if boxes.size == 0:
        return np.zeros((0, VOLUME_COLUMNS))
    if boxes.dtype.kind not in "iuf":
        raise InvalidCaseError(f"Boxes must be integers or floats, got {boxes.dtype}")
    rows = np.atleast_2d(boxes.astype(np.float64))
    if rows.ndim != 2 or rows.shape[1] != IMAGE_COLUMNS:
        raise InvalidCaseError(f"Boxes on a slice must have shape (N, 4), got {rows.shape}")
    first, last = slices
    if not first <= slice_index <= last:
        raise InvalidCaseError(f"Slice must be from {first} to {last}, got {slice_index}")
    ends = np.full((len(rows), 1), first), np.full((len(rows), 1), last)
    return np.hstack([rows[:, :2], ends[0], rows[:, 2:], ends[1]])


def label_map_shape(shape: tuple[int, ...], columns: int | None) -> tuple[int, ...] | None:
    """Return the shape of the label map of pixels, by that of the pixels alone and of boxes.

    Args:
        shape: of the pixels.
        columns: of the boxes, four of an image and six of a volume; None or any other number
            where they do not tell.

    Returns:
        (H, W) or (D, H, W); None where the pixels are neither an image nor a volume.
    """
    if len(shape) == 2:
        return shape
    if len(shape) != 3:
        return None
    is_image = shape[2] in IMAGE_CHANNELS and columns != VOLUME_COLUMNS
    return shape[:2] if is_image else shape


def check_pixels(pixels: NDArray[np.uint8]) -> None:
    """Check an image or a volume.

    Raises:
        InvalidCaseError: its type or shape is wrong.
    """
    if pixels.dtype != np.uint8:
        raise InvalidCaseError(
            f"Pixels must be uint8, 0 to 255, got {pixels.dtype}{_conversion_hint(pixels)}"
        )
    if pixels.ndim not in (2, 3) or pixels.size == 0:
        raise InvalidCaseError(
            f"Pixels must be an image (H, W) or (H, W, 3) or a volume (D, H, W), got {pixels.shape}"
        )
    if max(pixels.shape) > LONGEST_SIDE:
        raise InvalidCaseError(f"Sides must be {LONGEST_SIDE} at most, got {pixels.shape}")


def _conversion_hint(pixels: NDArray[np.generic]) -> str:
    """Say what the values are, and how they become 8 bits; nothing where they are no numbers."""
    if pixels.dtype == np.bool_:
        return ": multiply by 255"
    if pixels.dtype.kind not in "iuf" or pixels.size == 0:
        return ""
    low, high = float(pixels.min()), float(pixels.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        return " with values that are not finite: replace them, then map the rest to 0..255"
    found = f" from {low:g} to {high:g}"
    if low >= 0 and high <= 1:
        return f"{found}: multiply by 255 and round"
    if low >= 0 and high <= np.iinfo(np.uint8).max:
        return f"{found}: round and convert with astype(np.uint8)"
    if low < 0:
        return (
            f"{found}: clip CT to the window that shows the structure (soft tissue: -160 to 240 "
            "HU), other images to their 0.5th to 99.5th percentile, then map that to 0..255"
        )
    return f"{found}: clip to the 0.5th to 99.5th percentile, then map that to 0..255"


def _as_rows(pixels: NDArray[np.uint8], boxes: NDArray[np.generic]) -> NDArray[np.float64]:
    if boxes.size == 0:
        fits_volume = boxes.ndim == 2 and boxes.shape[1] == VOLUME_COLUMNS and pixels.ndim == 3
        is_image = _can_be_image(pixels) and not fits_volume
        return np.zeros((0, IMAGE_COLUMNS if is_image else VOLUME_COLUMNS))
    if boxes.dtype.kind not in "iuf":
        raise InvalidCaseError(f"Boxes must be integers or floats, got {boxes.dtype}")
    rows = boxes[None] if boxes.ndim == 1 else boxes
    if rows.ndim == 2 and len(rows) > MOST_BOXES:
        raise InvalidCaseError(f"At most {MOST_BOXES} boxes have a label, got {len(rows)}")
    if rows.ndim != 2 or rows.shape[1] not in (IMAGE_COLUMNS, VOLUME_COLUMNS):
        raise InvalidCaseError(
            f"Boxes must have shape (N, 4) for an image or (N, 6) for a volume, got {boxes.shape}"
        )
    return rows.astype(np.float64)


def _can_be_image(pixels: NDArray[np.uint8]) -> bool:
    return label_map_shape(pixels.shape, None) == pixels.shape[:2]


def _check_match(pixels: NDArray[np.uint8], is_volume: bool) -> None:
    if is_volume and pixels.ndim != 3:
        raise InvalidCaseError(f"Boxes (N, 6) need a volume (D, H, W), got {pixels.shape}")
    if not is_volume and not _can_be_image(pixels):
        raise InvalidCaseError(
            f"Boxes (N, 4) need an image (H, W) or (H, W, 3), got {pixels.shape}; "
            "a volume needs boxes (N, 6)"
        )


def _corner_boxes(
    written: NDArray[np.float64], shape: tuple[int, ...], plane_axes: tuple[int, int]
) -> NDArray[np.bool_]:
    """Say which boxes, (0, 0, 1, 1), are of 2 x 2 pixels but read like normalised ones.

    Raises:
        InvalidCaseError: x and y of all boxes are within 0 to 1 on a larger image, and not all
            are whole numbers.
    """
    half = written.shape[1] // 2
    first, second = plane_axes
    flat = written[:, [first, second, half + first, half + second]]
    width, height = _extent(shape, half)[:2]
    if max(width, height) <= CORNER_SIDE or not np.all((flat >= 0) & (flat <= 1)):
        return np.zeros(len(written), dtype=np.bool_)
    if np.any(flat % 1):
        raise InvalidCaseError(
            f"Boxes must be in pixels of the original image, {width} x {height}, got x and y from "
            f"{flat.min():g} to {flat.max():g}, which read like normalised ones"
        )
    return np.asarray(np.all(flat == [0, 0, 1, 1], axis=1), dtype=np.bool_)


def _outside(boxes: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Say which ordered boxes touch no pixel; pixel i reaches from i - 0.5 to i + 0.5."""
    half = boxes.shape[1] // 2
    extent = _extent(shape, half)
    outside = (boxes[:, half:] < -0.5) | (boxes[:, :half] >= extent - 0.5)
    return np.asarray(np.any(outside, axis=1), dtype=np.bool_)


def _clipped(boxes: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Move coordinates that lie outside to the first or last pixel."""
    last = _extent(shape, boxes.shape[1] // 2) - 1
    return np.clip(boxes, 0, np.concatenate([last, last]))


def _border_as_last_pixel(
    boxes: NDArray[np.float64], shape: tuple[int, ...]
) -> NDArray[np.float64]:
    """Take a highest x or y that names the border itself, as many tools have it, for a pixel."""
    half = boxes.shape[1] // 2
    border = _extent(shape, half)[:2]
    named = boxes.copy()
    highest = named[:, half : half + 2]
    highest[...] = np.where((highest > border - 1) & (highest <= border), border - 1, highest)
    return named


def _extent(shape: tuple[int, ...], axes: int) -> NDArray[np.int64]:
    """Return width and height of an image, or width, height and depth of a volume."""
    if axes == IMAGE_COLUMNS // 2:
        return np.array([shape[1], shape[0]])
    return np.array([shape[2], shape[1], shape[0]])
