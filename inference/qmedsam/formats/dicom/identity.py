"""Whose labels are: patient, study, series and frame of reference, for a SEG or an RTSTRUCT."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydicom.uid import UID, generate_uid

from ..label_notes import LabelNotes
from .attributes import Dataset
from .frames import Frame
from .patient import copy_patient

LONGEST_LABEL = 64  # characters of DICOM's LO
UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")


@dataclass(frozen=True)
class Identity:
    """Whose labels are.

    Attributes:
        dataset: of what is copied from the source, with identifiers.
        invalid: keywords of what is invalid there and left out.
        missing: keywords of identifiers that are missing or invalid, and made anew.
    """

    dataset: Dataset
    invalid: Sequence[str]
    missing: Sequence[str]


def identity_of(frames: Sequence[Frame], *, is_placed: bool) -> Identity:
    """Return whose labels of frames are; without places these need no frame of reference."""
    header = frames[0].header
    dataset, invalid = copy_patient(header.attributes)
    missing = []
    for keyword in UIDS:
        uid = header.attributes.lenient(keyword)
        if keyword == "FrameOfReferenceUID" and not is_placed:
            uid = generate_uid()  # that is not written
        elif not UID(uid).is_valid:
            missing.append(keyword)
            # The same for all that is made of a series, that they still belong together.
            uid = generate_uid(entropy_srcs=[keyword, header.series_uid or header.file.name])
        setattr(dataset, keyword, uid)
    return Identity(dataset, invalid, missing)


def label_of(notes: LabelNotes, number: int) -> str:
    """Return the name of an object as DICOM may have it."""
    named = "".join(each if each.isprintable() else " " for each in notes.name(number))
    return named.replace("\\", "/").strip()[:LONGEST_LABEL] or f"Object {number}"
