"""What a DICOM SEG or RTSTRUCT refers to: files by their identifiers, and frames in them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset as PydicomDataset
from pydicom.uid import UID

from .attributes import Attributes, Dataset
from .frames import Frame


@dataclass(frozen=True)
class Reference:
    """What labels refer to.

    Attributes:
        class_uid: kind of the file.
        instance_uid: of the file.
        frame: in it, from 1; None in a file of one image.
    """

    class_uid: str
    instance_uid: str
    frame: int | None


def reference_to(frame: Frame) -> Reference:
    """Return what refers to a frame, valid or not."""
    attributes = frame.header.attributes
    media = Attributes(attributes.dataset.file_meta, attributes.name)
    is_of_frames = frame.count > 1 or bool(frame.groups)
    return Reference(
        attributes.lenient("SOPClassUID") or media.lenient("MediaStorageSOPClassUID"),
        attributes.lenient("SOPInstanceUID") or media.lenient("MediaStorageSOPInstanceUID"),
        frame.index + 1 if is_of_frames else None,
    )


def item_of(reference: Reference) -> Dataset:
    """Return an item of a sequence of references."""
    found: Dataset = PydicomDataset()
    found.ReferencedSOPClassUID = reference.class_uid
    found.ReferencedSOPInstanceUID = reference.instance_uid
    if reference.frame is not None:
        found.ReferencedFrameNumber = reference.frame
    return found


def find_problem(frames: Sequence[Frame], kind: str) -> str:
    """Say why frames cannot be referred to; nothing if they can.

    Args:
        frames: of the image.
        kind: what is to refer to them, in words.
    """
    references = [reference_to(frame) for frame in frames]
    counts = Counter(references)
    for frame, reference in zip(frames, references, strict=True):
        name = frame.header.file.name
        uids = {"SOPClassUID": reference.class_uid, "SOPInstanceUID": reference.instance_uid}
        for keyword, uid in uids.items():
            if not UID(uid).is_valid:
                return f"{name} must have a valid {keyword} for {kind}, which refers to it"
        if counts[reference] > 1:
            return (
                f"{name} must have a SOPInstanceUID of its own for {kind}, which refers to it, "
                "and shares one with another slice"
            )
    return ""
