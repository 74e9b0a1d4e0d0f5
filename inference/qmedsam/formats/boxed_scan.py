"""An image or volume with the boxes that a user wrote for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..core.geometry import Boxes
from ..core.prompts import IMAGE_COLUMNS, Prompts, boxes_on_slices, check_prompts
from ..errors import InvalidCaseError
from .boxes import NamedBox, read_boxes, stack_boxes
from .dispatch import open_scan
from .intensity import IntensityWindow
from .label_boxes import read_label_boxes
from .label_grids import is_labels_name
from .label_notes import LabelNotes
from .npz import CaseScan
from .scan import FormatError, Scan


@dataclass(frozen=True)
class BoxedScan:
    """An image or volume with boxes in the file's own coordinates.

    Attributes:
        path: of the file, for messages.
        scan: the image or volume.
        boxes: as they were written; they need not fit it.
        notes: to be written with a label map of them.
        remarks: what a user should know of where the boxes are from, a sentence each.
    """

    path: Path
    scan: Scan
    boxes: tuple[NamedBox, ...]
    notes: LabelNotes
    remarks: tuple[str, ...] = ()

    def own_boxes(self) -> Boxes:
        """Return the boxes of an image (N, 4) or a volume (N, 6) in the file's own coordinates.

        Raises:
            FormatError: there are none, they have another number of coordinates, or are not on the
                only slice of a volume.
        """
        self._check_boxes()
        return np.concatenate([self._own_box(box) for box in self.boxes])

    def prompts(self, own: Boxes) -> Prompts:
        """Check boxes in the file's own coordinates, by which notes name them.

        Raises:
            InvalidCaseError: they are no boxes of it.
        """
        try:
            return check_prompts(
                self.scan.pixels,
                self.scan.boxes_to_pixels(own),
                written=own,
                plane_axes=self.scan.plane_axes,
            )
        except InvalidCaseError as error:
            raise InvalidCaseError(f"{self.path}: {error}") from error

    def own_boxes_followed(
        self, start: int | None, slices: tuple[int, int] | None
    ) -> tuple[Boxes, list[int]]:
        """Return what was boxed on one slice as boxes of a volume.

        Args:
            start: the slice of the boxes.
            slices: the first and the last to which they are followed.

        Returns:
            The boxes (N, 6), and the slice of each in `pixels`.

        Raises:
            FormatError: there are no boxes, it is no volume, or the boxes or slices do not fit it.
        """
        self._check_boxes()
        if start is None or slices is None or not self.scan.is_volume:
            raise FormatError("--slice Z and --slices FIRST,LAST go together, with a volume")
        rows = stack_boxes(self.boxes, IMAGE_COLUMNS, "with --slice")
        whole = boxes_on_slices(rows, start, slices).astype(np.float32)
        on_slice = boxes_on_slices(rows, start, (start, start)).astype(np.float32)
        starts = self.scan.boxes_to_pixels(on_slice)[:, [2, 5]]
        if (starts[:, 0] != starts[:, 1]).any():
            raise FormatError(
                "The file's third axis does not run through its slices as they are cut: give boxes "
                "of six coordinates, or another --plane"
            )
        depth = len(self.scan.pixels)
        if slices[1] >= depth:
            raise FormatError(f"--slices must be from 0 to {depth - 1}, got {slices[1]}")
        return whole, [int(each) for each in starts[:, 0]]

    def _own_box(self, box: NamedBox) -> Boxes:
        """Return a box (1, 4) of an image or (1, 6) of a volume in the file's own coordinates.

        Raises:
            FormatError: it has another number of coordinates, or is not on the only slice.
        """
        columns, written = self.scan.box_columns, len(box.corners)
        wanted = written if written in columns else columns[0]
        row = stack_boxes([box], wanted, f"for {self.path}")
        try:
            return self.scan.as_pixels_have(row)
        except FormatError as error:
            raise FormatError(f"{self.path}: {error}") from error

    def _check_boxes(self) -> None:
        """Check that there is something to segment.

        Raises:
            FormatError: there is not.
        """
        if not self.boxes:
            raise FormatError(f"{self.path}: There must be a box; give --box or --boxes")


def open_boxed_scan(
    path: Path,
    boxes: Sequence[NamedBox],
    *,
    boxes_file: Path | None,
    window: str | IntensityWindow | None,
    series: str | None,
    plane: str,
    volume: int | None,
    straighten: bool,
) -> BoxedScan:
    """Read an image or volume, and its boxes.

    Args:
        path: of the file, or of the folder of a DICOM series.
        boxes: that come first; without any and without a file, a case has its own.
        boxes_file: has the others, in words or around labels; None has none.
        window: as of `read_scan`.
        series: as of `open_scan`.
        plane: as of `read_scan`.
        volume: as of `read_scan`.
        straighten: as of `open_scan`.

    Raises:
        FormatError: a file cannot be read.
        WindowError: the window does not fit its values.
    """
    scan = open_scan(path, window, series, plane=plane, volume=volume, straighten=straighten)
    found = [*boxes]
    remarks: list[str] = []
    if boxes_file is not None:
        if is_labels_name(boxes_file):
            of_labels, remarks = read_label_boxes(boxes_file, scan)
            found += of_labels
        else:
            found += read_boxes(boxes_file)
    elif not boxes and isinstance(scan, CaseScan):
        found = scan.named_boxes()
    notes = scan.notes_of([box.name for box in found])
    return BoxedScan(path, scan, tuple(found), notes, tuple(remarks))
