"""The check of what a caller passes in: pixels and boxes.

It happens once, at the edge; the pipeline trusts what comes out of here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .errors import InvalidCaseError
from .geometry import Boxes, clip_boxes

IMAGE_CHANNELS = (1, 3, 4)
IMAGE_COLUMNS, VOLUME_COLUMNS = 4, 6
MOST_BOXES = np.iinfo(np.uint16).max


@dataclass(frozen=True)
class Prompts:
    """Checked boxes.

    Attributes:
        boxes: (N, 4) xyxy or (N, 6) xyzxyz, float32, minimum first, inside the image or volume.
        notes: what had to be corrected, one sentence each.
    """

    boxes: Boxes
    notes: tuple[str, ...]

    @property
    def is_volume(self) -> bool:
        """Whether the boxes have a z-range."""
        return int(self.boxes.shape[1]) == VOLUME_COLUMNS


def check_prompts(pixels: NDArray[np.uint8], boxes: NDArray[np.generic]) -> Prompts:
    """Check pixels and boxes and bring the boxes into one form.

    Args:
        pixels: image (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), or volume (D, H, W); uint8.
        boxes: (N, 4) with an image, (N, 6) with a volume, any integer or float type; one box may
            come as (4,) or (6,), no box as an array of size 0.

    Returns:
        The boxes: swapped where a maximum came first, clipped to the border, z rounded.

    Raises:
        InvalidCaseError: a type or shape is wrong, a value is not finite, or a box lies outside.
    """
    _check_pixels(pixels)
    checked = _as_rows(pixels, boxes)
    is_volume = checked.shape[1] == VOLUME_COLUMNS
    _check_match(pixels, is_volume)
    if len(checked) > MOST_BOXES:
        raise InvalidCaseError(f"At most {MOST_BOXES} boxes have a label, got {len(checked)}")
    broken = np.any(~np.isfinite(checked), axis=1)
    if broken.any():
        raise InvalidCaseError(f"Boxes must be finite, got {_rows(checked, broken)}")
    swapped, notes = _swapped(checked)
    if is_volume:
        swapped[:, [2, 5]] = np.rint(swapped[:, [2, 5]])
    return Prompts(*_clipped(swapped, pixels.shape, is_volume, notes))


def _check_pixels(pixels: NDArray[np.uint8]) -> None:
    if pixels.dtype != np.uint8:
        raise InvalidCaseError(
            f"Pixels must be uint8, 0 to 255, got {pixels.dtype}; "
            "map the wanted intensity window to 0..255 first"
        )
    if pixels.ndim not in (2, 3) or pixels.size == 0:
        raise InvalidCaseError(
            f"Pixels must be an image (H, W) or (H, W, 3) or a volume (D, H, W), got {pixels.shape}"
        )


def _as_rows(pixels: NDArray[np.uint8], boxes: NDArray[np.generic]) -> Boxes:
    if boxes.size == 0 and (boxes.ndim != 2 or boxes.shape[1] not in (4, 6)):
        columns = IMAGE_COLUMNS if _can_be_image(pixels) else VOLUME_COLUMNS
        return np.zeros((0, columns), dtype=np.float32)
    if boxes.dtype.kind not in "iuf":
        raise InvalidCaseError(f"Boxes must be integers or floats, got {boxes.dtype}")
    rows = boxes[None] if boxes.ndim == 1 else boxes
    if rows.ndim != 2 or rows.shape[1] not in (IMAGE_COLUMNS, VOLUME_COLUMNS):
        raise InvalidCaseError(
            f"Boxes must have shape (N, 4) for an image or (N, 6) for a volume, got {boxes.shape}"
        )
    return rows.astype(np.float32)


def _can_be_image(pixels: NDArray[np.uint8]) -> bool:
    return pixels.ndim == 2 or pixels.shape[2] in IMAGE_CHANNELS


def _check_match(pixels: NDArray[np.uint8], is_volume: bool) -> None:
    if is_volume and pixels.ndim != 3:
        raise InvalidCaseError(f"Boxes (N, 6) need a volume (D, H, W), got {pixels.shape}")
    if not is_volume and not _can_be_image(pixels):
        raise InvalidCaseError(
            f"Boxes (N, 4) need an image (H, W) or (H, W, 3), got {pixels.shape}; "
            "a volume needs boxes (N, 6)"
        )


def _swapped(boxes: Boxes) -> tuple[Boxes, list[str]]:
    half = boxes.shape[1] // 2
    low, high = boxes[:, :half], boxes[:, half:]
    inverted = np.any(low > high, axis=1)
    notes = [f"Minimum and maximum were swapped in {_rows(boxes, inverted)}"]
    ordered = np.concatenate([np.minimum(low, high), np.maximum(low, high)], axis=1)
    return ordered, notes if inverted.any() else []


def _clipped(
    boxes: Boxes, shape: tuple[int, ...], is_volume: bool, notes: list[str]
) -> tuple[Boxes, tuple[str, ...]]:
    """Clip to the border; a box with nothing inside is an error."""
    depth, height, width = shape if is_volume else (1, shape[0], shape[1])
    columns = [0, 1, 3, 4] if is_volume else [0, 1, 2, 3]
    clipped = boxes.copy()
    clipped[:, columns] = clip_boxes(boxes[:, columns], (height, width))
    x0, y0, x1, y1 = boxes[:, columns].T
    outside = (x1 < 0) | (y1 < 0) | (x0 >= width) | (y0 >= height)
    if is_volume:
        clipped[:, [2, 5]] = np.clip(boxes[:, [2, 5]], 0, depth - 1)
        outside |= (boxes[:, 5] < 0) | (boxes[:, 2] >= depth)
    if outside.any():
        raise InvalidCaseError(f"Boxes must touch pixels of {shape}, got {_rows(boxes, outside)}")
    changed = np.any(clipped != boxes, axis=1)
    if changed.any():
        notes = [*notes, f"Boxes beyond {shape} were clipped: {_rows(boxes, changed)}"]
    return clipped, tuple(notes)


def _rows(boxes: Boxes, chosen: NDArray[np.bool_]) -> str:
    """Name the first of the chosen boxes by label, and say how many more there are."""
    labels = np.flatnonzero(chosen) + 1
    if labels.size == 0:
        return "no box"
    values = ", ".join(f"{value:g}" for value in boxes[labels[0] - 1])
    more = f" and {labels.size - 1} more" if labels.size > 1 else ""
    return f"box {labels[0]} ({values}){more}"
