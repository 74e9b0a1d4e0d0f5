"""DICOM SEG by highdicom: a segment an object, with references to the frames it was found on.

highdicom copies what it needs from its source images, and fails where one lacks it. So each frame
has a stand-in, an image with the frame's place and nothing that is not needed and valid; afterwards
references to stand-ins become those to the files and their frames. Frames that do not say where
they lie get places for that time alone.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset as PydicomDataset
from pydicom.uid import SecondaryCaptureImageStorage, generate_uid
from pydicom.valuerep import DSfloat

from ...core.postprocess import LabelMap
from ...version import __version__
from ..label_notes import LabelNotes
from ..scan import FormatError
from .attributes import Dataset, reason, without_warnings
from .frames import Frame
from .geometry import UNKNOWN_THICKNESS_MM, is_placed, thickness_of
from .identity import LONGEST_LABEL, identity_of, label_of
from .references import Reference, find_problem, item_of, reference_to

UNPLACED_ROWS = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
OF_PLACES = ("FrameOfReferenceUID", "PositionReferenceIndicator", "DimensionOrganizationType")
SHARED_OF_PLACES = ("PlaneOrientationSequence", "PixelMeasuresSequence")


class SegmentationSource:
    """The frames that a SEG is of.

    Args:
        frames: of a volume in order, or of an image.

    Attributes:
        problem: why there can be no SEG, a sentence; empty if there can.
        remarks: what is left out or made up, a sentence each.
    """

    def __init__(self, frames: Sequence[Frame]) -> None:
        self._frames = frames
        self._references = [reference_to(frame) for frame in frames]
        self._name = frames[0].header.file.name
        self._is_placed = is_placed(frames)
        identity = identity_of(frames, is_placed=self._is_placed)
        self._patient = identity.dataset
        thickness = thickness_of(frames) if self._is_placed else None
        self._thickness = UNKNOWN_THICKNESS_MM if thickness is None else thickness
        self.problem = find_problem(frames, "a DICOM SEG")
        unknown = ["SliceThickness"] if self._is_placed and thickness is None else []
        self.remarks = tuple(
            f"{self._name} has {text}: {', '.join(keywords)}."
            for text, keywords in (
                ("values that are invalid and left out of labels in DICOM", identity.invalid),
                (
                    "no valid identifiers, and new ones are made for labels in DICOM",
                    identity.missing,
                ),
                (
                    f"no thickness, and {UNKNOWN_THICKNESS_MM:g} mm is written in a DICOM SEG",
                    unknown,
                ),
            )
            if keywords
        )

    def check(self) -> None:
        """Check that a SEG can be written, by writing one, before anything is found.

        Raises:
            FormatError: it cannot.
        """
        label_map = np.zeros((len(self._frames), *self._frames[0].hw), dtype=np.uint8)
        label_map[0, 0, 0] = 1
        self.encode(label_map, LabelNotes("", ("",)))

    def encode(self, label_map: LabelMap, notes: LabelNotes) -> bytes:
        """Return a SEG, a segment for each object that has a label or a name.

        Args:
            label_map: (D, H, W), slices in the order of the frames.
            notes: to go with it.

        Raises:
            FormatError: there is no object, or the SEG cannot be written.
        """
        count = max(int(label_map.max(initial=0)), len(notes.names))
        if self.problem or not count:
            problem = self.problem or "Nothing was found, and a DICOM SEG must have an object"
            raise FormatError(problem)
        try:
            with without_warnings():
                written = self._written(label_map, count, notes)
                content = io.BytesIO()
                written.save_as(content)
        except Exception as error:  # highdicom and pydicom raise what they like
            raise FormatError(
                f"{self._name} must be such that labels of it can be a DICOM SEG, "
                f"got: {reason(error)}"
            ) from error
        return content.getvalue()

    def _written(self, label_map: LabelMap, count: int, notes: LabelNotes) -> Dataset:
        """Return a SEG of so many segments."""
        import highdicom  # takes a second, and is needed for a SEG alone
        from pydicom.sr.codedict import codes

        segments = [
            highdicom.seg.SegmentDescription(
                segment_number=number,
                segment_label=label_of(notes, number),
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
        # Of an empty label map highdicom writes all frames; one stands for them.
        kept = len(label_map) if label_map.any() else 1
        written: Dataset = highdicom.seg.Segmentation(
            source_images=[self._stand_in(place) for place in range(kept)],
            pixel_array=label_map[:kept],
            segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
            segment_descriptions=segments,
            series_instance_uid=generate_uid(),
            series_number=900,
            sop_instance_uid=generate_uid(),
            instance_number=1,
            manufacturer="QMedSAM",
            manufacturer_model_name="QMedSAM Service",
            software_versions=__version__,
            device_serial_number="0",
            content_label="SEGMENTATION",
            series_description=notes.line()[:LONGEST_LABEL],
        )
        self._refer(written)
        if not self._is_placed:
            _unplace(written)
        elif len(self._frames) == 1:  # which has no other at the distance that highdicom says
            del (
                written.SharedFunctionalGroupsSequence[0]
                .PixelMeasuresSequence[0]
                .SpacingBetweenSlices
            )
        return written

    def _stand_in(self, place: int) -> Dataset:
        """Return an image that highdicom takes for a frame."""
        frame, first = self._frames[place], self._frames[0]
        found: Dataset = PydicomDataset()
        found.update(self._patient)
        found.SOPClassUID = SecondaryCaptureImageStorage
        found.SOPInstanceUID = _stand_in_uid(place)
        found.Rows, found.Columns = frame.hw
        position: Sequence[float] = (0.0, 0.0, -float(place))  # highdicom begins at the top
        rows: Sequence[float] = UNPLACED_ROWS
        spacing = 1.0, 1.0
        if self._is_placed and frame.plane and first.plane and first.spacing:
            position = frame.plane.position.tolist()
            rows = [*first.plane.along_row.tolist(), *first.plane.along_column.tolist()]
            spacing = first.spacing
        found.ImagePositionPatient = _decimals(position)
        found.ImageOrientationPatient = _decimals(rows)
        found.PixelSpacing = _decimals(spacing)
        (found.SliceThickness,) = _decimals([self._thickness])
        return found

    def _refer(self, written: Dataset) -> None:
        """Make references to stand-ins those to the files, and their frames."""
        by_uid = {
            _stand_in_uid(place): reference for place, reference in enumerate(self._references)
        }
        instances = dict.fromkeys(
            Reference(each.class_uid, each.instance_uid, None) for each in self._references
        )
        written.SourceImageSequence = [item_of(each) for each in instances]
        for series in written.ReferencedSeriesSequence:
            series.ReferencedInstanceSequence = [item_of(each) for each in instances]
        items = {  # segments on one frame share an item
            id(item): item
            for group in written.PerFrameFunctionalGroupsSequence
            for derivation in group.DerivationImageSequence
            for item in derivation.SourceImageSequence
        }
        for item in items.values():
            item.update(item_of(by_uid[item.ReferencedSOPInstanceUID]))


def _unplace(written: Dataset) -> None:
    """Take the places of stand-ins out of a SEG; its frames are told apart by labels instead."""
    written.PatientOrientation = None
    for keyword in OF_PLACES:
        written.pop(tag_for_keyword(keyword), None)
    for keyword in SHARED_OF_PLACES:
        written.SharedFunctionalGroupsSequence[0].pop(tag_for_keyword(keyword), None)
    for group in written.PerFrameFunctionalGroupsSequence:
        del group.PlanePositionSequence
        content = group.FrameContentSequence[0]
        content.FrameLabel = str(content.DimensionIndexValues[-1])
    by_frame = written.DimensionIndexSequence[-1]
    by_frame.DimensionIndexPointer = tag_for_keyword("FrameLabel")
    by_frame.FunctionalGroupPointer = tag_for_keyword("FrameContentSequence")
    by_frame.DimensionDescriptionLabel = "Frame Label"


def _decimals(values: Sequence[float]) -> list[DSfloat]:
    """Return numbers as DICOM writes them, in 16 characters at most."""
    return [DSfloat(value, auto_format=True) for value in values]


def _stand_in_uid(place: int) -> str:
    return f"2.25.{place + 1}"
