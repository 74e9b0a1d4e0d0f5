"""The public interface: a model that turns pixels and boxes into label maps.

The command uses it, and so may any Python program.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from .config import Settings
from .core.embeddings import EmbeddingMemory
from .core.postprocess import LabelMap
from .core.prompts import check_pixels
from .core.timing import Stopwatch
from .engine import Engine
from .model.network import CompiledNetwork
from .model.variant import default_model_dir
from .session import Session, checked

REMEMBERED_SLICES = 32  # of a volume, between two calls of a session; 340 MB


class Segmenter(Engine):
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
        settings = settings or Settings()
        self.variant: str | None = None
        if model_dir is None:
            model_dir = default_model_dir(settings.variant)
            self.variant = model_dir.name
        self.model_dir = Path(model_dir)
        super().__init__(CompiledNetwork(self.model_dir, settings), settings)

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
        prompts = checked(pixels, boxes)
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
