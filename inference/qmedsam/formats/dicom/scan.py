"""A DICOM file, or the series in a folder or archive, as an image or volume like any other.

Slices go by their positions along the normal of their planes; rows and columns stay as they are
stored.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...core.postprocess import LabelMap
from ..intensity import (
    AS_IT_IS,
    CT_WINDOWS,
    OF_FILE,
    PERCENTILES,
    IntensityWindow,
    Limits,
    is_measured,
)
from ..label_notes import LabelNotes
from ..nifti import encode_nifti, new_header
from ..picture import encode_label_png
from ..scan import FormatError, Scan, check_size
from ..suffixes import NIFTI_SUFFIXES, RTSTRUCT, SEG_SUFFIX
from ..volume import LPS_TO_RAS
from .attributes import without_warnings
from .frames import Frame, check_memory, frames_of
from .geometry import Grid, grid_of, is_placed, straight_shape, straighten
from .headers import drop_duplicates, read_headers
from .private import with_open_seal
from .references import reference_to
from .segmentation import SegmentationSource
from .segmentation_file import SlicesOf
from .series import choose_series
from .sources import SourceFile
from .structure_set import StructureSetSource
from .values import CT, is_hounsfield, is_inverted, missing_rescale, values_of, window_of
from .volumes import Volume, choose_volume, volumes_of

CT_WINDOW = "soft-tissue"
MOSAIC = "MOSAIC"  # among the values of ImageType, of Siemens


class DicomScan(Scan):
    """An image or volume of a DICOM series.

    Args:
        name: of the file or folder, for messages.
        files: of the series, in any order, and of others; what is no DICOM among them is left out.
        window: of the values; None is soft tissue for CT in Hounsfield units, percentiles for other
            grey images, and 8 bits as they are for colours.
        series: number or UID of the series to take; needed where there are several.
        volume: number of the volume or image in it, from 1; needed where there are several.
        straighten: put labels of slices under a tilted gantry on a straight grid in NIfTI.
        remarks: what a user should know of the files, a sentence each, before all others.

    Raises:
        SeveralSeriesError: there are several series, and none is chosen.
        SeveralVolumesError: there are several volumes, and none is chosen.
        FormatError: files cannot be read.
        WindowError: the window does not fit the values.
    """

    def __init__(
        self,
        name: str,
        files: Sequence[SourceFile],
        window: str | IntensityWindow | None = None,
        *,
        series: str | None = None,
        volume: int | None = None,
        straighten: bool = False,
        remarks: Sequence[str] = (),
    ) -> None:
        with without_warnings():
            chosen, of_files = _choose(name, files, series, volume)
            self._frames = chosen.frames
            check_memory(self._frames, name)
            values = values_of(self._frames)
            self._is_inverted = [is_inverted(frame) for frame in self._frames]
            of_values = _remarks_of_values(self._frames, window)
            is_ct = all(is_hounsfield(frame) for frame in self._frames)
            self._seg = SegmentationSource(self._frames)
        self._grid = grid_of(self._frames)
        self._is_checked = False
        self._straighten = straighten
        is_volume = len(self._frames) > 1
        if window is None:
            window = CT_WINDOW if is_ct else PERCENTILES
            window = AS_IT_IS if self._frames[0].is_colour else window
        of_places = _remarks_of_places(self._grid, straighten)
        super().__init__(
            np.stack(values) if is_volume else values[0],
            window,
            is_volume=is_volume,
            remarks=(
                *remarks,
                *of_files,
                *_remarks_of_mosaics(self._frames),
                *of_places,
                *of_values,
                *self._seg.remarks,
            ),
        )
        suffixes = (SEG_SUFFIX, *NIFTI_SUFFIXES, *(() if is_volume else (".png",)))
        self.refusals = dict.fromkeys(NIFTI_SUFFIXES, self._nifti_problem()) | {
            SEG_SUFFIX: self._seg.problem
        }
        self.label_suffixes = tuple(each for each in suffixes if not self.refusals.get(each))

    @cached_property
    def _structures(self) -> StructureSetSource:
        with without_warnings():
            return StructureSetSource(self._frames)

    @property
    def affine(self) -> NDArray[np.float64] | None:
        """Turns columns, rows and slices into millimetres to the left, back and top, (4, 4)."""
        return None if self._grid is None or self._grid.problem else self._grid.affine

    @property
    def spacing(self) -> tuple[float, ...] | None:
        """Millimetres from a pixel to the next along columns, rows and slices; None if unknown."""
        rows_columns = self._frames[0].spacing
        if self.is_volume or rows_columns is None:
            return super().spacing
        return rows_columns[::-1]  # which an image says that does not say where it lies

    def pixels_of(self, places: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return where places in the patient lie in `pixels`; see `Scan.pixels_of`.

        Of slices that lie on no grid, each counts where it is.
        """
        if self.affine is not None or not is_placed(self._frames):
            return super().pixels_of(places)
        normal = self._frames[0].plane.normal if self._frames[0].plane else np.zeros(3)
        levels = np.array([each.plane.along_normal for each in self._frames if each.plane])
        slices = _place_among(places @ normal, levels)
        nearest = np.clip(np.rint(slices), 0, len(levels) - 1).astype(int)
        found = np.column_stack([np.zeros((len(places), 2)), slices])
        for index in np.unique(nearest):
            of_slice = nearest == index
            found[of_slice, :2] = self._frames[index].pixels_of(places[of_slice])
        return found

    @property
    def is_placed(self) -> bool:
        """Whether each slice says where it lies, be it on a grid or not."""
        return is_placed(self._frames)

    @property
    def slices(self) -> SlicesOf:
        """Its slices, as far as a SEG may refer to them."""
        plane = self._frames[0].plane
        return SlicesOf(
            [reference_to(frame) for frame in self._frames],
            self._frames[0].hw,
            None if plane is None else np.concatenate([plane.along_row, plane.along_column]),
            None if self.affine is None else np.linalg.inv(self.affine),
        )

    @property
    def frame_of_reference(self) -> str:
        """Identifier of the coordinates of the patient; empty where there is none."""
        return self._frames[0].header.attributes.lenient("FrameOfReferenceUID")

    def check(self, suffix: str) -> None:
        """Check that labels can be written; a DICOM SEG is tried, a straight grid measured.

        Raises:
            FormatError: they cannot.
        """
        if suffix == RTSTRUCT:
            if self._structures.problem:
                raise FormatError(self._structures.problem)
            return
        super().check(suffix)
        if suffix == SEG_SUFFIX and not self._is_checked:
            self._seg.check()
            self._is_checked = True
        if suffix in NIFTI_SUFFIXES and self._straighten and self._grid is not None:
            shape = (len(self._frames), *self._frames[0].hw)
            count = math.prod(straight_shape(shape, self._grid))
            check_size("Labels on a straight grid", count)

    def encode(self, label_map: LabelMap, suffix: str, notes: LabelNotes) -> bytes:
        """Return a DICOM SEG or RTSTRUCT, or NIfTI of what says where it lies, or an image's PNG.

        Raises:
            FormatError: there is no object for a SEG, or the file cannot be written.
        """
        if suffix == ".png":
            return encode_label_png(label_map, notes)
        slices = label_map if self.is_volume else label_map[None]
        if suffix == SEG_SUFFIX:
            return _with_room(self._seg.encode(slices, notes), notes)
        if suffix == RTSTRUCT:
            return _with_room(self._structures.encode(slices, notes), notes)
        grid = self._grid
        if grid is None:
            raise FormatError(self._nifti_problem())
        if self._straighten:
            slices, grid = straighten(slices, grid)
        affine = LPS_TO_RAS @ grid.affine
        return encode_nifti(
            slices.T, affine, header=new_header(slices.shape), suffix=suffix, notes=notes
        )

    def _resolved(self, window: str | IntensityWindow) -> str | IntensityWindow:
        own = window_of(self._frames[0]) if window == OF_FILE else None
        return super()._resolved(window) if own is None else IntensityWindow(*own)

    def _to_8_bits(self, limits: Limits | None) -> NDArray[np.uint8]:
        found = super()._to_8_bits(limits)
        by_frame = zip(*self._by_frame(found), self._is_inverted, strict=True)
        for shown, values, has_low_bright in by_frame:
            if has_low_bright:
                shown[...] = np.where(is_measured(values), np.uint8(255) - shown, 0)
        return found

    def _by_frame(self, found: NDArray[np.uint8]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return pixels and values with an axis of frames."""
        shape = (len(self._frames), *self._values.shape[self.is_volume :])
        return found.reshape(shape), self._values.reshape(shape)

    def _nifti_problem(self) -> str:
        """Say why labels cannot be NIfTI; nothing if they can."""
        if self._grid is None:
            return "NIfTI needs the places of slices and pixels, which the files do not say"
        if self._grid.problem:
            return f"NIfTI has slices at even distances in a line. {self._grid.problem}"
        return ""


def _with_room(content: bytes, notes: LabelNotes) -> bytes:
    return with_open_seal(content) if notes.has_seal else content


def _place_among(values: NDArray[np.float64], levels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return which of rising levels values are at, with parts between; beyond them they go on."""
    lower = np.clip(np.searchsorted(levels, values) - 1, 0, len(levels) - 2)
    found: NDArray[np.float64] = lower + (values - levels[lower]) / np.diff(levels)[lower]
    return found


def _choose(
    name: str, files: Sequence[SourceFile], series: str | None, number: int | None
) -> tuple[Volume, list[str]]:
    """Return the volume that is taken, and what a user should know of the files.

    Raises:
        SeveralSeriesError: there are several series, and none is chosen.
        SeveralVolumesError: there are several volumes, and none is chosen.
        FormatError: files cannot be read.
    """
    headers, doubled = drop_duplicates(choose_series(read_headers(files), name, series))
    frames, left_out = frames_of(headers)
    return choose_volume(volumes_of(frames), name, number, left_out), doubled + left_out


def _remarks_of_mosaics(frames: Sequence[Frame]) -> list[str]:
    """Say where a picture holds all slices of a volume."""
    for frame in frames:
        if MOSAIC in frame.header.attributes.lenient("ImageType").split("\\"):
            return [
                f"{frame.name} is a mosaic, the slices of a volume as tiles of one picture: it is "
                "seen as that picture, of which boxes and labels are, and its place in the patient "
                "is not that of the slices."
            ]
    return []


def _remarks_of_places(grid: Grid | None, is_straightened: bool) -> list[str]:
    """Say what there is to know of where the slices lie."""
    if grid is None:
        return []
    if grid.problem:
        return [grid.problem]
    if not grid.is_sheared:
        return []
    tilted = f"The slices are tilted by {grid.tilt_degrees():.1f} degrees against their stack"
    if is_straightened:
        return [f"{tilted}: labels in NIfTI are shifted onto a straight grid."]
    return [
        f"{tilted}, as under a tilted gantry: NIfTI of it is sheared, which ITK does not read; "
        "--straighten puts the labels on a straight grid."
    ]


def _remarks_of_values(frames: Sequence[Frame], window: str | IntensityWindow | None) -> list[str]:
    """Say what there is to know of how values are to be read.

    Raises:
        FormatError: what files say of it cannot be read.
    """
    remarks = []
    for frame in frames:
        keyword = missing_rescale(frame)
        if keyword:
            remarks.append(f"{frame.name} has no {keyword}: its values are taken as stored.")
            break
    first = frames[0].header.attributes
    odd = next((frame for frame in frames if not is_hounsfield(frame)), None)
    if odd is not None and not odd.is_colour and first.lenient("Modality") == CT:
        asked = isinstance(window, str) and window in CT_WINDOWS
        seen = f"{window} is a window of these" if asked else "percentiles are the default"
        remarks.append(f"{odd.name} does not say that its values are Hounsfield units; {seen}.")
    differing = next((each for each in frames if is_inverted(each) != is_inverted(frames[0])), None)
    if differing is not None:
        remarks.append(
            f"{differing.name} has low values bright or dark where other slices have it the other "
            "way round: each is seen as its own file says."
        )
    return remarks
