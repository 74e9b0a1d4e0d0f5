"""Logits to masks in the original frame, and masks to a label map.

Logits are upsampled first and thresholded after, as bilinear interpolation without aligned
corners does it (`torch.nn.functional.interpolate`), but only inside the patch where a mask can
be: a convex combination of values that are all negative or zero is never positive.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .contract import LOGIT_THRESHOLD, UPSCALING
from .crops import WHOLE, Crop
from .geometry import Box, Mask, ModelFrame, mask_to_box

# A mask's pixels further from its box than this share of the box's longer side are cut off.
FAR_SHARE = 0.1
STRIP_VALUES = 1 << 18  # 1 MB of float32: a strip's buffers stay in the second-level cache
LabelMap = NDArray[np.unsignedinteger[Any]]


@dataclass(frozen=True)
class MaskPatch:
    """A mask and where it lies; all pixels outside are background.

    Attributes:
        mask: (h, w), may be empty.
        top: row of the original image at which it begins.
        left: column of the original image at which it begins.
    """

    mask: Mask
    top: int
    left: int

    def box(self) -> Box | None:
        """Return the (4,) box of the mask in the original image; None when nothing is set."""
        box = mask_to_box(self.mask)
        if box is None:
            return None
        offset = np.array([self.left, self.top, self.left, self.top], dtype=np.float32)
        return box + offset

    def place(self) -> tuple[slice, slice]:
        """Return the rows and columns of the original image where it lies."""
        height, width = self.mask.shape
        return slice(self.top, self.top + height), slice(self.left, self.left + width)

    def moved(self, rows: int, columns: int) -> MaskPatch:
        """Return it further down by `rows` and to the right by `columns`."""
        return MaskPatch(self.mask, self.top + rows, self.left + columns)

    def whole(self, original_hw: tuple[int, int]) -> Mask:
        """Return the mask of the whole image, of size `original_hw`."""
        mask = np.zeros(original_hw, dtype=np.bool_)
        mask[self.place()] = self.mask
        return mask


EMPTY_PATCH = MaskPatch(np.zeros((0, 0), dtype=np.bool_), 0, 0)


def logits_to_patch(
    low_res_logits: NDArray[np.float32], frame: ModelFrame, decoded: Crop = WHOLE
) -> MaskPatch:
    """Turn one object's logits into its mask in the original frame.

    Args:
        low_res_logits: (h, w), four for each pixel of `decoded` along a side.
        frame: of the image; what lies in its padding is ignored.
        decoded: the part of the embedding that they are of; all outside is background.
    """
    height, width = _inside_padding(frame)
    origins = UPSCALING * decoded.top, UPSCALING * decoded.left
    logits = low_res_logits[: max(0, height - origins[0]), : max(0, width - origins[1])]
    extent = mask_to_box(logits > LOGIT_THRESHOLD)
    if extent is None:
        return EMPTY_PATCH
    left, top, right, bottom = (int(value) for value in extent)
    height, width = logits.shape
    rows = _samples(frame, 0, first=top, last=bottom, origin=origins[0], count=height)
    columns = _samples(frame, 1, first=left, last=right, origin=origins[1], count=width)
    if not (rows.low.size and columns.low.size):
        return EMPTY_PATCH
    mask = _upsampled_mask(logits, rows, columns)
    return MaskPatch(mask, rows.start, columns.start)


def cut_far_islands(patch: MaskPatch, box: Box) -> MaskPatch:
    """Return what of a mask lies in or near the box that prompted it.

    Args:
        patch: of an object.
        box: (4,), pixels of the original image.
    """
    margin = max(1.0, FAR_SHARE * (float((box[2:] - box[:2]).max()) + 1))
    rows, columns = patch.place()
    left, top = (int(np.ceil(value - margin)) for value in box[:2])
    right, bottom = (int(np.floor(value + margin)) + 1 for value in box[2:])
    left, right = max(left, columns.start), min(right, columns.stop)
    top, bottom = max(top, rows.start), min(bottom, rows.stop)
    if top >= bottom or left >= right:
        return EMPTY_PATCH
    kept = patch.mask[top - patch.top : bottom - patch.top, left - patch.left : right - patch.left]
    return MaskPatch(kept, top, left)


def upsampled_logits(low_res_logits: NDArray[np.float32], frame: ModelFrame) -> NDArray[np.float32]:
    """Return one object's logits in the original frame, of which its mask is what is above 0.

    Args:
        low_res_logits: (h, w), of the whole frame.
        frame: of the image; what lies in its padding is ignored.

    Returns:
        (H, W).
    """
    height, width = _inside_padding(frame)
    values = low_res_logits[:height, :width]
    rows = _samples(frame, 0, first=0, last=height, origin=0, count=height)
    columns = _samples(frame, 1, first=0, last=width, origin=0, count=width)
    left = values[:, columns.low]
    wide = left + (values[:, columns.high] - left) * columns.weight
    upper = wide[rows.low]
    return np.asarray(upper + (wide[rows.high] - upper) * rows.weight[:, None])


def label_dtype(objects: int) -> type[np.uint8] | type[np.uint16]:
    """Return the smallest unsigned type that holds the labels 1 to `objects`."""
    return np.uint8 if objects <= np.iinfo(np.uint8).max else np.uint16


class LabelCanvas:
    """A label map being drawn; masks may come in any order, the higher label wins an overlap.

    Args:
        shape: (D, H, W); an image has a depth of one.
        objects: number of labels, which decides the type.
    """

    def __init__(self, shape: tuple[int, int, int], objects: int) -> None:
        self.label_map: LabelMap = np.zeros(shape, dtype=label_dtype(objects))
        # The extent of each label's masks: first voxel, and the one after the last; zyx.
        self._starts = np.full((objects + 1, 3), shape, dtype=np.intp)
        self._stops = np.zeros((objects + 1, 3), dtype=np.intp)

    def paint(self, z: int, patch: MaskPatch, label: int) -> None:
        """Draw one mask on slice `z`."""
        if not patch.mask.any():
            return
        rows, columns = patch.place()
        drawn = self.label_map[z, rows, columns]
        np.copyto(drawn, drawn.dtype.type(label), where=patch.mask & (drawn < label))
        start, stop = (z, rows.start, columns.start), (z + 1, rows.stop, columns.stop)
        np.minimum(self._starts[label], start, out=self._starts[label])
        np.maximum(self._stops[label], stop, out=self._stops[label])

    def has_mask(self, label: int) -> bool:
        """Say whether a mask of a label was drawn that was not empty."""
        return bool(self._stops[label, 0])

    def is_visible(self, label: int) -> bool:
        """Say whether a pixel has a label now: masks of higher ones may cover all of its own.

        The first slice that has one ends the search, which is of the extent of its masks alone.
        """
        (first, top, left), (after, bottom, right) = self._starts[label], self._stops[label]
        extent = self.label_map[first:after, top:bottom, left:right]
        return any(bool((drawn == label).any()) for drawn in extent)


def _inside_padding(frame: ModelFrame) -> tuple[int, int]:
    """Return rows and columns of the low-resolution logits that are of the image."""
    height, width = (-(-side // frame.logit_px) for side in frame.resized_hw)
    return height, width


@dataclass(frozen=True)
class _Samples:
    """Where the pixels of one axis of a patch read the low-resolution grid."""

    start: int
    low: NDArray[np.intp]
    high: NDArray[np.intp]
    weight: NDArray[np.float32]


def _samples(
    frame: ModelFrame, axis: int, *, first: int, last: int, origin: int, count: int
) -> _Samples:
    """Sample an axis of `count` low-resolution values where `first` to `last` have an influence.

    The values begin at `origin` of the model frame; pixels nearer to one beyond are left out.
    """
    length = frame.original_hw[axis]
    # Low-resolution pixels per original pixel.
    ratio = frame.resized_hw[axis] / length / frame.logit_px
    lowest, highest = origin / ratio - 0.5, (origin + count) / ratio - 0.5
    start = max(0, int(np.ceil(lowest)), int(np.floor((origin + first - 0.5) / ratio - 0.5)))
    stop = int(np.ceil((origin + last + 1.5) / ratio - 0.5)) + 1
    stop = min(length, int(np.ceil(highest)), stop)
    position = (np.arange(start, stop, dtype=np.float32) + np.float32(0.5)) * np.float32(ratio)
    position = np.maximum(position - np.float32(origin + 0.5), np.float32(0))
    low = np.minimum(position.astype(np.intp), count - 1)
    high = np.minimum(low + 1, count - 1)
    return _Samples(start, low, high, position - low.astype(np.float32))


def _upsampled_mask(low_res_logits: NDArray[np.float32], rows: _Samples, columns: _Samples) -> Mask:
    """Interpolate and threshold, a strip of rows at a time."""
    first = int(rows.low[0])
    band = low_res_logits[first : int(rows.high[-1]) + 1]
    left = band[:, columns.low]
    wide = left + (band[:, columns.high] - left) * columns.weight  # (low rows, w)
    height, width = rows.low.size, columns.low.size
    mask = np.empty((height, width), dtype=np.bool_)
    step = max(1, STRIP_VALUES // width)
    for start in range(0, height, step):
        strip = slice(start, start + step)
        upper = wide[rows.low[strip] - first]
        logits = wide[rows.high[strip] - first]
        logits -= upper
        logits *= rows.weight[strip, None]
        logits += upper
        np.greater(logits, LOGIT_THRESHOLD, out=mask[strip])
    return mask
