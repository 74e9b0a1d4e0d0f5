"""Image or volume, boxes and a network to a label map; arrays in, arrays out.

Every needed image is encoded once, and prepared and encoded while masks of the one before it are
drawn; its boxes are decoded in blocks, and each mask is drawn into the label map before the next
block is decoded.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..system.deflate import deflate
from .crops import Crop, box_batches, crop_around
from .embeddings import EmbeddingMemory, EmbeddingStore, EncodedImage
from .geometry import Box, Boxes, ModelFrame
from .postprocess import MaskPatch, logits_to_patch
from .preprocess import preprocess_image
from .propagation import Follow, Visit, follow_mask
from .timing import Stopwatch


@dataclass(frozen=True)
class Stages:
    """What happens to an image before the network, and to its logits after.

    The defaults are the service's own; others are for measuring.

    Attributes:
        prepare: image and side S of the model frame to (1, 3, S, S).
        crop: box (4,) of the model frame, and S, to the part of the embedding to decode.
        to_patch: low_res_logits of one object, and the part of the embedding that they are of,
            to its mask in the original frame.
    """

    prepare: Callable[[NDArray[np.uint8], int], NDArray[np.float32]] = preprocess_image
    crop: Callable[[Box, int], Crop] = crop_around
    to_patch: Callable[[NDArray[np.float32], ModelFrame, Crop], MaskPatch] = logits_to_patch


SERVED = Stages()


class Network(Protocol):
    """What the pipeline needs of a model."""

    @property
    def image_size(self) -> int:
        """Side of the model frame in pixels."""
        ...

    def encode(self, image: NDArray[np.float32]) -> EncodedImage:
        """Encode (1, 3, S, S)."""
        ...

    def decode(
        self, encoded: EncodedImage, boxes: Boxes, crops: Sequence[Crop]
    ) -> NDArray[np.float32]:
        """Decode (N, 4) boxes of the model frame in crops of one size, as low_res_logits."""
        ...


Slices = Sequence[NDArray[np.uint8]] | NDArray[np.uint8]  # images of one size


class Canvas(Protocol):
    """What takes the masks."""

    def paint(self, z: int, patch: MaskPatch, label: int) -> None:
        """Draw the mask of a label on slice `z`."""
        ...


def draw_slices(
    network: Network,
    slices: Slices,
    canvas: Canvas,
    *,
    boxes: Boxes,
    visits: Sequence[Visit],
    box_batch_size: int,
    stopwatch: Stopwatch,
    follow: Follow = follow_mask,
    stages: Stages = SERVED,
    memory: EmbeddingMemory | None = None,
) -> None:
    """Segment the slices of a volume, or an image as the only one, and draw each mask when found.

    A visit that follows a neighbour prompts each object by its mask there; where that mask is
    empty, and in all other visits, by its own box.

    Args:
        network: encodes and decodes.
        slices: images of one size, (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) each.
        canvas: takes the masks, in any order.
        boxes: (N, 4), xyxy, pixels of the original image; row i is label i + 1.
        visits: which objects to decode on which slice, in order.
        box_batch_size: most boxes in one decoder call, which bounds its memory.
        stopwatch: takes the seconds by step.
        follow: how a neighbour's mask becomes a prompt.
        stages: before and after the network.
        memory: of slices that were encoded before, and are not encoded again.
    """
    original_hw = (slices[0].shape[0], slices[0].shape[1])
    frame = ModelFrame(original_hw, network.image_size)
    own_prompts = frame.boxes_to_model(boxes)
    found: dict[tuple[int, int], Box] = {}

    turns = _Turns(network, stopwatch)

    def embed(z: int) -> EncodedImage:
        known = None if memory is None else memory.get(z)
        if known is not None:
            return known
        with stopwatch.step("preprocess"):
            tensor = stages.prepare(slices[z], network.image_size)
        encoded = turns.encode(tensor)
        if memory is not None:
            memory.put(z, encoded)
        return encoded

    with closing(_embeddings(slices, visits, embed)) as embeddings:
        for visit, encoded in embeddings:
            prompts = _prompts(visit, own_prompts, found=found, follow=follow, frame=frame)
            crops = [stages.crop(prompt, network.image_size) for prompt in prompts]
            decoded = _decode(turns, encoded, prompts, crops=crops, box_batch_size=box_batch_size)
            for row, low_res_logits, crop in decoded:
                with stopwatch.step("postprocess"):
                    index = visit.objects[row]
                    mask = stages.to_patch(low_res_logits, frame, crop)
                    canvas.paint(visit.z, mask, index + 1)
                    box = mask.box() if visit.step else None
                    if box is not None:
                        found[index, visit.z] = box


def first_equal_slices(slices: Slices, chosen: Sequence[int]) -> dict[int, int]:
    """Return for each of the chosen slices the first of them that it equals, mostly itself."""
    if len(set(chosen)) == 1:  # an image may be large, and has nothing to be compared with
        return {chosen[0]: chosen[0]}
    by_checksum: dict[int, int] = {}
    firsts: dict[int, int] = {}
    for z in chosen:
        if z not in firsts:
            checksum = deflate.crc32(np.ascontiguousarray(slices[z]).data)
            first = by_checksum.setdefault(checksum, z)
            is_same = first == z or np.array_equal(slices[first], slices[z])
            firsts[z] = first if is_same else z
    return firsts


def _embeddings(
    slices: Slices,
    visits: Sequence[Visit],
    embed: Callable[[int], EncodedImage],
) -> Generator[tuple[Visit, EncodedImage]]:
    """Yield each visit with its slice encoded, which is done once and kept while needed.

    A thread encodes the next slice meanwhile. Of slices that are equal the first is encoded.
    """
    originals = first_equal_slices(slices, [visit.z for visit in visits])
    visits_left = Counter(originals[visit.z] for visit in visits)
    store = EmbeddingStore()
    # The order of the counter's keys is that of the first visits.
    with closing(_in_thread(embed, visits_left)) as embeddings, closing(store):
        for visit in visits:
            z = originals[visit.z]
            encoded = store.take(z)
            if encoded is None:
                encoded = next(embeddings)
            visits_left[z] -= 1
            if visits_left[z]:
                store.put(z, encoded)
            yield visit, encoded


def _in_thread(
    function: Callable[[int], EncodedImage], arguments: Iterable[int]
) -> Generator[EncodedImage]:
    """Yield the function of each argument, the next of which is computed in a thread meanwhile."""
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="encode") as thread:
        running: deque[Future[EncodedImage]] = deque()
        for argument in list(arguments):
            running.append(thread.submit(function, argument))
            if len(running) > 1:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()


def _prompts(
    visit: Visit,
    own_prompts: Boxes,
    *,
    found: dict[tuple[int, int], Box],
    follow: Follow,
    frame: ModelFrame,
) -> Boxes:
    """Return the (N, 4) prompts of a visit in the model frame."""
    prompts = own_prompts[list(visit.objects)]
    for row, index in enumerate(visit.objects):
        neighbour = found.get((index, visit.z - visit.step)) if visit.step else None
        if neighbour is not None:
            prompts[row] = follow(neighbour, prompts[row], frame)
    return prompts


class _Turns:
    """Lets one call at a time into a network, and takes its seconds.

    Each call runs on all cores: two at once take longer than one after the other, 5 % of a volume's
    time on two cores.
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
) -> Iterator[tuple[int, NDArray[np.float32], Crop]]:
    """Yield the row of each prompt, in any order, its low_res_logits and where they are."""
    for rows in box_batches(crops, box_batch_size):
        chosen = [crops[row] for row in rows]
        low_res_logits = network.decode(encoded, prompts[rows], chosen)
        yield from zip(rows, low_res_logits, chosen, strict=True)
