"""An image or volume that stays encoded between boxes."""

from __future__ import annotations

import logging
import operator
from collections.abc import Sequence
from contextlib import closing

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .core.contract import embedding_hw
from .core.crops import whole_crop
from .core.embeddings import EmbeddingMemory
from .core.pipeline import Pipeline, volume_shape
from .core.postprocess import LabelMap, upsampled_logits
from .core.prompts import (
    COLOUR_CHANNELS,
    Prompts,
    as_array,
    boxes_on_slices,
    check_prompts,
    label_map_shape,
)
from .core.regions import RegionPlan
from .core.segmentation import RatedLabelMap, Segmentation
from .core.timing import Stopwatch
from .errors import InvalidCaseError
from .system.closing import ClosedAtTheEnd

logger = logging.getLogger(__name__)


class Session(ClosedAtTheEnd):
    """An image or volume that stays encoded; made by `Segmenter.open`.

    Boxes that were given before cost what the decoder takes; others need regions of their own, of
    which `preview` does without. Several threads take turns. As a context manager it forgets at its
    end what is encoded.

    Args:
        pipeline: of the segmenter.
        pixels: checked.
        memory: of what is encoded of it.
        name: of the image, with which warnings begin; empty where it has none.

    Attributes:
        pixels: as they were given; they must stay as they are.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        pixels: NDArray[np.uint8],
        memory: EmbeddingMemory,
        name: str = "",
    ) -> None:
        self.pixels = pixels
        self._pipeline = pipeline
        self._memory = memory
        self._name = name

    def __repr__(self) -> str:
        kind = "volume" if self._is_volume else "image"
        return f"<Session: {kind} {self.pixels.shape}, {len(self._memory.slices())} slices encoded>"

    @property
    def has_preview(self) -> bool:
        """Whether `preview` looks at something else than the other methods do."""
        return not self._pipeline.planner.is_whole

    def encode(self, slice_index: int | None = None) -> None:
        """Encode the whole image, or a slice of the volume, ahead of its first preview.

        Args:
            slice_index: which slice of a volume; None of an image.

        Raises:
            InvalidCaseError: there is no such slice, or none is named of a volume.
        """
        z = self._named_slice(slice_index)
        slices = self.pixels if self._is_volume else [self.pixels]
        self._pipeline.encode(slices, z, self._memory)

    def segment(self, boxes: ArrayLike) -> LabelMap:
        """Segment boxes as `Segmenter.segment` does.

        Raises:
            InvalidCaseError: a type, shape or value of the boxes is wrong.
        """
        return self.segment_rated(boxes).label_map

    def segment_rated(self, boxes: ArrayLike) -> RatedLabelMap:
        """Segment boxes as `segment`, and say how good each mask may be.

        Raises:
            InvalidCaseError: a type, shape or value of the boxes is wrong.
        """
        return rated(self._segmentation(checked(self.pixels, boxes, self._name)), self._name)

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
        return self.propagate_rated(boxes, slice_index, slices).label_map

    def propagate_rated(
        self, boxes: ArrayLike, slice_index: int, slices: tuple[int, int]
    ) -> RatedLabelMap:
        """Segment and follow as `propagate`, and say how good each mask may be.

        Raises:
            InvalidCaseError: the image is no volume, or boxes or slices are wrong.
        """
        start = _whole_number(slice_index)
        first, last = _first_and_last(slices)
        self._check_slices(first, last)
        on_slices = boxes_on_slices(as_array(boxes), start, (first, last))
        prompts = checked(self.pixels, on_slices, self._name)
        return rated(self._segmentation(prompts, starts=[start] * len(prompts.boxes)), self._name)

    def masks(self, boxes: ArrayLike) -> NDArray[np.bool_]:
        """Return a mask for each box, whole where masks overlap.

        Returns:
            (N, H, W) of an image, (N, D, H, W) of a volume.

        Raises:
            InvalidCaseError: a type, shape or value of the boxes is wrong.
        """
        prompts = checked(self.pixels, boxes, self._name)
        depth, _, _ = volume_shape(self.pixels, prompts)
        masks = self._masks(prompts, self._plan(prompts), range(depth))
        return masks if prompts.is_volume else masks[:, 0]

    def preview(self, boxes: ArrayLike, slice_index: int | None = None) -> NDArray[np.bool_]:
        """Return a mask for each box by what `encode` has encoded: the whole image or slice.

        It costs the decoder alone from then on, while the other methods look closer, at regions
        round the boxes; without `has_preview` they see no more than this.

        Args:
            boxes: (N, 4), xyxy, on the image or the slice.
            slice_index: which slice of a volume; None of an image.

        Returns:
            (N, H, W), whole where masks overlap.

        Raises:
            InvalidCaseError: boxes are wrong, there is no such slice, or none is named of a volume.
        """
        z = self._named_slice(slice_index)
        if self._is_volume:
            boxes = boxes_on_slices(as_array(boxes), z, (z, z))
        prompts = checked(self.pixels, boxes, self._name)
        _, height, width = volume_shape(self.pixels, prompts)
        plan = self._pipeline.planner.whole_plan(prompts, (height, width))
        return self._masks(prompts, plan, range(z, z + 1))[:, 0]

    def logits(self, boxes: ArrayLike) -> NDArray[np.float32]:
        """Return the logits of each box on an image, above 0 where its mask is.

        A mask ends a little outside its box, logits do not.

        Returns:
            (N, H, W); -inf outside the region that was looked at, and for a box outside the image.

        Raises:
            InvalidCaseError: boxes are wrong, or of a volume.
        """
        prompts = checked(self.pixels, boxes, self._name)
        if prompts.is_volume:
            raise InvalidCaseError("Logits are of images, got a volume; take a slice of it")
        logits = np.full((len(prompts.boxes), *self.pixels.shape[:2]), -np.inf, dtype=np.float32)
        decoded = self._pipeline.decode(
            self.pixels,
            prompts,
            self._plan(prompts),
            stopwatch=Stopwatch(),
            memory=self._memory,
            crop_of=lambda box, grid_hw, stride: whole_crop(embedding_hw(grid_hw, stride)),
        )
        with closing(decoded):
            for one in decoded:
                region = one.region
                region.cut(logits[one.index])[...] = upsampled_logits(
                    one.low_res_logits, region.frame
                )
        return logits

    def close(self) -> None:
        """Forget what is encoded; a further box encodes again."""
        self._memory.clear()

    @property
    def _is_volume(self) -> bool:
        shape = self.pixels.shape
        return len(shape) == 3 and label_map_shape(shape, None) == shape

    def _named_slice(self, slice_index: int | None) -> int:
        """Return the number of a slice of a volume; 0 of an image, of which none is named."""
        if slice_index is not None:
            z = _whole_number(slice_index)
            self._check_slices(z, z)
            return z
        if self._is_volume:
            depth = self.pixels.shape[0]
            raise InvalidCaseError(
                f"Of a volume a slice must be named, from 0 to {depth - 1}; got none"
            )
        return 0

    def _check_slices(self, first: int, last: int) -> None:
        shape = self.pixels.shape
        if not self._is_volume:
            raise InvalidCaseError(f"Slices are of a volume (D, H, W), got an image {shape}")
        if not 0 <= first <= last < shape[0]:
            raise InvalidCaseError(
                f"Slices must be from 0 to {shape[0] - 1}, got {first} to {last}"
            )

    def _plan(self, prompts: Prompts) -> RegionPlan:
        _, height, width = volume_shape(self.pixels, prompts)
        return self._pipeline.planner.plan(prompts, (height, width))

    def _masks(self, prompts: Prompts, plan: RegionPlan, slices: range) -> NDArray[np.bool_]:
        """Return the masks (N, len(slices), H, W) of boxes on slices among these."""
        _, height, width = volume_shape(self.pixels, prompts)
        masks = np.zeros((len(prompts.boxes), len(slices), height, width), dtype=np.bool_)
        decoded = self._pipeline.decode(
            self.pixels, prompts, plan, stopwatch=Stopwatch(), memory=self._memory
        )
        with closing(decoded):
            for one in decoded:
                # A slice may be visited twice, on the way up and on the way down.
                masks[one.index, one.z - slices.start][one.patch.place()] |= one.patch.mask
        return masks

    def _segmentation(self, prompts: Prompts, starts: Sequence[int] | None = None) -> Segmentation:
        return self._pipeline.segment(self.pixels, prompts, memory=self._memory, starts=starts)


def checked(pixels: NDArray[np.uint8], boxes: ArrayLike, name: str = "") -> Prompts:
    """Check what a program passes in, and log what had to be corrected.

    Raises:
        InvalidCaseError: a type, shape or value is wrong, or boxes of a volume come with an image
            in colour, which a file may hold only as a volume three or four pixels wide.
    """
    prompts = check_prompts(pixels, as_array(boxes))
    if prompts.is_volume and pixels.shape[2] in COLOUR_CHANNELS:
        raise InvalidCaseError(
            f"Boxes (N, 6) need a volume (D, H, W), got an image in colour {pixels.shape}, which "
            "takes boxes (N, 4)"
        )
    _warn(prompts.notes, name)
    return prompts


def rated(segmentation: Segmentation, name: str = "") -> RatedLabelMap:
    """Return the label map of an answer, and log which labels are missing or may be wrong."""
    _warn(segmentation.notes, name)
    return RatedLabelMap(segmentation.label_map, segmentation.quality)


def _warn(notes: Sequence[str], name: str) -> None:
    for note in notes:
        logger.warning("%s", f"{name}: {note}" if name else note)


def _first_and_last(slices: tuple[int, int]) -> tuple[int, int]:
    try:
        first, last = slices
    except (TypeError, ValueError) as error:
        raise InvalidCaseError(
            f"Slices must be the first and the last one, got {slices!r}"
        ) from error
    return _whole_number(first), _whole_number(last)


def _whole_number(slice_index: object) -> int:
    """Return the number of a slice; 2.0 may be meant as one, but so may a position in mm."""
    is_flag = isinstance(slice_index, bool | np.bool_)
    try:
        if not is_flag:
            return operator.index(slice_index)  # type: ignore[arg-type]
    except TypeError:
        pass
    raise InvalidCaseError(f"A slice is named by a whole number, got {slice_index!r}")
