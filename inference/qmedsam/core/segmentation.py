"""A label map, and what it says of itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .notes import label_notes
from .postprocess import LabelCanvas, LabelMap
from .prompts import Prompts
from .quality import LOW_QUALITY
from .tally import Tally


@dataclass(frozen=True, eq=False)
class RatedLabelMap:
    """A label map, and how good each mask may be.

    Attributes:
        label_map: (H, W) or (D, H, W), 0 is background, i is box i counted from 1.
        quality: (N,) float32, the DSC, 0 to 1, that the model predicts of the mask of each box: 0
            where nothing was found, NaN for a box outside the image and where the model does not
            say.
    """

    label_map: LabelMap
    quality: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Segmentation:
    """The answer to boxes.

    Attributes:
        label_map: (H, W) or (D, H, W).
        is_empty: the label map is all background; true without any boxes.
        tally: what the network did for it.
        quality: (N,), as of `RatedLabelMap`.
        notes: of boxes inside the image whose labels are missing from it, or whose masks may be
            poor, one sentence for each reason. Those outside are among the notes of the prompts.
    """

    label_map: LabelMap
    is_empty: bool
    tally: Tally
    quality: NDArray[np.float32]
    notes: tuple[str, ...]


def segmentation_of(
    canvas: LabelCanvas, prompts: Prompts, tally: Tally, quality: NDArray[np.float32]
) -> Segmentation:
    """Return what was drawn of checked prompts, when all of it is."""
    missing = [index for index in prompts.objects if not canvas.is_visible(index + 1)]
    poor = [int(index) for index in np.flatnonzero(quality < LOW_QUALITY)]
    return Segmentation(
        canvas.label_map if prompts.is_volume else canvas.label_map[0],
        is_empty=len(missing) == len(prompts.objects),
        tally=tally,
        quality=quality,
        notes=label_notes(
            prompts.written,
            empty=[index for index in missing if not canvas.has_mask(index + 1)],
            covered=[index for index in missing if canvas.has_mask(index + 1)],
            poor=[index for index in poor if canvas.has_mask(index + 1)],
        ),
    )
