"""The public interface: a model that turns pixels and boxes into label maps.

The command uses it, and so may any Python program.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .config import Settings
from .embeddings import EmbeddingMemory
from .errors import InvalidCaseError
from .geometry import ModelFrame
from .memory import automatic_block_size
from .model import CompiledNetwork
from .pipeline import SERVED, Canvas, Slices, Stages, draw_slices
from .postprocess import (
    EMPTY_WINDOW,
    LabelCanvas,
    LabelMap,
    MaskCanvas,
    MaskWindow,
    upsampled_logits,
)
from .prompts import IMAGE_COLUMNS, Prompts, boxes_on_slices, check_pixels, check_prompts
from .timing import Stopwatch
from .variant import default_model_dir
from .volume import (
    Visit,
    boxes_2d,
    fixed_visits,
    follow_mask,
    follow_mask_within_box,
    image_visits,
    propagation_visits,
)
from .windows import WHOLE, Window

logger = logging.getLogger(__name__)

REMEMBERED_SLICES = 32  # of a volume, between two calls of a session; 340 MB

# The visits of each volume prompt, and what becomes of a neighbour's mask where there is one.
VOLUME_RULES = {
    "fixed": (fixed_visits, follow_mask),
    "propagate": (propagation_visits, follow_mask),
    "hybrid": (propagation_visits, follow_mask_within_box),
}


class Segmenter:
    """Segments images and volumes by box prompts; several threads take turns.

    Args:
        model_dir: folder of an exported model; None takes one that ships, as the settings say.
        settings: how to run it.

    Attributes:
        variant: which of the models that ship, `int8` or `float`; None with one of your own.

    Raises:
        ModelError: the model cannot be loaded.

    Example:
        >>> segmenter = Segmenter()
        >>> image = np.zeros((480, 640, 3), dtype=np.uint8)
        >>> segmenter.segment(image, [[10, 20, 200, 220]]).shape
        (480, 640)
    """

    def __init__(
        self, model_dir: Path | str | None = None, settings: Settings | None = None
    ) -> None:
        self.settings = settings or Settings()
        self.variant: str | None = None
        if model_dir is None:
            model_dir = default_model_dir(self.settings.variant)
            self.variant = model_dir.name
        self.model_dir = Path(model_dir)
        self.network = CompiledNetwork(self.model_dir, self.settings)
        self.block_size = self.settings.block_size or automatic_block_size(self.network.precision)
        self._turn = threading.Lock()

    def segment(self, image_or_volume: ArrayLike, boxes: ArrayLike) -> LabelMap:
        """Segment every box.

        Args:
            image_or_volume: uint8; an image (H, W), (H, W, 1), (H, W, 3) RGB or (H, W, 4), or a
                volume (D, H, W).
            boxes: (N, 4), xyxy, with an image; (N, 6), xyzxyz, z_max inclusive, with a volume.
                Pixels of the original; N may be 0.

        Returns:
            label_map (H, W) or (D, H, W), uint8, or uint16 for more than 255 boxes: 0 is
            background, i is box i counted from 1, and a later box wins where two overlap.

        Raises:
            InvalidCaseError: a type, shape or value is wrong.
            ModelError: the decoder cannot be run.
        """
        pixels = np.asarray(image_or_volume)
        prompts = _checked(pixels, boxes)
        return self.segment_checked(pixels, prompts, stopwatch=Stopwatch())

    def open(self, image_or_volume: ArrayLike, remembered: int = REMEMBERED_SLICES) -> Session:
        """Take an image or a volume to which boxes are given again and again.

        Args:
            image_or_volume: as of `segment`.
            remembered: slices that stay encoded between two calls, 10 MB each.

        Raises:
            InvalidCaseError: a type or shape is wrong.

        Example:
            >>> session = Segmenter().open(np.zeros((480, 640, 3), dtype=np.uint8))
            >>> session.segment([[10, 20, 200, 220]]).shape
            (480, 640)
        """
        pixels = np.asarray(image_or_volume)
        check_pixels(pixels)
        return Session(self, pixels, EmbeddingMemory(remembered))

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
        canvas = LabelCanvas(_volume_shape(pixels, prompts), len(prompts.boxes))
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
                block_size=self.block_size,
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
                _NoCanvas(),
                boxes=np.zeros((0, IMAGE_COLUMNS), dtype=np.float32),
                visits=[Visit(z, ())],
                block_size=self.block_size,
                stopwatch=Stopwatch(),
                memory=memory,
            )


class Session:
    """An image or volume that stays encoded; made by `Segmenter.open`.

    Further boxes cost what the decoder takes. Several threads take turns.

    Args:
        segmenter: of which it is.
        pixels: checked.
        memory: of its encoded slices.

    Attributes:
        pixels: as they were given.
    """

    def __init__(
        self, segmenter: Segmenter, pixels: NDArray[np.uint8], memory: EmbeddingMemory
    ) -> None:
        self.pixels = pixels
        self._segmenter = segmenter
        self._memory = memory

    def encode(self, slice_index: int | None = None) -> None:
        """Encode the image, or a slice of the volume, ahead of its first box.

        Args:
            slice_index: None of an image.

        Raises:
            InvalidCaseError: there is no such slice.
        """
        if slice_index is not None and not 0 <= slice_index < len(self.pixels):
            raise InvalidCaseError(
                f"Slice must be from 0 to {len(self.pixels) - 1}, got {slice_index}"
            )
        slices: Slices = [self.pixels] if slice_index is None else self.pixels
        self._segmenter.encode(slices, slice_index or 0, self._memory)

    def segment(self, boxes: ArrayLike) -> LabelMap:
        """Segment boxes as `Segmenter.segment` does.

        Raises:
            InvalidCaseError: a type, shape or value of the boxes is wrong.
        """
        return self._segment(_checked(self.pixels, boxes))

    def propagate(self, boxes: ArrayLike, slice_index: int, slices: tuple[int, int]) -> LabelMap:
        """Segment what was boxed on one slice of a volume, and follow it to others.

        Args:
            boxes: (N, 4), xyxy, on the slice.
            slice_index: the slice that the boxes are of.
            slices: the first and the last slice to go to, both inclusive.

        Returns:
            label_map (D, H, W).

        Raises:
            InvalidCaseError: the image is no volume, or boxes or slices are wrong.
        """
        prompts = check_prompts(self.pixels, boxes_on_slices(boxes, slice_index, slices))
        if not slices[0] >= 0 or not slices[1] < len(self.pixels):
            raise InvalidCaseError(f"Slices must be 0 to {len(self.pixels) - 1}, got {slices}")
        return self._segment(prompts, starts=[slice_index] * len(prompts.boxes))

    def masks(self, boxes: ArrayLike) -> NDArray[np.bool_]:
        """Return a mask for each box, whole where masks overlap.

        Returns:
            (N, H, W) of an image, (N, D, H, W) of a volume.

        Raises:
            InvalidCaseError: a type, shape or value of the boxes is wrong.
        """
        prompts = _checked(self.pixels, boxes)
        canvas = MaskCanvas(_volume_shape(self.pixels, prompts), len(prompts.boxes))
        self._draw(prompts, canvas)
        return canvas.masks if prompts.is_volume else canvas.masks[:, 0]

    def logits(self, boxes: ArrayLike) -> NDArray[np.float32]:
        """Return the logits of each box on an image, above 0 where its mask is.

        Returns:
            (N, H, W).

        Raises:
            InvalidCaseError: boxes are wrong, or of a volume.
        """
        prompts = _checked(self.pixels, boxes)
        if prompts.is_volume:
            raise InvalidCaseError("Logits are of images, got a volume; take a slice of it")
        logits = np.full((len(prompts.boxes), *self.pixels.shape[:2]), -np.inf, dtype=np.float32)
        rows = iter(prompts.objects)  # windows of one size are decoded in order

        def keep(
            low_res_logits: NDArray[np.float32], frame: ModelFrame, decoded: Window
        ) -> MaskWindow:
            logits[next(rows)] = upsampled_logits(low_res_logits, frame)
            return EMPTY_WINDOW

        stages = Stages(window=lambda box, image_size: WHOLE, to_window=keep)
        self._draw(prompts, _NoCanvas(), stages)
        return logits

    def _segment(self, prompts: Prompts, starts: Sequence[int] | None = None) -> LabelMap:
        return self._segmenter.segment_checked(
            self.pixels, prompts, stopwatch=Stopwatch(), memory=self._memory, starts=starts
        )

    def _draw(self, prompts: Prompts, canvas: Canvas, stages: Stages = SERVED) -> None:
        self._segmenter.draw_checked(
            self.pixels,
            prompts,
            canvas,
            stopwatch=Stopwatch(),
            stages=stages,
            memory=self._memory,
        )


class _NoCanvas:
    """Of which only the logits are wanted."""

    def paint(self, z: int, window: MaskWindow, label: int) -> None:
        pass


def _checked(pixels: NDArray[np.uint8], boxes: ArrayLike) -> Prompts:
    """Check prompts, and log what had to be corrected."""
    prompts = check_prompts(pixels, np.asarray(boxes))
    for note in prompts.notes:
        logger.warning("%s", note)
    return prompts


def _volume_shape(pixels: NDArray[np.uint8], prompts: Prompts) -> tuple[int, int, int]:
    depth, height, width = pixels.shape if prompts.is_volume else (1, *pixels.shape[:2])
    return depth, height, width
