"""What a user should know of boxes, in one sentence for each kind of it.

A sentence begins with the first boxes that it is true of, by their labels and as the user wrote
them, and with how many more there are; then it says what became of them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .quality import LOW_QUALITY

MOST_NAMED = 3  # boxes of a sentence; the others are counted
# {was} is "were" where there are more boxes than one, and {a_poor_mask} "poor masks".
PUT_IN_ORDER = "{was} put in order, minimum first"
ROUNDED = "{was} rounded to whole slices"
OUTSIDE = "lay outside the %s and left no label"
CLIPPED = "reached beyond the %s and {was} clipped"
CORNER = "{was} taken for 2 x 2 pixels, not for the whole image in normalised coordinates"
EMPTY = "left no label, as nothing was found there"
COVERED = "left no label, as later boxes cover all that was found there"
POOR = f"may have {{a_poor_mask}}: the model predicts a DSC below {LOW_QUALITY}"


def named_boxes(written: NDArray[np.float64], chosen: NDArray[np.bool_]) -> str:
    """Name the first of the chosen boxes by their labels, and say how many more there are.

    Args:
        written: (N, 4) or (N, 6), as the user wrote them.
        chosen: (N,), of which at least one.
    """
    rows = np.flatnonzero(chosen)
    values = [", ".join(f"{value:g}" for value in written[row]) for row in rows[:MOST_NAMED]]
    parts = [f"{row + 1} ({found})" for row, found in zip(rows, values, strict=False)]
    if rows.size > MOST_NAMED:
        parts.append(f"{rows.size - MOST_NAMED} more")
    return f"box {parts[0]}" if rows.size == 1 else f"boxes {', '.join(parts[:-1])} and {parts[-1]}"


def notes_of(written: NDArray[np.float64], kinds: dict[str, NDArray[np.bool_]]) -> tuple[str, ...]:
    """Return a sentence for each kind that is true of a box.

    Args:
        written: (N, 4) or (N, 6), as the user wrote them.
        kinds: by what became of the boxes, of which it is true, (N,).
    """
    return tuple(_note(written, said, chosen) for said, chosen in kinds.items() if chosen.any())


def label_notes(
    written: NDArray[np.float64],
    *,
    empty: Sequence[int],
    covered: Sequence[int],
    poor: Sequence[int],
) -> tuple[str, ...]:
    """Return the notes of boxes whose labels are missing from a label map, or may be wrong.

    Args:
        written: (N, 4) or (N, 6), as the user wrote them.
        empty: rows of the boxes in which nothing was found.
        covered: rows of those whose masks lie wholly under later ones.
        poor: rows of those of whose masks a low quality is predicted.
    """
    rows = np.arange(len(written))
    kinds = {EMPTY: empty, COVERED: covered, POOR: poor}
    return notes_of(written, {said: np.isin(rows, which) for said, which in kinds.items()})


def described_extent(shape: tuple[int, ...], *, is_volume: bool) -> str:
    """Say what the pixels are, and how many there are along x and y."""
    height, width = shape[1:3] if is_volume else shape[:2]
    area = f"{width} x {height} pixels"
    if not is_volume:
        return f"image of {area}"
    return f"volume of {shape[0]} slice{'s' if shape[0] > 1 else ''} of {area}"


def _note(written: NDArray[np.float64], said: str, chosen: NDArray[np.bool_]) -> str:
    named = named_boxes(written, chosen).capitalize()
    if chosen.sum() == 1:
        return f"{named} {said.format(was='was', a_poor_mask='a poor mask')}"
    return f"{named} {said.format(was='were', a_poor_mask='poor masks')}"
