"""Slices, boxes and a network to one object on one slice after another; arrays in, arrays out.

`decode_objects` is the loop: each needed slice is encoded once, its boxes are decoded in batches,
and what the decoder says of an object on a slice is yielded. `Pipeline` is the loop with a network
and a volume prompt, for callers in several threads. Label maps, masks and logits are what others
make of what is yielded.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..config import VolumePrompt
from .contract import Grid, stride_of
from .crops import Crop, box_batches, crop_around
from .embeddings import EmbeddingMemory, EncodedImage
from .encoding import Slices, encoded_visits
from .geometry import Box, Boxes, ModelFrame
from .postprocess import LabelCanvas, MaskPatch, logits_to_patch
from .preprocess import preprocess_image
from .prompts import IMAGE_COLUMNS, Prompts
from .propagation import Schedule, Visit, schedule_of
from .segmentation import Segmentation, segmentation_of
from .timing import Stopwatch

CropOf = Callable[[Box, Grid, int], Crop]  # of a box, a grid and the stride of the embedding


class Network(Protocol):
    """What the pipeline needs of a model."""

    @property
    def image_size(self) -> int:
        """Side of the model frame in pixels."""
        ...

    def encode(self, image: NDArray[np.float32]) -> EncodedImage:
        """Encode (1, 3, h, w) of a grid."""
        ...

    def decode(
        self, encoded: EncodedImage, boxes: Boxes, crops: Sequence[Crop]
    ) -> NDArray[np.float32]:
        """Decode (N, 4) boxes of the model frame in crops of one size, as low_res_logits."""
        ...


@dataclass(frozen=True, eq=False)
class DecodedObject:
    """An object on a slice, as it leaves the decoder.

    Attributes:
        z: the slice; 0 of an image.
        index: row of the object in the boxes; its label is `index + 1`.
        low_res_logits: (h, w), four for each pixel of the crop along a side.
        crop: the part of the embedding that was decoded.
        frame: of the slice.
    """

    z: int
    index: int
    low_res_logits: NDArray[np.float32]
    crop: Crop
    frame: ModelFrame

    @cached_property
    def patch(self) -> MaskPatch:
        """Its mask in the original frame, and where that lies; computed when first asked for."""
        return logits_to_patch(self.low_res_logits, self.frame, self.crop)


def decode_objects(
    network: Network,
    slices: Slices,
    schedule: Schedule,
    *,
    box_batch_size: int,
    stopwatch: Stopwatch,
    memory: EmbeddingMemory | None = None,
    crop_of: CropOf = crop_around,
) -> Generator[DecodedObject]:
    """Yield each object on each slice that it is decoded on, in any order within a slice.

    A visit that follows a neighbour prompts each object by its mask there; where that mask is
    empty, and in all other visits, by its own box.

    Args:
        network: encodes and decodes.
        slices: images of one size, (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) each.
        schedule: which box prompts which slice.
        box_batch_size: most boxes in one decoder call, which bounds its memory.
        stopwatch: takes the seconds by step.
        memory: of slices that were encoded before, and are not encoded again.
        crop_of: the part of the embedding to decode for a box.
    """
    frame = ModelFrame((slices[0].shape[0], slices[0].shape[1]), network.image_size)
    stride = stride_of(network.image_size)
    found: dict[tuple[int, int], Box] = {}  # by object and slice
    turns = _Turns(network, stopwatch)

    def encode(z: int) -> EncodedImage:
        known = None if memory is None else memory.get(z)
        if known is not None:
            return known
        with stopwatch.step("preprocess"):
            tensor = preprocess_image(slices[z], network.image_size)
        encoded = turns.encode(tensor)
        if memory is not None:
            memory.put(z, encoded)
        return encoded

    with closing(encoded_visits(slices, schedule.visits, encode)) as visits:
        for visit, encoded in visits:
            boxes = _boxes(visit, found=found, schedule=schedule, frame=frame)
            prompts = frame.boxes_to_model(boxes)
            crops = [crop_of(prompt, encoded.grid_hw, stride) for prompt in prompts]
            decoded = _decode(turns, encoded, prompts, crops=crops, box_batch_size=box_batch_size)
            for row, low_res_logits in decoded:
                index = visit.objects[row]
                one = DecodedObject(visit.z, index, low_res_logits, crops[row], frame)
                if visit.step:
                    with stopwatch.step("postprocess"):
                        box = one.patch.box()
                    if box is not None:
                        found[index, visit.z] = box
                yield one


class Pipeline:
    """A network and how volumes are prompted; several threads take turns.

    Args:
        network: encodes and decodes.
        volume_prompt: how an object is followed through a volume.
        box_batch_size: most boxes in one decoder call.
    """

    def __init__(
        self, network: Network, *, volume_prompt: VolumePrompt, box_batch_size: int
    ) -> None:
        self.network, self.box_batch_size = network, box_batch_size
        self._volume_prompt: VolumePrompt = volume_prompt
        self._turn = threading.Lock()

    def decode(
        self,
        pixels: NDArray[np.uint8],
        prompts: Prompts,
        *,
        stopwatch: Stopwatch,
        memory: EmbeddingMemory | None = None,
        starts: Sequence[int] | None = None,
        crop_of: CropOf = crop_around,
    ) -> Generator[DecodedObject]:
        """Yield each object on each slice of checked prompts; see `decode_objects`.

        Others wait until the generator is exhausted or closed: whoever does not go to its end
        closes it, and nobody calls this pipeline again in between.

        Args:
            pixels: an image or a volume, checked.
            prompts: checked.
            stopwatch: takes the seconds by step.
            memory: of encoded slices.
            starts: a slice for each box of a volume, from which its mask is followed outward,
                whatever the volume prompt says.
            crop_of: the part of the embedding to decode for a box.
        """
        slices: Slices = pixels if prompts.is_volume else [pixels]
        with self._turn:
            yield from decode_objects(
                self.network,
                slices,
                schedule_of(prompts, self._volume_prompt, starts),
                box_batch_size=self.box_batch_size,
                stopwatch=stopwatch,
                memory=memory,
                crop_of=crop_of,
            )

    def segment(
        self,
        pixels: NDArray[np.uint8],
        prompts: Prompts,
        *,
        stopwatch: Stopwatch | None = None,
        memory: EmbeddingMemory | None = None,
        starts: Sequence[int] | None = None,
    ) -> Segmentation:
        """Return the label map of checked prompts, and what it says of itself; see `decode`."""
        stopwatch = stopwatch or Stopwatch()
        canvas = LabelCanvas(volume_shape(pixels, prompts), len(prompts.boxes))
        decoded = self.decode(pixels, prompts, stopwatch=stopwatch, memory=memory, starts=starts)
        with closing(decoded):
            for one in decoded:
                with stopwatch.step("postprocess"):
                    canvas.paint(one.z, one.patch, one.index + 1)
        with stopwatch.step("postprocess"):
            return segmentation_of(canvas, prompts)

    def encode(self, slices: Slices, z: int, memory: EmbeddingMemory) -> None:
        """Encode a slice into the memory, unless it is there."""
        no_boxes = np.zeros((0, IMAGE_COLUMNS), dtype=np.float32)
        with self._turn:
            decoded = decode_objects(
                self.network,
                slices,
                Schedule(no_boxes, [Visit(z, ())]),
                box_batch_size=self.box_batch_size,
                stopwatch=Stopwatch(),
                memory=memory,
            )
            for _ in decoded:  # of no boxes there are none
                pass


def volume_shape(pixels: NDArray[np.uint8], prompts: Prompts) -> tuple[int, int, int]:
    """Return depth, which is 1 of an image, height and width."""
    depth, height, width = pixels.shape if prompts.is_volume else (1, *pixels.shape[:2])
    return depth, height, width


def _boxes(
    visit: Visit, *, found: dict[tuple[int, int], Box], schedule: Schedule, frame: ModelFrame
) -> Boxes:
    """Return the (N, 4) boxes that prompt the objects of a visit, in the original image."""
    boxes = schedule.boxes[list(visit.objects)]
    for row, index in enumerate(visit.objects):
        neighbour = found.get((index, visit.z - visit.step)) if visit.step else None
        if neighbour is not None:
            boxes[row] = schedule.follow(neighbour, boxes[row], frame)
    return boxes


class _Turns:
    """Lets one call at a time into a network, and takes its seconds.

    Each call runs on all cores: two at once take longer than one after the other
    (docs/decisions.md).
    """

    def __init__(self, network: Network, stopwatch: Stopwatch) -> None:
        self._network = network
        self._stopwatch = stopwatch
        self._turn = threading.Lock()

    def encode(self, image: NDArray[np.float32]) -> EncodedImage:
        with self._turn, self._stopwatch.step("encode"):
            return self._network.encode(image)

    def decode(
        self, encoded: EncodedImage, boxes: Boxes, crops: Sequence[Crop]
    ) -> NDArray[np.float32]:
        with self._turn, self._stopwatch.step("decode"):
            return self._network.decode(encoded, boxes, crops)


def _decode(
    network: _Turns,
    encoded: EncodedImage,
    prompts: Boxes,
    *,
    crops: Sequence[Crop],
    box_batch_size: int,
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield the row of each prompt, in any order, and its low_res_logits."""
    for rows in box_batches(crops, box_batch_size):
        low_res_logits = network.decode(encoded, prompts[rows], [crops[row] for row in rows])
        yield from zip(rows, low_res_logits, strict=True)
