"""A label map, and what it says of itself."""

from __future__ import annotations

from dataclasses import dataclass

from .notes import missing_label_notes
from .postprocess import LabelCanvas, LabelMap
from .prompts import Prompts
from .tally import Tally


@dataclass(frozen=True, eq=False)
class Segmentation:
    """The answer to boxes.

    Attributes:
        label_map: (H, W) or (D, H, W).
        is_empty: the label map is all background; true without any boxes.
        tally: what the network did for it.
        notes: of boxes inside the image whose labels are missing from it, one sentence for each
            reason. Those outside are among the notes of the prompts.
    """

    label_map: LabelMap
    is_empty: bool
    tally: Tally
    notes: tuple[str, ...]


def segmentation_of(canvas: LabelCanvas, prompts: Prompts, tally: Tally) -> Segmentation:
    """Return what was drawn of checked prompts, when all of it is."""
    missing = [index for index in prompts.objects if not canvas.is_visible(index + 1)]
    return Segmentation(
        canvas.label_map if prompts.is_volume else canvas.label_map[0],
        is_empty=len(missing) == len(prompts.objects),
        tally=tally,
        notes=missing_label_notes(
            prompts.written,
            empty=[index for index in missing if not canvas.has_mask(index + 1)],
            covered=[index for index in missing if canvas.has_mask(index + 1)],
        ),
    )
