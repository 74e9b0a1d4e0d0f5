"""An image or volume that stays encoded between boxes."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .core.crops import WHOLE, Crop
from .core.embeddings import EmbeddingMemory
from .core.geometry import ModelFrame
from .core.pipeline import SERVED, Canvas, Slices, Stages
from .core.postprocess import EMPTY_PATCH, LabelMap, MaskCanvas, MaskPatch, upsampled_logits
from .core.prompts import Prompts, as_array, boxes_on_slices, check_prompts, label_map_shape
from .core.timing import Stopwatch
from .engine import Engine, NoCanvas, volume_shape
from .errors import InvalidCaseError

logger = logging.getLogger(__name__)


class Session:
    """An image or volume that stays encoded; made by `Segmenter.open`.

    Further boxes cost what the decoder takes. Several threads take turns.

    Args:
        engine: that draws.
        pixels: checked.
        memory: of its encoded slices.

    Attributes:
        pixels: as they were given; they must stay as they are.
    """

    def __init__(self, engine: Engine, pixels: NDArray[np.uint8], memory: EmbeddingMemory) -> None:
        self.pixels = pixels
        self._engine = engine
        self._memory = memory

    def encode(self, slice_index: int | None = None) -> None:
        """Encode the image, or a slice of the volume, ahead of its first box.

        Args:
            slice_index: None of an image.

        Raises:
            InvalidCaseError: there is no such slice.
        """
        if slice_index is not None:
            self._check_slices(slice_index, slice_index)
        slices: Slices = [self.pixels] if slice_index is None else self.pixels
        self._engine.encode(slices, slice_index or 0, self._memory)

    def segment(self, boxes: ArrayLike) -> LabelMap:
        """Segment boxes as `Segmenter.segment` does.

        Raises:
            InvalidCaseError: a type, shape or value of the boxes is wrong.
        """
        return self._segment(checked(self.pixels, boxes))

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
        self._check_slices(*slices)
        prompts = checked(self.pixels, boxes_on_slices(as_array(boxes), slice_index, slices))
        return self._segment(prompts, starts=[slice_index] * len(prompts.boxes))

    def masks(self, boxes: ArrayLike) -> NDArray[np.bool_]:
        """Return a mask for each box, whole where masks overlap.

        Returns:
            (N, H, W) of an image, (N, D, H, W) of a volume.

        Raises:
            InvalidCaseError: a type, shape or value of the boxes is wrong.
        """
        prompts = checked(self.pixels, boxes)
        canvas = MaskCanvas(volume_shape(self.pixels, prompts), len(prompts.boxes))
        self._draw(prompts, canvas)
        return canvas.masks if prompts.is_volume else canvas.masks[:, 0]

    def logits(self, boxes: ArrayLike) -> NDArray[np.float32]:
        """Return the logits of each box on an image, above 0 where its mask is.

        Returns:
            (N, H, W).

        Raises:
            InvalidCaseError: boxes are wrong, or of a volume.
        """
        prompts = checked(self.pixels, boxes)
        if prompts.is_volume:
            raise InvalidCaseError("Logits are of images, got a volume; take a slice of it")
        logits = np.full((len(prompts.boxes), *self.pixels.shape[:2]), -np.inf, dtype=np.float32)
        rows = iter(prompts.objects)  # crops of one size are decoded in order

        def keep(
            low_res_logits: NDArray[np.float32], frame: ModelFrame, decoded: Crop
        ) -> MaskPatch:
            logits[next(rows)] = upsampled_logits(low_res_logits, frame)
            return EMPTY_PATCH

        stages = Stages(crop=lambda box, image_size: WHOLE, to_patch=keep)
        self._draw(prompts, NoCanvas(), stages)
        return logits

    def _check_slices(self, first: int, last: int) -> None:
        shape = self.pixels.shape
        if label_map_shape(shape, None) != shape or len(shape) != 3:
            raise InvalidCaseError(f"Slices are of a volume (D, H, W), got an image {shape}")
        if not 0 <= first <= last < shape[0]:
            raise InvalidCaseError(
                f"Slices must be from 0 to {shape[0] - 1}, got {first} to {last}"
            )

    def _segment(self, prompts: Prompts, starts: Sequence[int] | None = None) -> LabelMap:
        return self._engine.segment_checked(
            self.pixels, prompts, stopwatch=Stopwatch(), memory=self._memory, starts=starts
        )

    def _draw(self, prompts: Prompts, canvas: Canvas, stages: Stages = SERVED) -> None:
        self._engine.draw_checked(
            self.pixels,
            prompts,
            canvas,
            stopwatch=Stopwatch(),
            stages=stages,
            memory=self._memory,
        )


def checked(pixels: NDArray[np.uint8], boxes: ArrayLike) -> Prompts:
    """Check prompts, and log what had to be corrected."""
    prompts = check_prompts(pixels, as_array(boxes))
    for note in prompts.notes:
        logger.warning("%s", note)
    return prompts
