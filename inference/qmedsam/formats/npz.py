"""The challenge's `.npz` as an image or volume like any other."""

from __future__ import annotations

import numpy as np

from ..batch.cases import read_case_bytes
from ..batch.png import encode_png
from ..core.postprocess import LabelMap
from ..core.preprocess import as_rgb, without_alpha
from ..core.prompts import check_pixels, label_map_shape
from ..errors import InvalidCaseError
from .boxes import NamedBox
from .intensity import AS_IT_IS, IntensityWindow
from .label_notes import LabelNotes
from .nifti import encode_nifti, new_header
from .picture import encode_label_png
from .scan import FormatError, Scan
from .suffixes import NIFTI_SUFFIXES
from .volume import LPS_TO_RAS


class CaseScan(Scan):
    """What a case holds; its boxes say whether it is a volume.

    Attributes:
        boxes: of the case, as they are in it.
        notes: of the case, with the names of its objects; None where it has none.

    Args:
        name: of the file, for messages.
        content: of the file.
        window: of its values; None leaves them as they are.

    Raises:
        FormatError: the file is no case.
        WindowError: the window does not fit its values.
    """

    def __init__(
        self, name: str, content: bytes, window: str | IntensityWindow | None = None
    ) -> None:
        try:
            case = read_case_bytes(content)
            check_pixels(case.pixels)
        except InvalidCaseError as error:
            raise FormatError(f"{name}: {error}") from error
        columns = case.boxes.shape[1] if case.boxes.ndim == 2 else None
        shape = case.pixels.shape
        is_volume = len(shape) == 3 and label_map_shape(shape, columns) == shape
        self.boxes = case.boxes
        self.notes = None if case.info is None else LabelNotes.from_json(str(case.info))
        values = case.pixels if is_volume else without_alpha(case.pixels)
        window = AS_IT_IS if window is None else window
        super().__init__(values, window, is_volume=is_volume)
        self.label_suffixes = () if is_volume else (".png",)

    def set_window(self, window: str | IntensityWindow) -> None:
        """Make the pixels anew; those that stay as they are have the window of the case."""
        super().set_window(window)
        if window == AS_IT_IS and self.notes is not None:
            self.described_window = self.notes.window

    def named_boxes(self) -> list[NamedBox]:
        """Return the boxes of the case, by the names of its objects if it has them.

        Raises:
            FormatError: they are no numbers.
        """
        if self.boxes.dtype.kind not in "iuf":
            raise FormatError(f"Boxes must be integers or floats, got {self.boxes.dtype}")
        names = dict(enumerate(self.notes.names if self.notes else ()))
        rows = np.atleast_2d(self.boxes).tolist() if self.boxes.size else []
        return [NamedBox(tuple(row), names.get(index, "")) for index, row in enumerate(rows)]

    def encode(self, label_map: LabelMap, suffix: str, notes: LabelNotes) -> bytes:
        """Return the label map of an image as PNG."""
        return encode_label_png(label_map, notes)

    def encode_pixels(self, name: str) -> bytes:
        """Return an image as PNG, or a volume as NIfTI, by the name of the file.

        The challenge's volumes are axial slices from front to back, the patient's right first; what
        a voxel measures they do not say, so that it is 1 mm here.

        Raises:
            FormatError: the name ends in another way.
        """
        suffixes = NIFTI_SUFFIXES if self.is_volume else (".png",)
        suffix = next((each for each in suffixes[::-1] if name.lower().endswith(each)), None)
        if suffix is None:
            raise FormatError(f"{name} must end in {', '.join(suffixes)} for this case")
        if not self.is_volume:
            return encode_png(as_rgb(self.pixels))
        header = new_header(self.pixels.shape)
        return encode_nifti(self.pixels.T, LPS_TO_RAS, header=header, suffix=suffix)
