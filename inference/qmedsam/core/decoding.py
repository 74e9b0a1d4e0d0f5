"""Slices, boxes and a network to one object on one slice after another; arrays in, arrays out.

`ObjectDecoder.decode` is the loop: each needed region is encoded once, its boxes are decoded in
batches, and what the decoder says of an object on a slice is yielded. Label maps, masks and logits
are what others make of it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from .contract import Grid, stride_of
from .crops import Crop, box_batches, crop_around
from .embeddings import EmbeddingMemory, EncodedImage
from .encoding import (
    Slices,
    Stop,
    encoded_part,
    encoded_stops,
    first_equal_slices,
    stops_of,
    visits_by_grid,
)
from .geometry import Box, Boxes
from .network import DecodedBoxes, Network
from .postprocess import MaskPatch, cut_far_islands, logits_to_patch
from .preprocess import preprocess_to_frame
from .propagation import Schedule, Visit, grown_box
from .regions import Region, SliceRegion
from .tally import Tally
from .timing import Stopwatch
from .whereabouts import Whereabouts

CropOf = Callable[[Box, Grid, int], Crop]  # of a box, a grid and the stride of the embedding


@dataclass(frozen=True, eq=False)
class DecodedObject:
    """An object on a slice, as it leaves the decoder.

    Attributes:
        z: the slice; 0 of an image.
        index: row of the object in the boxes; its label is `index + 1`.
        low_res_logits: (h, w), four for each pixel of the crop along a side.
        crop: the part of the embedding that was decoded.
        region: of the slice, that was encoded.
        box: (4,), pixels of the original image, that prompted it.
        quality: the DSC, 0 to 1, that is predicted of its mask; None where the model does not say.
    """

    z: int
    index: int
    low_res_logits: NDArray[np.float32]
    crop: Crop
    region: Region
    box: Box
    quality: float | None = None

    @cached_property
    def patch(self) -> MaskPatch:
        """Its mask in the original frame, and where that lies; computed when first asked for."""
        patch = logits_to_patch(self.low_res_logits, self.region.frame, self.crop)
        return cut_far_islands(patch.moved(self.region.top, self.region.left), self.box)


class ObjectDecoder:
    """Decodes the objects of one image or volume.

    Args:
        network: encodes and decodes.
        slices: images of one size, (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) each.
        box_batch_size: most boxes in one decoder call, which bounds its memory.
        stopwatch: takes the seconds by step.
        tally: counts what the network does.
        memory: of regions that were encoded before, and are not encoded again.
        crop_of: the part of the embedding to decode for a box.
    """

    def __init__(
        self,
        network: Network,
        slices: Slices,
        *,
        box_batch_size: int,
        stopwatch: Stopwatch,
        tally: Tally,
        memory: EmbeddingMemory | None = None,
        crop_of: CropOf = crop_around,
    ) -> None:
        self._turns = _Turns(network, stopwatch, tally)
        self._slices, self._stopwatch = slices, stopwatch
        self._stride = stride_of(network.image_size)
        self._box_batch_size, self._memory, self._crop_of = box_batch_size, memory, crop_of

    def encode(self, part: SliceRegion) -> EncodedImage:
        """Encode a region of a slice, unless it is remembered."""
        known = None if self._memory is None else self._memory.get(part)
        if known is not None:
            return known
        with self._stopwatch.step("preprocess"):
            pixels = part.region.cut(self._slices[part.z])
            tensor = preprocess_to_frame(pixels, part.region.frame)
        encoded = self._turns.encode(tensor)
        if self._memory is not None:
            self._memory.put(part, encoded)
        return encoded

    def decode(self, schedule: Schedule, whereabouts: Whereabouts) -> Generator[DecodedObject]:
        """Yield each object on each slice that it is decoded on, grid by grid.

        A visit that follows a neighbour prompts each object by its mask there; where that mask is
        empty, and in all other visits, by its own box.

        Args:
            schedule: which box prompts which slice.
            whereabouts: which region an object is looked for in.
        """
        if not schedule.visits:
            return
        visits = visits_by_grid(schedule.visits, lambda i: whereabouts.region_of(i, 0).grid_hw)
        original_hw = self._slices[0].shape[0], self._slices[0].shape[1]
        originals = first_equal_slices(self._slices, [visit.z for visit in visits])
        planned = list(stops_of(visits, whereabouts.region_of))
        stops = stops_of(visits, whereabouts.region_of)
        followed: dict[tuple[int, int], Box] = {}  # what a mask prompts, by object and slice
        with closing(encoded_stops(stops, planned, originals, self.encode)) as arrivals:
            for stop, encoded in arrivals:
                boxes = _boxes(stop.visit, followed=followed, schedule=schedule)
                for settled, rows in whereabouts.settle(stop, boxes):
                    is_there = settled.region == stop.region
                    there = encoded if is_there else self.encode(encoded_part(settled, originals))
                    for one in self._decode(settled, there, boxes[rows]):
                        box = self._box(one, original_hw) if stop.visit.step else None
                        if box is not None:
                            box = schedule.follow(box, schedule.boxes[one.index])
                            followed[one.index, one.z] = box
                            whereabouts.follow(one.index, stop.visit.step, box)
                        yield one

    def _box(self, one: DecodedObject, original_hw: tuple[int, int]) -> Box | None:
        """Return the grown box of an object's mask, None of an empty one."""
        with self._stopwatch.step("postprocess"):
            box = one.patch.box()
        return None if box is None else grown_box(box, one.region.frame.scale, original_hw)

    def _decode(self, stop: Stop, encoded: EncodedImage, boxes: Boxes) -> Iterator[DecodedObject]:
        """Yield the objects of a stop, in any order; equal boxes are decoded once."""
        region, visit = stop.region, stop.visit
        alike: dict[bytes, list[int]] = {}
        for row, box in enumerate(boxes):
            alike.setdefault(box.tobytes(), []).append(row)
        rows_of = list(alike.values())
        prompts = region.boxes_to_model(boxes[[rows[0] for rows in rows_of]])
        crops = [self._crop_of(prompt, encoded.grid_hw, self._stride) for prompt in prompts]
        for batch in box_batches(crops, self._box_batch_size):
            decoded = self._turns.decode(encoded, prompts[batch], [crops[i] for i in batch])
            for place, i in enumerate(batch):
                quality = None if decoded.quality is None else float(decoded.quality[place])
                logits = decoded.low_res_logits[place]
                for row in rows_of[i]:
                    index = visit.objects[row]
                    yield DecodedObject(
                        visit.z, index, logits, crops[i], region, boxes[row], quality
                    )


