"""Which box prompts which slice of a volume, and in which order; pure.

A schedule is visits in order, and a way to turn a neighbour's mask into the next prompt.

3D boxes are (N, 6), xyzxyz, with both z inclusive. An object is named by its row in the boxes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..config import VolumePrompt
from .geometry import Box, Boxes, clip_boxes, grow_box
from .prompts import Prompts

PROPAGATION_MARGIN_PX = 3  # of the model frame, as in the LiteMedSAM baseline
Follow = Callable[[Box, Box], Box]  # of a mask's grown box and the own one


@dataclass(frozen=True)
class Visit:
    """One stop at a slice.

    Attributes:
        z: the slice.
        objects: rows of the boxes to decode there, ascending.
        step: the neighbour that was decoded before is z - step; 0 where there is none to follow.
    """

    z: int
    objects: tuple[int, ...]
    step: int = 0


def slice_range(box: Box) -> range:
    """Return the slices of one (6,) box."""
    return range(int(box[2]), int(box[5]) + 1)


def middle_slice(box: Box) -> int:
    """Return the slice at which propagation starts, the lower one of two."""
    return (int(box[2]) + int(box[5])) // 2


def covered_slices(slices: NDArray[np.int64]) -> int:
    """Return how many slices there are in any of (N, 2) ranges, first and last both inclusive."""
    if len(slices) == 0:
        return 0
    first, last = slices[np.argsort(slices[:, 0], kind="stable")].T
    reached = np.maximum.accumulate(last)
    begins = np.maximum(first[1:], reached[:-1] + 1)
    return int(last[0] - first[0] + 1 + np.maximum(0, reached[1:] - begins + 1).sum())


def boxes_2d(boxes: Boxes) -> NDArray[np.float32]:
    """Return the (N, 4) xyxy part of (N, 6) boxes."""
    return boxes[:, [0, 1, 3, 4]]


def image_visits(objects: Sequence[int]) -> list[Visit]:
    """Visit an image, the only slice of its volume, once; not at all without objects."""
    return [Visit(0, tuple(objects))] if objects else []


def fixed_visits(boxes: Boxes, objects: Sequence[int]) -> list[Visit]:
    """Visit each slice that the box of any of the objects covers once, ascending."""
    covering = _objects_by_slice([(i, slice_range(boxes[i])) for i in objects])
    return [Visit(z, covering[z]) for z in sorted(covering)]


def propagation_visits(
    boxes: Boxes, objects: Sequence[int], starts: Sequence[int] | None = None
) -> list[Visit]:
    """Visit slices outward from the middle slice of the box of each of the objects.

    First upwards, slices ascending, each object joining at its middle; then downwards, slices
    descending, each joining below its middle. A slice is visited at most once each way.

    Args:
        boxes: (N, 6).
        objects: rows to visit.
        starts: of each row the slice to start at in place of the middle one.
    """
    ranges = {i: slice_range(boxes[i]) for i in objects}
    middles = {i: starts[i] if starts else middle_slice(boxes[i]) for i in objects}
    upward = [(i, range(middles[i], ranges[i].stop)) for i in objects]
    downward = [(i, range(ranges[i].start, middles[i])) for i in objects]
    rising, falling = _objects_by_slice(upward), _objects_by_slice(downward)
    return [
        *(Visit(z, rising[z], step=1) for z in sorted(rising)),
        *(Visit(z, falling[z], step=-1) for z in sorted(falling, reverse=True)),
    ]


def follow_mask(grown: Box, own_box: Box) -> Box:
    """Return the box that follows a neighbour's mask wherever that leads: the mask's, grown.

    Args:
        grown: (4,), of the mask and a margin, pixels of the original image as all boxes here.
        own_box: (4,), the object's own.
    """
    return grown


def follow_mask_within_box(grown: Box, own_box: Box) -> Box:
    """Return the grown box of a mask limited by the own box; that box where nothing is left."""
    low = np.maximum(grown[:2], own_box[:2])
    high = np.minimum(grown[2:], own_box[2:])
    return np.concatenate([low, high]) if np.all(low <= high) else own_box


# The visits of each volume prompt, and what becomes of a neighbour's mask where there is one.
VOLUME_RULES: dict[VolumePrompt, tuple[Callable[[Boxes, Sequence[int]], list[Visit]], Follow]] = {
    "fixed": (fixed_visits, follow_mask),
    "propagate": (propagation_visits, follow_mask),
    "hybrid": (propagation_visits, follow_mask_within_box),
}


@dataclass(frozen=True)
class Schedule:
    """What is decoded, in which order, and by which prompts.

    Attributes:
        boxes: (N, 4), xyxy, pixels of the original image; row i is label i + 1.
        visits: which objects to decode on which slice, in order.
        follow: how a neighbour's mask becomes a box, in visits that follow one.
    """

    boxes: Boxes
    visits: Sequence[Visit]
    follow: Follow = follow_mask


def schedule_of(
    prompts: Prompts, volume_prompt: VolumePrompt, starts: Sequence[int] | None = None
) -> Schedule:
    """Return the schedule of checked prompts.

    Args:
        prompts: of an image or a volume.
        volume_prompt: which rule a volume goes by.
        starts: a slice for each box of a volume: masks are followed outward from there, whatever
            the volume prompt says.
    """
    if not prompts.is_volume:
        return Schedule(prompts.boxes, image_visits(prompts.objects))
    flat = boxes_2d(prompts.boxes)
    if starts is not None:
        return Schedule(flat, propagation_visits(prompts.boxes, prompts.objects, starts))
    visits_of, follow = VOLUME_RULES[volume_prompt]
    return Schedule(flat, visits_of(prompts.boxes, prompts.objects), follow)


def follows_masks(volume_prompt: VolumePrompt) -> bool:
    """Say whether a rule prompts slices by the masks of their neighbours."""
    visits_of, _ = VOLUME_RULES[volume_prompt]
    return visits_of is propagation_visits


def grown_box(mask_box: Box, scale: float, original_hw: tuple[int, int]) -> Box:
    """Return the (4,) box of a mask with the margin by which it may grow to the next slice.

    Args:
        mask_box: (4,), pixels of the original image.
        scale: model pixels per original pixel.
        original_hw: of the slices, which it stays inside of.
    """
    return clip_boxes(grow_box(mask_box, PROPAGATION_MARGIN_PX / scale), original_hw)


def _objects_by_slice(ranges: list[tuple[int, range]]) -> dict[int, tuple[int, ...]]:
    covering: dict[int, list[int]] = {}
    for index, slices in ranges:
        for z in slices:
            covering.setdefault(z, []).append(index)
    return {z: tuple(objects) for z, objects in covering.items()}
