"""A DICOM SEG that is there already, read by highdicom: where its segments lie."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..scan import FormatError, check_size
from .attributes import Dataset, reason, without_warnings
from .references import Reference

IN_SEGMENT = 0.5  # of a fractional one, from which on a voxel is in it


@dataclass(frozen=True)
class Segment:
    """Where a segment lies.

    Attributes:
        name: of it.
        first: lowest column, row and slice.
        last: highest.
        to_mm: turns these into millimetres to the left, back and top, (4, 4); None where slices
            are counted as the references are that it was looked for by.
    """

    name: str
    first: tuple[int, ...]
    last: tuple[int, ...]
    to_mm: NDArray[np.float64] | None


def read_segments(name: str, content: bytes, references: Sequence[Reference]) -> list[Segment]:
    """Read the segments of a SEG that are not empty.

    Args:
        name: of the file, for messages.
        content: of the file.
        references: to the slices of the image that it is of, in order; none of an image that is
            not DICOM. Segments that do not refer to these have their places in the patient.

    Raises:
        FormatError: the file cannot be read or is no SEG, or says no place of its segments.
    """
    import highdicom  # takes a second, and is needed for nothing else

    try:
        with without_warnings():
            seg = highdicom.seg.segread(io.BytesIO(content))
            frames = int(seg.get("NumberOfFrames", 1))
            check_size(name, frames * int(seg.Rows) * int(seg.Columns))
            uids = {str(uid) for *_, uid in seg.get_source_image_uids()}
            numbers = [int(number) for number in seg.segment_numbers if number]
            is_of_these = any(each.instance_uid in uids for each in references)
            return [
                found
                for number in numbers
                if (found := _segment(seg, number, references if is_of_these else ())) is not None
            ]
    except FormatError:
        raise
    except Exception as error:  # highdicom and pydicom raise what they like
        raise FormatError(
            f"{name} must be a readable DICOM SEG whose segments say where they lie, "
            f"got: {reason(error)}"
        ) from error


def _segment(seg: Dataset, number: int, references: Sequence[Reference]) -> Segment | None:
    """Return where a segment lies; None of an empty one."""
    name = str(seg.get_segment_description(number).segment_label)
    if references:
        mask, to_mm = _by_references(seg, number, references), None
    else:
        volume = seg.get_volume(segment_numbers=[number])
        mask, to_mm = volume.array[..., 0], volume.affine[:, [2, 1, 0, 3]]
    slices, rows, columns = np.nonzero(mask >= IN_SEGMENT)
    if not len(slices):
        return None
    ends = [(int(each.min()), int(each.max())) for each in (columns, rows, slices)]
    return Segment(name, tuple(low for low, _ in ends), tuple(high for _, high in ends), to_mm)


def _by_references(seg: Any, number: int, references: Sequence[Reference]) -> NDArray[Any]:
    """Return a segment (D, H, W) on the slices that it refers to."""
    options = {
        "segment_numbers": [number],
        "ignore_spatial_locations": True,
        "assert_missing_frames_are_empty": True,
    }
    uids = [each.instance_uid for each in references]
    frames = [each.frame for each in references]
    if len(set(uids)) == 1 and None not in frames:
        found = seg.get_pixels_by_source_frame(uids[0], frames, **options)
    else:
        found = seg.get_pixels_by_source_instance(uids, **options)
    mask: NDArray[Any] = found[..., 0]
    return mask
