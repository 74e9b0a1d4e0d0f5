"""DICOM, by pydicom: a file or the folder of a series in, DICOM SEG out, by highdicom.

Slices go by their positions along the normal of their planes; rows and columns stay as they are
stored. Values are rescaled as the file says, so that those of CT are Hounsfield units.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom import pixels as untyped
from pydicom.errors import InvalidDicomError

from ..postprocess import LabelMap
from ..version import __version__
from .intensity import AS_IT_IS, PERCENTILES, IntensityWindow
from .scan import FormatError, Scan

SUFFIXES = (".dcm", ".dicom")
CT, CT_WINDOW = "CT", "soft-tissue"
INVERTED = "MONOCHROME1"  # low values are bright
SAME_DIRECTION = 1e-3  # of the cosines of orientations
EVEN_SPACING = 0.02  # of the distance of slices
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
Dataset = Any  # pydicom's, whose attributes are the file's


class DicomScan(Scan):
    """An image or a series of slices in DICOM.

    Args:
        name: of the file or folder, for messages.
        contents: of the file, or of the files of one series in any order; others among several are
            left out.
        window: of the values; None is soft tissue for CT, percentiles for other grey images, and 8
            bits as they are for colours.

    Raises:
        FormatError: files cannot be read, or are not the slices of one series.
        WindowError: the window does not fit the values.
    """

    label_suffixes = (".dcm",)

    def __init__(
        self,
        name: str,
        contents: Sequence[bytes],
        window: str | IntensityWindow | None = None,
    ) -> None:
        self._datasets = _in_order(_read(name, contents), name)
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
        super().__init__(values, window, is_volume=is_volume)

    def _to_8_bits(self, window: str | IntensityWindow) -> NDArray[np.uint8]:
        found = super()._to_8_bits(window)
        is_inverted = self._datasets[0].get("PhotometricInterpretation") == INVERTED
        return np.uint8(255) - found if is_inverted else found

    def encode(self, label_map: LabelMap, suffix: str, note: str) -> bytes:
        """Return a DICOM SEG that refers to the slices, an object a segment.

        Raises:
            FormatError: there is no object, or the source lacks what a SEG must have.
        """
        import highdicom  # takes a second, and is needed for nothing else
        from pydicom.sr.codedict import codes

        try:
            segments = [
                highdicom.seg.SegmentDescription(
                    segment_number=number,
                    segment_label=f"Object {number}",
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
                series_description=note[:64],
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
    series = {str(dataset.get("SeriesInstanceUID")) for dataset in found}
    if len(series) > 1:
        raise FormatError(f"{name} must hold one series, got {len(series)}")
    return found


def _in_order(datasets: list[Dataset], name: str) -> list[Dataset]:
    """Sort slices by their positions along their normal.

    Raises:
        FormatError: they have no position, or are no even stack of parallel planes.
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
    gaps = np.diff(along[order])
    if gaps.min() <= 0 or np.ptp(gaps) > EVEN_SPACING * gaps.mean():
        raise FormatError(
            f"Slices in {name} must lie at even distances, got {gaps.min():g} to {gaps.max():g} mm"
        )
    return [datasets[place] for place in order]


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
