"""An RTSTRUCT that is there already: its regions of interest, and masks of them on an image.

A region has contours in planes. A pixel is in it if its centre is inside an odd number of the
contours of one plane, so that a contour in another one is a hole. A plane counts for the slice that
is nearest; where several would, the closest does.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..scan import MOST_LABEL, FormatError, Scan
from .attributes import Attributes
from .contours import Polygon, fill

CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
FLAT = 0.5  # of the way from slice to slice, by which the points of a contour may differ
SAME_PLANE = 0.05  # of that way, within which contours lie in one plane, and that in a slice
DIGITS = 6  # of a place among slices, beyond which there is rounding


@dataclass(frozen=True)
class Structure:
    """A region of interest.

    Attributes:
        label: of it, its number where all numbers can be labels.
        name: of it.
        contours: of it, each (N, 3), millimetres to the patient's left, back and top.
    """

    label: int
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
    numbers = sorted(by_number)
    labels = numbers
    if numbers and not 1 <= numbers[0] <= numbers[-1] <= MOST_LABEL:
        labels = list(range(1, len(numbers) + 1))
        remarks.append(f"Labels count regions, as their numbers are not all 1 to {MOST_LABEL}.")
    return [
        Structure(label, names.get(number) or f"Region {number}", by_number[number])
        for label, number in zip(labels, numbers, strict=True)
    ]


def draw_structures(
    name: str, structures: Sequence[Structure], scan: Scan, remarks: list[str]
) -> Iterator[tuple[Structure, NDArray[np.bool_]]]:
    """Give the mask (D, H, W) of each region on the slices of an image.

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
        closest: dict[int, _Plane] = {}
        for plane in _planes_of(name, structure, scan):
            nearest = math.floor(plane.z + FLAT)
            if not 0 <= nearest < depth or (depth == 1 and abs(plane.z) == FLAT):
                beside += len(plane.polygons)
                continue
            between += len(plane.polygons) * (abs(plane.z - nearest) > SAME_PLANE)
            found = closest.get(nearest)
            if found is None or abs(plane.z - nearest) < abs(found.z - nearest):
                closest[nearest] = plane
        mask = np.zeros((depth, *hw), dtype=np.bool_)
        for nearest, plane in closest.items():
            mask[nearest] = fill(plane.polygons, hw)
        yield structure, mask
    if beside:
        remarks.append(f"{beside} contours lie above or below the image and are left out.")
    if between:
        remarks.append(
            f"{between} contours lie between slices; for a slice the plane that is closest counts."
        )


@dataclass(frozen=True)
class _Plane:
    """The contours of a region in one plane.

    Attributes:
        z: place among the slices of the image.
        polygons: in pixels of a slice.
    """

    z: float
    polygons: list[Polygon]


def _planes_of(name: str, structure: Structure, scan: Scan) -> list[_Plane]:
    """Return the contours of a region by planes, from the lowest to the highest.

    Raises:
        FormatError: the points of a contour do not lie in the slices of the image.
    """
    contours = []
    for contour in structure.contours:
        places = scan.pixels_of(contour)
        if np.ptp(places[:, 2]) > FLAT:
            raise FormatError(
                f"{name} must have contours in the slices of the image, got others in "
                f"{structure.name}"
            )
        contours.append((round(float(places[:, 2].mean()), DIGITS), places[:, :2]))
    found: list[_Plane] = []
    for z, polygon in sorted(contours, key=lambda each: each[0]):
        if not found or z - found[-1].z > SAME_PLANE:
            found.append(_Plane(z, []))
        found[-1].polygons.append(polygon)
    return found


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
