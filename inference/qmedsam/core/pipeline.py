"""A network and how it is used, for callers in several threads: which regions, which volume prompt.

`core/decoding.py` is the loop; here is what surrounds it.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Sequence
from contextlib import closing

import numpy as np
from numpy.typing import NDArray

from ..config import Regions, VolumePrompt
from .crops import crop_around
from .decoding import CropOf, DecodedObject, ObjectDecoder
from .embeddings import EmbeddingMemory
from .encoding import Slices
from .network import Network
from .planning import Planner
from .postprocess import LabelCanvas
from .prompts import Prompts
from .propagation import follows_masks, schedule_of
from .quality import QualityTally
from .regions import RegionPlan, SliceRegion
from .segmentation import Segmentation, segmentation_of
from .tally import Tally
from .timing import Stopwatch
from .whereabouts import Whereabouts


class Pipeline:
    """A network and how it is used; several threads take turns.

    Args:
        network: encodes and decodes.
        volume_prompt: how an object is followed through a volume.
        regions: `auto` looks where the boxes are, `whole` at the whole image.
        box_batch_size: most boxes in one decoder call.

    Attributes:
        planner: chooses the regions.
    """

    def __init__(
        self,
        network: Network,
        *,
        volume_prompt: VolumePrompt,
        regions: Regions,
        box_batch_size: int,
    ) -> None:
        self.network, self.box_batch_size = network, box_batch_size
        self._volume_prompt: VolumePrompt = volume_prompt
        whole_grid = network.image_size, network.image_size
        self.planner = Planner(
            regions, whole_grid, network.grids, follows=follows_masks(volume_prompt)
        )
        self._turn = threading.Lock()

    def decode(
        self,
        pixels: NDArray[np.uint8],
        prompts: Prompts,
        plan: RegionPlan,
        *,
        stopwatch: Stopwatch,
        tally: Tally | None = None,
        memory: EmbeddingMemory | None = None,
        starts: Sequence[int] | None = None,
        crop_of: CropOf = crop_around,
    ) -> Generator[DecodedObject]:
        """Yield each object on each slice of checked prompts; see `ObjectDecoder.decode`.

        Others wait until the generator is exhausted or closed: whoever does not go to its end
        closes it, and nobody calls this pipeline again in between.

        Args:
            pixels: an image or a volume, checked.
            prompts: checked.
            plan: of the regions.
            stopwatch: takes the seconds by step.
            tally: counts what the network does.
            memory: of encoded regions.
            starts: a slice for each box of a volume, from which its mask is followed outward,
                whatever the volume prompt says.
            crop_of: the part of the embedding to decode for a box.
        """
        slices: Slices = pixels if prompts.is_volume else [pixels]
        hw = slices[0].shape[0], slices[0].shape[1]
        with self._turn:
            schedule = schedule_of(prompts, self._volume_prompt, starts)
            visited = [index for visit in schedule.visits for index in visit.objects]
            self.network.prepare(plan.grids(visited))
            decoder = ObjectDecoder(
                self.network,
                slices,
                box_batch_size=self.box_batch_size,
                stopwatch=stopwatch,
                tally=tally or Tally(),
                memory=memory,
                crop_of=crop_of,
            )
            yield from decoder.decode(schedule, Whereabouts(plan, self.planner, hw))

    def segment(
        self,
        pixels: NDArray[np.uint8],
        prompts: Prompts,
        *,
        stopwatch: Stopwatch | None = None,
        memory: EmbeddingMemory | None = None,
        starts: Sequence[int] | None = None,
    ) -> Segmentation:
        """Return the label map of checked prompts, and what it says of itself; see `decode`.

        Args:
            pixels: an image or a volume, checked.
            prompts: checked.
            stopwatch: takes the seconds by step.
            memory: of encoded regions.
            starts: see `decode`.
        """
        stopwatch, tally = stopwatch or Stopwatch(), Tally()
        shape = volume_shape(pixels, prompts)
        plan = self.planner.plan(prompts, shape[1:], follows=starts is not None)
        canvas, ratings = LabelCanvas(shape, len(prompts.boxes)), QualityTally(len(prompts.boxes))
        decoded = self.decode(
            pixels, prompts, plan, stopwatch=stopwatch, tally=tally, memory=memory, starts=starts
        )
        with closing(decoded):
            for one in decoded:
                with stopwatch.step("postprocess"):
                    canvas.paint(one.z, one.patch, one.index + 1)
                    ratings.add(one.index, one.patch, one.quality)
        with stopwatch.step("postprocess"):
            return segmentation_of(canvas, prompts, tally, ratings.qualities())

    def encode(self, slices: Slices, z: int, memory: EmbeddingMemory) -> None:
        """Encode a whole slice into the memory, unless it is there."""
        whole = self.planner.whole((slices[z].shape[0], slices[z].shape[1]))
        with self._turn:
            decoder = ObjectDecoder(
                self.network,
                slices,
                box_batch_size=self.box_batch_size,
                stopwatch=Stopwatch(),
                tally=Tally(),
                memory=memory,
            )
            decoder.encode(SliceRegion(z, whole))


def volume_shape(pixels: NDArray[np.uint8], prompts: Prompts) -> tuple[int, int, int]:
    """Return depth, which is 1 of an image, height and width."""
    depth, height, width = pixels.shape if prompts.is_volume else (1, *pixels.shape[:2])
    return depth, height, width
