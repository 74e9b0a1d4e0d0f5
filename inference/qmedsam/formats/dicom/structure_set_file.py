"""An RTSTRUCT that is there already: its regions of interest, and masks of them on an image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..scan import FormatError, Scan
from .attributes import Attributes
from .contours import Polygon, fill

CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
FLAT = 0.5  # of the way from slice to slice, by which the points of a contour may differ
SAME_PLANE = 0.05  # of that way, within which contours lie in one plane


@dataclass(frozen=True)
class Structure:
    """A region of interest.

    Attributes:
        number: of it.
        name: of it.
        contours: of it, each (N, 3), millimetres to the patient's left, back and top.
    """

    number: int
    name: str
    contours: Sequence[NDArray[np.float64]]


def structures_of(attributes: Attributes, remarks: list[str]) -> list[Structure]:
    """Read the regions of interest of an RTSTRUCT.

    Args:
        attributes: of the file.
        remarks: to which is added what is left out, a sentence each.

    Raises:
        FormatError: what the file says cannot be read.
    """
    names = {
        _number_of(region, "ROINumber"): region.lenient("ROIName")
        for region in attributes.items("StructureSetROISequence")
    }
    by_number: dict[int, list[NDArray[np.float64]]] = {number: [] for number in names}
    left_out = set()
    for region in attributes.items("ROIContourSequence"):
        number = _number_of(region, "ReferencedROINumber")
        contours = by_number.setdefault(number, [])
        for contour in region.items("ContourSequence"):
            kind = contour.text("ContourGeometricType")
            if kind in CLOSED:
                contours.append(_points_of(contour))
            else:
                left_out.add(kind or "none")
    if left_out:
        remarks.append(f"Contours that are not closed are left out: {', '.join(sorted(left_out))}.")
    return [
        Structure(number, names.get(number) or f"Region {number}", contours)
        for number, contours in sorted(by_number.items())
    ]


def draw_structures(
    name: str, structures: Sequence[Structure], scan: Scan, remarks: list[str]
) -> Iterator[tuple[Structure, NDArray[np.bool_]]]:
    """Give the mask (D, H, W) of each region on the slices of an image.

    A pixel is in it if its centre is inside an odd number of the contours of one plane, so that a
    contour in another one is a hole. Contours between slices go to the nearest; of several planes
    at one slice the nearest counts.

    Args:
        name: of the file, for messages.
        structures: of `structures_of`.
        scan: the image.
        remarks: to which is added what is left out, a sentence each.

    Raises:
        FormatError: the image does not say where it lies, or contours do not lie in its slices.
    """
    depth = len(scan.pixels) if scan.is_volume else 1
    hw: tuple[int, int] = (scan.label_shape[-2], scan.label_shape[-1])
    beside = between = 0
    for structure in structures:
        planes: dict[int, list[tuple[float, Polygon]]] = {}
        for contour in structure.contours:
            places = scan.pixels_of(contour)
            if np.ptp(places[:, 2]) > FLAT:
                raise FormatError(
                    f"{name} must have contours in the slices of the image, got others "
                    f"in {structure.name}"
                )
            z = float(places[:, 2].mean())
            if not -FLAT <= z <= depth - 1 + FLAT:
                beside += 1
                continue
            nearest = min(max(int(np.rint(z)), 0), depth - 1)
            between += abs(z - nearest) > SAME_PLANE
            planes.setdefault(nearest, []).append((abs(z - nearest), places[:, :2]))
        mask = np.zeros((depth, *hw), dtype=np.bool_)
        for z_slice, found in planes.items():
            closest = min(distance for distance, _ in found)
            mask[z_slice] = fill(
                [polygon for distance, polygon in found if distance <= closest + SAME_PLANE], hw
            )
        yield structure, mask
    if beside:
        remarks.append(f"{beside} contours lie above or below the image and are left out.")
    if between:
        remarks.append(f"{between} contours lie between slices and go to the nearest one.")


def _points_of(contour: Attributes) -> NDArray[np.float64]:
    """Return the points of a contour, (N, 3).

    Raises:
        FormatError: they are none.
    """
    count = len(contour.values("ContourData"))
    if count == 0 or count % 3:
        raise contour.wrong("ContourData", "three numbers for each point")
    return np.array(contour.numbers("ContourData", count)).reshape(-1, 3)


def _number_of(region: Attributes, keyword: str) -> int:
    """Return the number of a region; 0 where it has none.

    Raises:
        FormatError: it is none.
    """
    found = region.number(keyword)
    if found is not None and found != int(found):
        raise region.wrong(keyword, "a whole number")
    return int(found or 0)
