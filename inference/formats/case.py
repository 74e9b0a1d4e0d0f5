"""The challenge's `.npz` as an image or volume like any other."""

from __future__ import annotations

from ..cases import CASE_SUFFIX, read_case_bytes
from ..errors import InvalidCaseError
from ..postprocess import LabelMap
from ..preprocess import without_alpha
from ..prompts import check_pixels, label_map_shape
from .intensity import AS_IT_IS, IntensityWindow
from .picture import encode_label_png
from .scan import FormatError, LabelNotes, Scan

SUFFIXES = (CASE_SUFFIX,)


class CaseScan(Scan):
    """What a case holds; its boxes say whether it is a volume.

    Args:
        name: of the file, for messages.
        content: of the file.
        window: of its values; None leaves them as they are.

    Raises:
        FormatError: the file is no case.
        WindowError: the window does not fit its values.
    """

    label_suffixes = (".png",)

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
        values = case.pixels if is_volume else without_alpha(case.pixels)
        super().__init__(values, window or AS_IT_IS, is_volume=is_volume)

    def encode(self, label_map: LabelMap, suffix: str, notes: LabelNotes) -> bytes:
        """Return the label map of an image as PNG."""
        if self.is_volume:
            raise FormatError("Labels of a volume in .npz are written as .npz")
        return encode_label_png(label_map, notes)
