"""The public interface: a model that turns pixels and boxes into label maps.

The command uses it, and so may any Python program.
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .config import Settings
from .memory import automatic_block_size
from .model import CompiledNetwork
from .pipeline import SERVED, Stages, segment_slices
from .postprocess import LabelMap
from .prompts import Prompts, check_prompts
from .timing import Stopwatch
from .variant import default_model_dir
from .volume import (
    boxes_2d,
    fixed_visits,
    follow_mask,
    follow_mask_within_box,
    image_visits,
    propagation_visits,
)

logger = logging.getLogger(__name__)

# The visits of each volume prompt, and what becomes of a neighbour's mask where there is one.
VOLUME_RULES = {
    "fixed": (fixed_visits, follow_mask),
    "propagate": (propagation_visits, follow_mask),
    "hybrid": (propagation_visits, follow_mask_within_box),
}


class Segmenter:
    """Segments images and volumes by box prompts; not safe for use by several threads at once.

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
        prompts = check_prompts(pixels, np.asarray(boxes))
        for note in prompts.notes:
            logger.warning("%s", note)
        return self.segment_checked(pixels, prompts, stopwatch=Stopwatch())

    def segment_checked(
        self,
        pixels: NDArray[np.uint8],
        prompts: Prompts,
        *,
        stopwatch: Stopwatch,
        stages: Stages = SERVED,
    ) -> LabelMap:
        """Segment checked prompts and take the time; see `segment` and `segment_slices`."""
        schedule, follow = VOLUME_RULES[self.settings.volume_prompt]
        if prompts.is_volume:
            visits = schedule(prompts.boxes, prompts.objects)
            boxes = boxes_2d(prompts.boxes)
        else:
            visits, boxes = image_visits(prompts.objects), prompts.boxes
        label_map = segment_slices(
            self.network,
            pixels if prompts.is_volume else [pixels],
            boxes=boxes,
            visits=visits,
            block_size=self.block_size,
            stopwatch=stopwatch,
            follow=follow,
            stages=stages,
        )
        return label_map if prompts.is_volume else label_map[0]
