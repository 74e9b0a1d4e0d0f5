"""Which box prompts which slice of a volume, and in which order; pure.

3D boxes are (N, 6), xyzxyz, with both z inclusive. An object is named by its row in the boxes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .geometry import Boxes


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


def slice_range(box: Boxes) -> range:
    """Return the slices of one (6,) box."""
    return range(int(box[2]), int(box[5]) + 1)


def middle_slice(box: Boxes) -> int:
    """Return the slice at which propagation starts, the lower one of two."""
    return (int(box[2]) + int(box[5])) // 2


def boxes_2d(boxes: Boxes) -> NDArray[np.float32]:
    """Return the (N, 4) xyxy part of (N, 6) boxes."""
    return boxes[:, [0, 1, 3, 4]]


def image_visits(objects: int) -> list[Visit]:
    """Visit an image, the only slice of its volume, once; not at all without objects."""
    return [Visit(0, tuple(range(objects)))] if objects else []


def fixed_visits(boxes: Boxes) -> list[Visit]:
    """Visit each slice that any box covers once, ascending."""
    covering = _objects_by_slice([(i, slice_range(box)) for i, box in enumerate(boxes)])
    return [Visit(z, covering[z]) for z in sorted(covering)]


def propagation_visits(boxes: Boxes) -> list[Visit]:
    """Visit slices outward from the middle slice of each box.

    First upwards, slices ascending, each object joining at its middle; then downwards, slices
    descending, each joining below its middle. A slice is visited at most once each way.
    """
    middles = [middle_slice(box) for box in boxes]
    upward = [(i, range(middles[i], slice_range(box).stop)) for i, box in enumerate(boxes)]
    downward = [(i, range(slice_range(box).start, middles[i])) for i, box in enumerate(boxes)]
    rising, falling = _objects_by_slice(upward), _objects_by_slice(downward)
    return [
        *(Visit(z, rising[z], step=1) for z in sorted(rising)),
        *(Visit(z, falling[z], step=-1) for z in sorted(falling, reverse=True)),
    ]


def _objects_by_slice(ranges: list[tuple[int, range]]) -> dict[int, tuple[int, ...]]:
    covering: dict[int, list[int]] = {}
    for index, slices in ranges:
        for z in slices:
            covering.setdefault(z, []).append(index)
    return {z: tuple(objects) for z, objects in covering.items()}