def _boxes(visit: Visit, *, followed: dict[tuple[int, int], Box], schedule: Schedule) -> Boxes:
    """Return the (N, 4) boxes that prompt the objects of a visit, in the original image."""
    boxes = schedule.boxes[list(visit.objects)]
    if visit.step:
        for row, index in enumerate(visit.objects):
            boxes[row] = followed.get((index, visit.z - visit.step), boxes[row])
    return boxes


class _Turns:
    """Lets one call at a time into a network, takes its seconds and counts it.

    Each call runs on all cores: two at once take longer than one after the other
    (docs/decisions.md).
    """

    def __init__(self, network: Network, stopwatch: Stopwatch, tally: Tally) -> None:
        self._network, self._stopwatch, self._tally = network, stopwatch, tally
        self._turn = threading.Lock()

    def encode(self, image: NDArray[np.float32]) -> EncodedImage:
        with self._turn, self._stopwatch.step("encode"):
            encoded = self._network.encode(image)
            self._tally.encoded[encoded.grid_hw] += 1
        return encoded

    def decode(self, encoded: EncodedImage, boxes: Boxes, crops: Sequence[Crop]) -> DecodedBoxes:
        with self._turn, self._stopwatch.step("decode"):
            decoded = self._network.decode(encoded, boxes, crops)
            self._tally.add_decoded(encoded.grid_hw, crops)
        return decoded
