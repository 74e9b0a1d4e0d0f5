"""What a picture file holds, decoded: values as they are stored, and how the picture is turned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

UPRIGHT = 1  # of Exif and TIFF, which number eight orientations
TURNS = {
    2: "mirrors it from left to right",
    3: "turns it by 180 degrees",
    4: "mirrors it from top to bottom",
    5: "exchanges its rows and columns",
    6: "turns it by 90 degrees to the right",
    7: "exchanges its rows and columns from the other corner",
    8: "turns it by 90 degrees to the left",
}


@dataclass(frozen=True)
class Raster:
    """A decoded picture.

    Attributes:
        values: as stored, (H, W) or (H, W, 3), any number type.
        orientation: 1 to 8, as Exif numbers them; any other number is 1.
        remarks: what a user should know, a sentence each.
    """

    values: NDArray[Any]
    orientation: int = UPRIGHT
    remarks: tuple[str, ...] = ()

    def upright(self) -> NDArray[Any]:
        """Return the values as viewers show them."""
        values = self.values
        if self.orientation in (5, 6, 7, 8):
            values = values.swapaxes(0, 1)
        if self.orientation in (3, 4, 7, 8):
            values = values[::-1]
        if self.orientation in (2, 3, 6, 7):
            values = values[:, ::-1]
        return np.ascontiguousarray(values)

    def all_remarks(self) -> tuple[str, ...]:
        """Return the remarks, and what the orientation does."""
        if self.orientation not in TURNS:
            return self.remarks
        height, width = self.upright().shape[:2]
        turn = TURNS[self.orientation]
        shown = f"The file's orientation {turn}: boxes and labels are of the picture as viewers "
        return (*self.remarks, f"{shown}show it, {width} x {height} pixels.")
