"""The public interface: a model that turns pixels and boxes into label maps.

The command uses it, and so may any Python program.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from .config import REGIONS, Settings, as_path
from .core.contract import Grid
from .core.embeddings import EmbeddingMemory
from .core.pipeline import Pipeline
from .core.postprocess import LabelMap
from .core.prompts import check_pixels, label_map_shape
from .core.segmentation import RatedLabelMap
from .model.network import CompiledNetwork
from .model.variant import INT8, find_model, has_vnni
from .session import Session, checked, rated
from .system.closing import ClosedAtTheEnd
from .system.memory import automatic_box_batch_size

logger = logging.getLogger(__name__)

REMEMBERED_SLICES = 32  # between two calls of a session; 340 MB


class Segmenter(ClosedAtTheEnd):
    """Segments images and volumes by box prompts; several threads take turns.

    As a context manager it waits at its end until what was compiled is in the cache.

    Args:
        model_dir: folder of an exported model, or of an int8 and a float one; None takes those that
            ship. Which of two is run, the settings say.
        settings: how to run it.
        grids: of the encoder that are made ready at once; others when they are first needed.

    Attributes:
        settings: as given.
        model_dir: of the model that runs.
        variant: which of two models, `int8` or `float`; None of one alone.
        network: the compiled model: its manifest, precision and threads.
        pipeline: runs it on prompts that are checked already, and takes the time.

    Raises:
        ModelError: the model cannot be loaded.
        TypeError: the settings are none, or the folder is no path.
        ValueError: it has no such grid.

    Example:
        >>> image = np.zeros((480, 640, 3), dtype=np.uint8)
        >>> with Segmenter() as segmenter:
        ...     segmenter.segment(image, [[10, 20, 200, 220]]).shape
        (480, 640)
    """

    def __init__(
        self,
        model_dir: Path | str | None = None,
        settings: Settings | None = None,
        *,
        grids: Sequence[Grid] = (),
    ) -> None:
        self.settings = Settings() if settings is None else settings
        if not isinstance(self.settings, Settings):
            raise TypeError(f"Settings must be Settings of qmedsam, got {type(settings).__name__}")
        given = None if model_dir is None else as_path(model_dir, "Model folder")
        self.model_dir = find_model(given, self.settings.variant)
        self.variant = None if self.model_dir == given else self.model_dir.name
        self.network = CompiledNetwork(self.model_dir, self.settings, grids=grids)
        if self.network.manifest.precision == INT8 and not has_vnni():
            logger.warning(
                "Model %s is in int8, and this processor has no VNNI: it takes longer than in "
                "float, and sums of products that overflow 16 bits change masks; --variant float "
                "does without",
                self.model_dir,
            )
        self.pipeline = Pipeline(
            self.network,
            volume_prompt=self.settings.volume_prompt,
            regions=self.settings.regions,
            box_batch_size=self.settings.box_batch_size
            or automatic_box_batch_size(self.network.precision),
        )

    def __repr__(self) -> str:
        network = self.network
        return (
            f"<Segmenter: {network.manifest.name}, weights {network.manifest.precision}, other "
            f"layers {network.precision}, threads {network.threads}, from {self.model_dir}>"
        )

    @property
    def box_batch_size(self) -> int:
        """Most boxes in one decoder call."""
        return self.pipeline.box_batch_size

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
        return self.segment_rated(image_or_volume, boxes).label_map

    def segment_rated(self, image_or_volume: ArrayLike, boxes: ArrayLike) -> RatedLabelMap:
        """Segment as `segment`, and say how good the mask of each box may be.

        Raises:
            InvalidCaseError: a type, shape or value is wrong.
            ModelError: the decoder cannot be run.
        """
        pixels = np.asarray(image_or_volume)
        return rated(self.pipeline.segment(pixels, checked(pixels, boxes)))

    def open(
        self, image_or_volume: ArrayLike, remembered: int = REMEMBERED_SLICES, *, name: str = ""
    ) -> Session:
        """Take an image or a volume to which boxes are given again and again.

        Args:
            image_or_volume: as of `segment`.
            remembered: whole slices that stay encoded between two calls, 10 MB each, or regions of
                them that take as much; 0 or more.
            name: of the image, with which warnings begin; empty where it has none.

        Raises:
            InvalidCaseError: a type or shape is wrong.
            ValueError: `remembered` is not a number of slices.

        Example:
            >>> with Segmenter().open(np.zeros((480, 640, 3), dtype=np.uint8)) as session:
            ...     session.segment([[10, 20, 200, 220]]).shape
            (480, 640)
        """
        pixels = np.asarray(image_or_volume)
        check_pixels(pixels)
        *_, height, width = label_map_shape(pixels.shape, None) or pixels.shape[:2]
        memory = EmbeddingMemory(remembered, self.pipeline.planner.whole((height, width)))
        return Session(self.pipeline, pixels, memory, name)

    def close(self) -> None:
        """Wait until nothing is being compiled any more, and the cache is filled."""
        self.network.wait()


def fill_cache(settings: Settings) -> None:
    """Compile all that any case may need, by regions and by whole images, into the cache folder.

    Args:
        settings: of the processes that will read the cache; `cache_dir` is set.

    Raises:
        ModelError: the model cannot be loaded.
    """
    for regions in REGIONS:
        segmenter = Segmenter(settings=replace(settings, regions=regions))
        network, planner = segmenter.network, segmenter.pipeline.planner
        for grid_hw in planner.region_grids:
            network.prepare([grid_hw])
        network.wait()
