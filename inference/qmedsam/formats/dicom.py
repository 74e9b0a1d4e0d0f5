"""DICOM, a file or the folder of a series, in; DICOM SEG by highdicom, NIfTI or PNG out.

Slices go by their positions along the normal of their planes; rows and columns stay as they are
stored.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.postprocess import LabelMap
from ..version import __version__
from .dicom_datasets import (
    Dataset,
    Plane,
    one_series,
    planes_of,
    read_datasets,
    values_of,
    window_of,
)
from .intensity import AS_IT_IS, OF_FILE, PERCENTILES, IntensityWindow, Limits
from .nifti import LPS_TO_RAS, encode_nifti, new_header
from .picture import encode_label_png
from .scan import FormatError, LabelNotes, Scan
from .suffixes import NIFTI_SUFFIXES

CT, CT_WINDOW = "CT", "soft-tissue"
INVERTED = "MONOCHROME1"  # low values are bright
SAME_DIRECTION = 1e-3  # of the cosines of orientations
EVEN_SPACING = 0.02  # of the distance of slices
LONGEST_LABEL = 64  # characters of DICOM's LO


class DicomScan(Scan):
    """An image or a series of slices in DICOM.

    Args:
        name: of the file or folder, for messages.
        contents: of the file, or of the files of a series in any order; what is no DICOM among
            them is left out.
        window: of the values; None is soft tissue for CT, percentiles for other grey images, and 8
            bits as they are for colours.
        series: number or UID of the series to take; needed where there are several.

    Raises:
        SeveralSeriesError: there are several series, and none is chosen.
        FormatError: files cannot be read, or are not the slices of one series.
        WindowError: the window does not fit the values.
    """

    def __init__(
        self,
        name: str,
        contents: Sequence[bytes],
        window: str | IntensityWindow | None = None,
        series: str | None = None,
    ) -> None:
        datasets = one_series(read_datasets(name, contents), name, series)
        frames = _frames(datasets, name)
        planes = _planes(datasets, name)
        order = list(range(len(frames))) if planes is None else _order(planes, name)
        is_one_file = len(datasets) == 1
        # In the order in which a SEG refers to them: files by position, frames as stored.
        self._datasets = datasets if is_one_file else [datasets[place] for place in order]
        self._stored_order = order if is_one_file else list(range(len(frames)))
        self._planes = None if planes is None else [planes[place] for place in order]
        self._uneven = _uneven(self._planes)
        first = datasets[0]
        is_colour = frames[0].ndim == 3
        is_volume = len(frames) > 1
        values = np.stack([frames[place] for place in order]) if is_volume else frames[0]
        if window is None:
            window = CT_WINDOW if first.get("Modality") == CT else PERCENTILES
            window = AS_IT_IS if is_colour else window
        self._is_inverted = first.get("PhotometricInterpretation") == INVERTED
        remarks = (self._uneven,) if self._uneven else ()
        super().__init__(values, window, is_volume=is_volume, remarks=remarks)
        as_nifti = NIFTI_SUFFIXES if self._planes else ()
        self.label_suffixes = (".dcm", *as_nifti, *(() if is_volume else (".png",)))

    def _resolved(self, window: str | IntensityWindow) -> str | IntensityWindow:
        own = window_of(self._datasets[0]) if window == OF_FILE else None
        return super()._resolved(window) if own is None else IntensityWindow(*own)

    def _to_8_bits(self, limits: Limits | None) -> NDArray[np.uint8]:
        found = super()._to_8_bits(limits)
        if not self._is_inverted:
            return found
        found = np.uint8(255) - found
        if self._values.dtype.kind == "f":
            found[~np.isfinite(self._values)] = 0
        return found

    def encode(self, label_map: LabelMap, suffix: str, notes: LabelNotes) -> bytes:
        """Return a DICOM SEG, or of a series also NIfTI, or of an image PNG.

        Raises:
            FormatError: there is no object for a SEG, the source lacks what it must have, or
                slices are not at even distances, which NIfTI cannot say.
        """
        if suffix == ".png":
            return encode_label_png(label_map, notes)
        if suffix in NIFTI_SUFFIXES:
            slices = label_map if self.is_volume else label_map[None]
            return encode_nifti(slices.T, self._affine(), new_header(), suffix, notes)
        return self._encode_seg(label_map, notes)

    def _affine(self) -> NDArray[np.float64]:
        """Return the affine of NIfTI for voxels (column, row, slice).

        Raises:
            FormatError: NIfTI cannot say where the slices lie.
        """
        assert self._planes is not None
        first, last = self._planes[0], self._planes[-1]
        if self._uneven:
            raise FormatError(f"NIfTI has slices at even distances alone. {self._uneven}")
        if first.spacing is None:
            raise FormatError("NIfTI needs the distances of pixels, which the file does not say")
        between_rows, between_columns = first.spacing
        affine = np.eye(4)
        affine[:3, 0] = first.along_row * between_columns
        affine[:3, 1] = first.along_column * between_rows
        if len(self._planes) > 1:
            affine[:3, 2] = (last.position - first.position) / (len(self._planes) - 1)
        else:
            thickness = float(self._datasets[0].get("SliceThickness") or 1)
            affine[:3, 2] = np.cross(first.along_row, first.along_column) * thickness
        affine[:3, 3] = first.position
        return LPS_TO_RAS @ affine

    def _encode_seg(self, label_map: LabelMap, notes: LabelNotes) -> bytes:
        """Return a SEG that refers to the slices, an object a segment."""
        import highdicom  # takes a second, and is needed for nothing else
        from pydicom.sr.codedict import codes

        count = max(int(label_map.max(initial=0)), len(notes.names))
        try:
            segments = [
                highdicom.seg.SegmentDescription(
                    segment_number=number,
                    segment_label=notes.name(number).replace("\\", "/")[:LONGEST_LABEL],
                    segmented_property_category=codes.SCT.AnatomicalStructure,
                    segmented_property_type=codes.SCT.AnatomicalStructure,
                    algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.SEMIAUTOMATIC,
                    algorithm_identification=highdicom.AlgorithmIdentificationSequence(
                        name="QMedSAM Service",
                        version=__version__,
                        family=codes.DCM.ArtificialIntelligence,
                    ),
                )
                for number in range(1, count + 1)
            ]
            if not label_map.any():
                raise ValueError("nothing was found, and a SEG must have an object")
            written = highdicom.seg.Segmentation(
                source_images=self._datasets,
                pixel_array=self._as_stored(label_map),
                segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
                segment_descriptions=segments,
                series_instance_uid=highdicom.UID(),
                series_number=900,
                sop_instance_uid=highdicom.UID(),
                instance_number=1,
                manufacturer="QMedSAM",
                manufacturer_model_name="QMedSAM Service",
                software_versions=__version__,
                device_serial_number="0",
                series_description=notes.line()[:LONGEST_LABEL],
            )
            if not all(segment.segment_label.isascii() for segment in segments):
                written.decode()
                written.SpecificCharacterSet = "ISO_IR 192"
            content = io.BytesIO()
            written.save_as(content)
            return content.getvalue()
        except Exception as error:  # the source may lack anything
            raise FormatError(f"Labels cannot be written as DICOM SEG: {error}") from error

    def _as_stored(self, label_map: LabelMap) -> LabelMap:
        """Return the labels of slices in the order of `_datasets` or of the frames in it."""
        if not self.is_volume:
            return label_map[None]
        stored = np.empty_like(label_map)
        stored[self._stored_order] = label_map
        return stored


def _frames(datasets: list[Dataset], name: str) -> list[NDArray[Any]]:
    """Return the frames of files as they are stored, (H, W) or of a single one (H, W, 3).

    Raises:
        FormatError: they cannot be read, or are not alike.
    """
    try:
        found = [values_of(dataset) for dataset in datasets]
    except Exception as error:  # decoders raise what they like
        raise FormatError(f"The pixels of {name} cannot be read: {error}") from error
    is_colour = int(datasets[0].get("SamplesPerPixel", 1)) == 3 or (
        datasets[0].get("PhotometricInterpretation") == "PALETTE COLOR"
    )
    shapes = {values.shape for values in found}
    if len(shapes) > 1:
        raise FormatError(f"Slices in {name} must be of one size, got {sorted(shapes)}")
    if is_colour and (len(found) > 1 or found[0].ndim != 3):
        raise FormatError(f"{name} must have grey slices, got colours {found[0].shape}")
    if is_colour or found[0].ndim == 2:
        return found
    if len(found) > 1 or found[0].ndim != 3:
        raise FormatError(f"{name} must be one file of frames, or files of one slice each")
    return list(found[0])


def _planes(datasets: list[Dataset], name: str) -> list[Plane] | None:
    """Return where the frames lie; None of one file that does not say.

    Raises:
        FormatError: files of a series do not say.
    """
    found = [planes_of(dataset) for dataset in datasets]
    if len(datasets) == 1:
        planes = found[0]
        frames = int(datasets[0].get("NumberOfFrames") or 1)
        return planes if planes is not None and len(planes) == frames else None
    if any(planes is None for planes in found):
        raise FormatError(f"Slices in {name} must have positions and orientations")
    return [plane for planes in found for plane in planes or ()]


def _order(planes: list[Plane], name: str) -> list[int]:
    """Return the places of planes in the order of their positions along their normal.

    Raises:
        FormatError: they are no stack of parallel planes.
    """
    if len(planes) == 1:
        return [0]
    directions = np.array([[plane.along_row, plane.along_column] for plane in planes])
    if np.abs(directions - directions[0]).max() > SAME_DIRECTION:
        raise FormatError(f"Slices in {name} must be parallel")
    normal = np.cross(directions[0, 0], directions[0, 1])
    along = np.array([plane.position @ normal for plane in planes])
    order = np.argsort(along)
    if np.diff(along[order]).min() <= 0:
        raise FormatError(
            f"Slices in {name} must lie at different positions, got several at one (phases or "
            "echoes of one series: put the files of each in a folder of its own)"
        )
    return [int(place) for place in order]


def _uneven(planes: list[Plane] | None) -> str:
    """Say so, if slices in order do not lie at even distances."""
    if planes is None or len(planes) == 1:
        return ""
    positions = np.array([plane.position for plane in planes])
    gaps = np.linalg.norm(np.diff(positions, axis=0), axis=1)
    if np.ptp(gaps) <= EVEN_SPACING * gaps.mean():
        return ""
    return (
        f"Slices lie {gaps.min():g} to {gaps.max():g} mm apart: some may be missing, or be scouts."
    )
