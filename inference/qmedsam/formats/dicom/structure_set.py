"""RTSTRUCT, in which radiotherapy keeps objects: closed contours on slices."""

from __future__ import annotations

import io
from collections.abc import Sequence
from datetime import datetime

import numpy as np
from pydicom.dataset import Dataset as PydicomDataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ImplicitVRLittleEndian, RTStructureSetStorage, generate_uid

from ...batch.overlay import object_color
from ...core.postprocess import LabelMap
from ...version import __version__
from ..label_notes import LabelNotes
from ..scan import FormatError
from .attributes import Dataset, reason, without_warnings
from .contours import outlines_of
from .frames import Frame
from .geometry import is_placed
from .identity import LONGEST_LABEL, identity_of, label_of
from .references import find_problem, item_of, reference_to

STUDY_CLASS = "1.2.840.10008.3.1.2.3.1"  # of a study, retired, and asked for all the same
DIGITS = 9  # of a coordinate, in the 16 characters that DICOM has for a number


class StructureSetSource:
    """The frames that an RTSTRUCT is of.

    Args:
        frames: of a volume in order, or of an image.

    Attributes:
        problem: why there can be no RTSTRUCT, a sentence; empty if there can.
    """

    def __init__(self, frames: Sequence[Frame]) -> None:
        self._frames = frames
        self._identity = identity_of(frames, is_placed=True)
        self.problem = find_problem(frames, "an RTSTRUCT")
        if not is_placed(frames):
            self.problem = (
                "An RTSTRUCT has contours in the patient, and needs the places of slices and "
                "pixels, which the files do not say"
            )

    def encode(self, label_map: LabelMap, notes: LabelNotes) -> bytes:
        """Return an RTSTRUCT, a region of interest for each object that has pixels or a name.

        Args:
            label_map: (D, H, W), slices in the order of the frames.
            notes: to go with it.

        Raises:
            FormatError: there is no object, or there can be no RTSTRUCT.
        """
        if self.problem or not (label_map.any() or notes.names):
            problem = self.problem or "Nothing was found, and an RTSTRUCT must have an object"
            raise FormatError(problem)
        try:
            with without_warnings():
                written = self._written(label_map, notes)
                content = io.BytesIO()
                written.save_as(content, enforce_file_format=True)
        except Exception as error:  # pydicom raises what it likes
            raise FormatError(
                f"{self._frames[0].header.file.name} must be such that labels of it can be an "
                f"RTSTRUCT, got: {reason(error)}"
            ) from error
        return content.getvalue()

    def _written(self, label_map: LabelMap, notes: LabelNotes) -> Dataset:
        found = self._head(notes)
        contours = self._contours(label_map)
        labels = sorted({*contours, *range(1, len(notes.names) + 1)})
        found.StructureSetROISequence = [
            _item(
                ROINumber=label,
                ReferencedFrameOfReferenceUID=found.FrameOfReferenceUID,
                ROIName=label_of(notes, label),
                ROIGenerationAlgorithm="SEMIAUTOMATIC",
            )
            for label in labels
        ]
        found.ROIContourSequence = [
            _item(ROIDisplayColor=list(object_color(label - 1)), ReferencedROINumber=label)
            for label in labels
        ]
        for label, region in zip(labels, found.ROIContourSequence, strict=True):
            if label in contours:  # a sequence without items is not allowed here
                region.ContourSequence = contours[label]
        found.RTROIObservationsSequence = [
            _item(
                ObservationNumber=label,
                ReferencedROINumber=label,
                RTROIInterpretedType=None,
                ROIInterpreter=None,
            )
            for label in labels
        ]
        return found

    def _head(self, notes: LabelNotes) -> Dataset:
        """Return what is said of patient, study, series and slices."""
        now = datetime.now().astimezone()
        found: Dataset = PydicomDataset()
        found.update(self._identity.dataset)
        found.SOPClassUID, found.SOPInstanceUID = RTStructureSetStorage, generate_uid()
        found.Modality, found.SeriesNumber, found.InstanceNumber = "RTSTRUCT", 901, 1
        source_series = str(found.SeriesInstanceUID)
        found.SeriesInstanceUID = generate_uid()
        found.SeriesDescription = notes.line()[:LONGEST_LABEL]
        found.OperatorsName = found.PositionReferenceIndicator = None
        found.Manufacturer, found.ManufacturerModelName = "QMedSAM", "QMedSAM Service"
        found.SoftwareVersions = __version__
        found.StructureSetLabel, found.ApprovalStatus = "QMedSAM", "UNAPPROVED"
        found.StructureSetDate = now.strftime("%Y%m%d")
        found.StructureSetTime = now.strftime("%H%M%S")
        found.ReferencedFrameOfReferenceSequence = [self._referenced(found, source_series)]
        # With lengths in 32 bits, for a contour of many points.
        found.file_meta = FileMetaDataset()
        found.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        found.file_meta.MediaStorageSOPClassUID = found.SOPClassUID
        found.file_meta.MediaStorageSOPInstanceUID = found.SOPInstanceUID
        return found

    def _referenced(self, found: Dataset, series_uid: str) -> Dataset:
        """Return what says which slices contours are on."""
        images = [item_of(reference_to(frame)) for frame in self._frames]
        series = _item(SeriesInstanceUID=series_uid, ContourImageSequence=images)
        study = _item(
            ReferencedSOPClassUID=STUDY_CLASS,
            ReferencedSOPInstanceUID=found.StudyInstanceUID,
            RTReferencedSeriesSequence=[series],
        )
        return _item(
            FrameOfReferenceUID=found.FrameOfReferenceUID, RTReferencedStudySequence=[study]
        )

    def _contours(self, label_map: LabelMap) -> dict[int, list[Dataset]]:
        """Return the contours of each label that has some, slice by slice."""
        found: dict[int, list[Dataset]] = {}
        for frame, labels in zip(self._frames, label_map, strict=True):
            for label in np.unique(labels[labels > 0]):
                contours = found.setdefault(int(label), [])
                for outline in outlines_of(labels == label):
                    places = frame.in_patient(outline)
                    contours.append(
                        _item(
                            ContourImageSequence=[item_of(reference_to(frame))],
                            ContourGeometricType="CLOSED_PLANAR",
                            NumberOfContourPoints=len(places),
                            ContourNumber=len(contours) + 1,
                            ContourData=[f"{value:.{DIGITS}g}" for value in places.reshape(-1)],
                        )
                    )
        return found


def _item(**values: object) -> Dataset:
    found: Dataset = PydicomDataset()
    for keyword, value in values.items():
        setattr(found, keyword, value)
    return found
