"""A network with its volume prompt, that draws checked prompts; whoever uses it takes a turn."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .config import Settings
from .core.embeddings import EmbeddingMemory
from .core.pipeline import SERVED, Canvas, Slices, Stages, draw_slices
from .core.postprocess import LabelCanvas, LabelMap, MaskPatch
from .core.prompts import IMAGE_COLUMNS, Prompts
from .core.propagation import (
    Visit,
    boxes_2d,
    fixed_visits,
    follow_mask,
    follow_mask_within_box,
    image_visits,
    propagation_visits,
)
from .core.timing import Stopwatch
from .model.network import CompiledNetwork
from .system.memory import automatic_box_batch_size

# The visits of each volume prompt, and what becomes of a neighbour's mask where there is one.
VOLUME_RULES = {
    "fixed": (fixed_visits, follow_mask),
    "propagate": (propagation_visits, follow_mask),
    "hybrid": (propagation_visits, follow_mask_within_box),
}


class NoCanvas:
    """What draws nothing."""

    def paint(self, z: int, patch: MaskPatch, label: int) -> None:
        """Do nothing."""


class Engine:
    """Draws the masks of checked prompts; several threads take turns.

    Args:
        network: compiled.
        settings: how to run it.

    Attributes:
        network: as given.
        settings: as given.
        box_batch_size: most boxes in one decoder call.
    """

    def __init__(self, network: CompiledNetwork, settings: Settings) -> None:
        self.network, self.settings = network, settings
        self.box_batch_size = settings.box_batch_size or automatic_box_batch_size(network.precision)
        self._turn = threading.Lock()

    def segment_checked(
        self,
        pixels: NDArray[np.uint8],
        prompts: Prompts,
        *,
        stopwatch: Stopwatch,
        stages: Stages = SERVED,
        memory: EmbeddingMemory | None = None,
        starts: Sequence[int] | None = None,
    ) -> LabelMap:
        """Segment checked prompts and take the time; see `segment` and `draw_checked`."""
        canvas = LabelCanvas(volume_shape(pixels, prompts), len(prompts.boxes))
        self.draw_checked(
            pixels,
            prompts,
            canvas,
            stopwatch=stopwatch,
            stages=stages,
            memory=memory,
            starts=starts,
        )
        return canvas.label_map if prompts.is_volume else canvas.label_map[0]

    def draw_checked(
        self,
        pixels: NDArray[np.uint8],
        prompts: Prompts,
        canvas: Canvas,
        *,
        stopwatch: Stopwatch,
        stages: Stages = SERVED,
        memory: EmbeddingMemory | None = None,
        starts: Sequence[int] | None = None,
    ) -> None:
        """Draw the masks of checked prompts; see `draw_slices`.

        With `starts`, a slice for each box of a volume, masks are followed outward from there,
        whatever the settings say.
        """
        schedule, follow = VOLUME_RULES[self.settings.volume_prompt]
        slices: Slices = pixels if prompts.is_volume else [pixels]
        if prompts.is_volume:
            if starts is None:
                visits = schedule(prompts.boxes, prompts.objects)
            else:
                visits = propagation_visits(prompts.boxes, prompts.objects, starts)
                follow = follow_mask
            boxes = boxes_2d(prompts.boxes)
        else:
            visits, boxes = image_visits(prompts.objects), prompts.boxes
        with self._turn:
            draw_slices(
                self.network,
                slices,
                canvas,
                boxes=boxes,
                visits=visits,
                box_batch_size=self.box_batch_size,
                stopwatch=stopwatch,
                follow=follow,
                stages=stages,
                memory=memory,
            )

    def encode(self, slices: Slices, z: int, memory: EmbeddingMemory) -> None:
        """Encode a slice into the memory, unless it is there."""
        with self._turn:
            draw_slices(
                self.network,
                slices,
                NoCanvas(),
                boxes=np.zeros((0, IMAGE_COLUMNS), dtype=np.float32),
                visits=[Visit(z, ())],
                box_batch_size=self.box_batch_size,
                stopwatch=Stopwatch(),
                memory=memory,
            )


def volume_shape(pixels: NDArray[np.uint8], prompts: Prompts) -> tuple[int, int, int]:
    """Return depth, which is 1 of an image, height and width."""
    depth, height, width = pixels.shape if prompts.is_volume else (1, *pixels.shape[:2])
    return depth, height, width
