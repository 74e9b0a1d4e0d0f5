"""A DICOM SEG that is there already, read by highdicom: its segments, one after another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
    """A segment.

    Attributes:
        number: of it.
        name: of it.
        mask: (D, H, W).
        to_mm: turns places (column, row, slice, 1) in the mask into millimetres to the left, back
            and top, (4, 4); None where its slices are those that were asked for.
    """

    number: int
    name: str
    mask: NDArray[np.bool_]
    to_mm: NDArray[np.float64] | None


def segments_of(dataset: Dataset, name: str, references: Sequence[Reference]) -> Iterator[Segment]:
    """Give the segments of a SEG, one after another, as each may be as large as its image.

    Args:
        dataset: of the file.
        name: of the file, for messages.
        references: to the slices of the image that it is of, in order; none of an image that is
            not DICOM. A SEG that does not refer to these has places in the patient instead.

    Raises:
        FormatError: the file cannot be read or is no SEG, or says no places of its segments.
    """
    import highdicom  # takes a second, and is needed for nothing else

    try:
        with without_warnings():
            frames = int(dataset.get("NumberOfFrames", 1))
            check_size(name, frames * int(dataset.Rows) * int(dataset.Columns))
            seg = highdicom.seg.Segmentation.from_dataset(dataset, copy=False)
            uids = {str(uid) for *_, uid in seg.get_source_image_uids()}
            is_of_these = any(each.instance_uid in uids for each in references)
            for number in seg.segment_numbers:
                if number:  # of a SEG that is a label map, 0 is the background
                    yield _segment(seg, int(number), references if is_of_these else ())
    except FormatError:
        raise
    except Exception as error:  # highdicom and pydicom raise what they like
        raise FormatError(
            f"{name} must be a readable DICOM SEG whose segments say where they lie, "
            f"got: {reason(error)}"
        ) from error


def _segment(seg: Any, number: int, references: Sequence[Reference]) -> Segment:
    """Return a segment, on the slices that it refers to or where it lies."""
    name = str(seg.get_segment_description(number).segment_label)
    if references:
        mask = _by_references(seg, number, references)
        return Segment(number, name, mask >= IN_SEGMENT, None)
    volume = seg.get_volume(segment_numbers=[number])
    to_mm = volume.affine[:, [2, 1, 0, 3]]
    return Segment(number, name, volume.array[..., 0] >= IN_SEGMENT, to_mm)


def _by_references(seg: Any, number: int, references: Sequence[Reference]) -> NDArray[Any]:
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
