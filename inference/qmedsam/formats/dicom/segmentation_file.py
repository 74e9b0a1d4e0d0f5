"""A DICOM SEG that is there already, read by highdicom: its segments, one after another."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..scan import FormatError, check_size
from .attributes import Dataset, reason, without_warnings
from .references import Reference

IN_SEGMENT = 0.5  # of a fractional one, from which on a voxel is in it
SAME_PIXEL = 0.5  # of a pixel, within which those of a SEG are those of the image


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


@dataclass(frozen=True)
class SlicesOf:
    """The slices of an image, as far as a SEG may refer to them.

    Attributes:
        references: to each in order; none of an image that is not DICOM.
        hw: their height and width.
        orientation: of the first, ImageOrientationPatient; None where it has none.
        in_pixels: turns millimetres to the left, back and top into places (x, y, z) in the image,
            (4, 4); None where it lies on no grid.
    """

    references: Sequence[Reference]
    hw: tuple[int, int]
    orientation: NDArray[np.float64] | None
    in_pixels: NDArray[Any] | None


def segments_of(dataset: Dataset, name: str, image: SlicesOf) -> Iterator[Segment]:
    """Give the segments of a SEG, one after another, as each may be as large as its image.

    A SEG that refers to the slices of the image, and whose pixels are theirs, goes by that, any
    other by its places in the patient.

    Args:
        dataset: of the file.
        name: of the file, for messages.
        image: that it is of.

    Raises:
        FormatError: the file cannot be read or is no SEG, is too large, or says no places of its
            segments.
    """
    import highdicom  # takes a second

    try:
        with without_warnings():
            frames = int(dataset.get("NumberOfFrames", 1))
            check_size(name, frames * int(dataset.Rows) * int(dataset.Columns))
            seg = highdicom.seg.Segmentation.from_dataset(dataset, copy=False)
            geometry = seg.get_volume_geometry()
            is_of_these = _is_of_these(seg, geometry, image)
            if not is_of_these and geometry is not None:
                check_size(name, math.prod(geometry.spatial_shape))
            for number in seg.segment_numbers:
                if number:  # of a SEG that is a label map, 0 is the background
                    yield _segment(seg, int(number), image.references if is_of_these else ())
    except FormatError:
        raise
    except Exception as error:  # highdicom and pydicom raise what they like
        raise FormatError(
            f"{name} must be a readable DICOM SEG whose segments say where they lie, "
            f"got: {reason(error)}"
        ) from error


def _is_of_these(seg: Any, geometry: Any, image: SlicesOf) -> bool:
    """Say whether a SEG refers to the slices of an image, and its pixels are theirs."""
    uids = {str(uid) for *_, uid in seg.get_source_image_uids()}
    is_referred = any(each.instance_uid in uids for each in image.references)
    if not is_referred or (int(seg.Rows), int(seg.Columns)) != image.hw:
        return False
    if geometry is not None and image.in_pixels is not None:
        place = image.in_pixels @ geometry.affine[:, [2, 1, 0, 3]]
        is_turned = np.abs(place[:2, :2] - np.eye(2)).max() * max(image.hw) > SAME_PIXEL
        return not is_turned and bool(np.abs(place[:2, 3]).max() < SAME_PIXEL)
    groups = [*seg.get("SharedFunctionalGroupsSequence", [])[:1]]
    groups += seg.get("PerFrameFunctionalGroupsSequence", [])[:1]
    said = [each for group in groups for each in group.get("PlaneOrientationSequence", [])]
    if not said or image.orientation is None:
        return True
    found = np.array(said[0].ImageOrientationPatient, dtype=np.float64)
    return bool(np.abs(found - image.orientation).max() * max(image.hw) < SAME_PIXEL)


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
