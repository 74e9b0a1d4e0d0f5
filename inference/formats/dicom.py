"""DICOM, by pydicom: a file or the folder of a series in, DICOM SEG or NIfTI out.

Slices go by their positions along the normal of their planes; rows and columns stay as they are
stored. Values are rescaled as the file says, so that those of CT are Hounsfield units.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import pydicom
from nibabel import nifti1 as typed_in_part
from numpy.typing import NDArray
from pydicom import pixels as untyped
from pydicom.errors import InvalidDicomError

from ..postprocess import LabelMap
from ..version import __version__
from .intensity import AS_IT_IS, PERCENTILES, IntensityWindow
from .nifti import SUFFIXES as NIFTI_SUFFIXES
from .nifti import encode_nifti
from .picture import encode_label_png
from .scan import FormatError, LabelNotes, Scan

SUFFIXES = (".dcm", ".dicom")
CT, CT_WINDOW = "CT", "soft-tissue"
INVERTED = "MONOCHROME1"  # low values are bright
SAME_DIRECTION = 1e-3  # of the cosines of orientations
EVEN_SPACING = 0.02  # of the distance of slices
LONGEST_LABEL = 64  # characters of DICOM's LO
LPS_TO_RAS = np.diag([-1.0, -1, 1, 1])  # DICOM's x and y run against those of NIfTI
MOST_SERIES = 8  # in a message
# What pydicom and highdicom raise on files that are broken or lack an attribute.
READ_ERRORS = (
    OSError,
    EOFError,
    ValueError,
    TypeError,
    AttributeError,
    KeyError,
    RuntimeError,
    NotImplementedError,
)
pixels: Any = untyped
nifti1: Any = typed_in_part
Dataset = Any  # pydicom's, whose attributes are the file's


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
        self._datasets = _in_order(_one_series(_read(name, contents), name, series), name)
        self._uneven = _uneven(self._datasets)
        try:
            frames = [_values(dataset) for dataset in self._datasets]
        except READ_ERRORS as error:
            raise FormatError(f"The pixels of {name} cannot be read: {error}") from error
        is_colour = frames[0].ndim == 3 and frames[0].shape[-1] == 3
        if len(frames) == 1 and not (frames[0].ndim == 2 or is_colour):
            if frames[0].ndim != 3:
                raise FormatError(f"{name} must have grey frames, got {frames[0].shape}")
            frames = list(frames[0])  # of one file
        if len(frames) > 1 and frames[0].ndim != 2:
            raise FormatError(f"{name} must have grey slices, got {frames[0].shape}")
        is_volume = len(frames) > 1
        values = np.stack(frames) if is_volume else frames[0]
        if window is None:
            window = CT_WINDOW if self._datasets[0].get("Modality") == CT else PERCENTILES
            window = AS_IT_IS if values.dtype == np.uint8 and is_colour else window
        remarks = (self._uneven,) if self._uneven else ()
        super().__init__(values, window, is_volume=is_volume, remarks=remarks)
        is_stack = len(self._datasets) > 1
        self.label_suffixes = (
            ".dcm",
            *(NIFTI_SUFFIXES if is_stack else ()),
            *(() if is_volume else (".png",)),
        )

    def _to_8_bits(self, window: str | IntensityWindow) -> NDArray[np.uint8]:
        found = super()._to_8_bits(window)
        is_inverted = self._datasets[0].get("PhotometricInterpretation") == INVERTED
        return np.uint8(255) - found if is_inverted else found

    def encode(self, label_map: LabelMap, suffix: str, notes: LabelNotes) -> bytes:
        """Return a DICOM SEG, or of a series also NIfTI, or of an image PNG.

        Raises:
            FormatError: there is no object for a SEG, the source lacks what it must have, or
                slices are not at even distances, which NIfTI cannot say.
        """
        if suffix == ".png":
            return encode_label_png(label_map, notes)
        if suffix in NIFTI_SUFFIXES:
            header: Any = nifti1.Nifti1Header()
            header.set_xyzt_units("mm")
            return encode_nifti(label_map.T, self._affine(), header, suffix, notes)
        return self._encode_seg(label_map, notes)

    def _affine(self) -> NDArray[np.float64]:
        """Return the affine of NIfTI for voxels (column, row, slice)."""
        if self._uneven:
            raise FormatError(f"NIfTI has slices at even distances alone. {self._uneven}")
        first, last = self._datasets[0], self._datasets[-1]
        try:
            along_row, along_column = np.reshape(first.ImageOrientationPatient, (2, 3))
            between_rows, between_columns = (float(value) for value in first.PixelSpacing)
        except READ_ERRORS as error:
            raise FormatError(f"NIfTI needs the distances of pixels: {error}") from error
        start = np.array(first.ImagePositionPatient, dtype=np.float64)
        end = np.array(last.ImagePositionPatient, dtype=np.float64)
        affine = np.eye(4)
        affine[:3, 0] = along_row * between_columns
        affine[:3, 1] = along_column * between_rows
        affine[:3, 2] = (end - start) / (len(self._datasets) - 1)
        affine[:3, 3] = start
        return LPS_TO_RAS @ affine

    def _encode_seg(self, label_map: LabelMap, notes: LabelNotes) -> bytes:
        """Return a SEG that refers to the slices, an object a segment."""
        import highdicom  # takes a second, and is needed for nothing else
        from pydicom.sr.codedict import codes

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
                for number in range(1, int(label_map.max(initial=0)) + 1)
            ]
            if not segments:
                raise ValueError("it has no object, and a SEG must have one")
            written = highdicom.seg.Segmentation(
                source_images=self._datasets,
                pixel_array=label_map if self.is_volume else label_map[None],
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
            content = io.BytesIO()
            written.save_as(content)
            return content.getvalue()
        except READ_ERRORS as error:
            raise FormatError(f"Labels cannot be written as DICOM SEG: {error}") from error


def _read(name: str, contents: Sequence[bytes]) -> list[Dataset]:
    found, problem = [], "no pixels"
    for content in contents:
        try:
            dataset = pydicom.dcmread(io.BytesIO(content))
            if "PixelData" in dataset:
                found.append(dataset)
        except (InvalidDicomError, *READ_ERRORS) as error:
            problem = str(error)  # notes and the like lie beside slices
    if not found:
        raise FormatError(f"{name} must be readable DICOM with pixels, got: {problem}")
    return found


def _one_series(datasets: list[Dataset], name: str, series: str | None) -> list[Dataset]:
    """Return the files of a series; None is the only one.

    Raises:
        FormatError: there are several, or none of that number or UID.
    """
    by_uid: dict[str, list[Dataset]] = {}
    for dataset in datasets:
        by_uid.setdefault(str(dataset.get("SeriesInstanceUID")), []).append(dataset)
    chosen = [
        files
        for uid, files in by_uid.items()
        if series is None or series in (uid, str(files[0].get("SeriesNumber")))
    ]
    if len(chosen) != 1:
        named = [
            f"{files[0].get('SeriesNumber')} ({files[0].get('SeriesDescription', '')}, "
            f"{len(files)} files, UID {uid})"
            for uid, files in by_uid.items()
        ]
        more = ", ..." if len(named) > MOST_SERIES else ""
        wanted = "one series; choose with --series" if series is None else f"one series {series}"
        raise FormatError(
            f"{name} must hold {wanted}, got {len(chosen)} of: "
            f"{', '.join(named[:MOST_SERIES])}{more}"
        )
    return chosen[0]


def _in_order(datasets: list[Dataset], name: str) -> list[Dataset]:
    """Sort slices by their positions along their normal.

    Raises:
        FormatError: they have no position, or are no stack of parallel planes.
    """
    if len(datasets) == 1:
        return datasets
    try:
        orientations = _numbers(datasets, "ImageOrientationPatient", 6)
        positions = _numbers(datasets, "ImagePositionPatient", 3)
        sizes = {(d.Rows, d.Columns) for d in datasets}
    except (AttributeError, TypeError, ValueError) as error:
        raise FormatError(f"Slices in {name} must have positions: {error}") from error
    if len(sizes) > 1 or np.abs(orientations - orientations[0]).max() > SAME_DIRECTION:
        raise FormatError(f"Slices in {name} must be parallel and of one size, got {sizes}")
    normal = np.cross(orientations[0, :3], orientations[0, 3:])
    along = positions @ normal
    order = np.argsort(along)
    if np.diff(along[order]).min() <= 0:
        raise FormatError(
            f"Slices in {name} must lie at different positions, got several at one (phases or "
            "echoes of one series: put the files of each in a folder of its own)"
        )
    return [datasets[place] for place in order]


def _uneven(datasets: list[Dataset]) -> str:
    """Say so, if slices in order do not lie at even distances."""
    if len(datasets) == 1:
        return ""
    positions = _numbers(datasets, "ImagePositionPatient", 3)
    gaps = np.linalg.norm(np.diff(positions, axis=0), axis=1)
    if np.ptp(gaps) <= EVEN_SPACING * gaps.mean():
        return ""
    return (
        f"Slices lie {gaps.min():g} to {gaps.max():g} mm apart: some may be missing, or be scouts."
    )


def _numbers(datasets: list[Dataset], attribute: str, count: int) -> NDArray[np.float64]:
    rows = [getattr(dataset, attribute) for dataset in datasets]
    return np.array(rows, dtype=np.float64).reshape(len(rows), count)


def _values(dataset: Dataset) -> NDArray[Any]:
    """Return the values of a file: colours as RGB of 8 bits, grey ones rescaled."""
    values = pixels.pixel_array(dataset)
    has_palette = dataset.get("PhotometricInterpretation") == "PALETTE COLOR"
    if has_palette:
        values = pixels.apply_color_lut(values, dataset)
    elif dataset.get("SamplesPerPixel", 1) == 1:
        return np.asarray(pixels.apply_modality_lut(values, dataset))
    if values.dtype != np.uint8:
        bits = 8 * values.dtype.itemsize if has_palette else int(dataset.BitsStored)
        values = (values >> max(0, bits - 8)).astype(np.uint8)
    return np.asarray(values)
