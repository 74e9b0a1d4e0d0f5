"""Whatever an attribute holds that is used: an image, or one sentence that names the file."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.datadict import dictionary_VR
from pydicom.tag import Tag
from pydicom.uid import EnhancedCTImageStorage
from pydicom.valuerep import VR

from qmedsam.errors import InferenceError
from qmedsam.formats.dicom.attributes import Attributes
from qmedsam.formats.dicom.patient import COPIED
from qmedsam.formats.dicom.scan import DicomScan
from qmedsam.formats.dicom.sources import SourceFile
from qmedsam.formats.dicom.traits import TRAITS
from qmedsam.formats.scan import SeveralSeriesError, SeveralVolumesError
from tests.qmedsam.formats.dicom.conftest import ct_slice, raw_element, raw_item, with_raw

USED = (
    "SpecificCharacterSet",
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "FrameOfReferenceUID",
    "SeriesNumber",
    "SeriesDescription",
    "Modality",
    "InstanceNumber",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "SliceThickness",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "SamplesPerPixel",
    "PlanarConfiguration",
    "PhotometricInterpretation",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "RescaleSlope",
    "RescaleIntercept",
    "RescaleType",
    "ModalityLUTSequence",
    "WindowCenter",
    "WindowWidth",
    "PixelData",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    "MediaStorageSOPClassUID",
    "MediaStorageSOPInstanceUID",
    *COPIED,
    *TRAITS,
)
IN_DATASET = sorted({each for each in USED if not each.startswith("MediaStorage")})
KINDS = [each.encode() for each in sorted(VR) if len(each) == 2] + [b"ZZ", b"\xff\xff"]
ODD_VALUES = [
    *(b"", b"abc", b"0", b"-1", b"1\\2", b"nan", b"inf", b"1e400", b"1e-320", b"9" * 40, b"\\\\"),
    *(
        b"0\\0",
        b"0\\0\\0",
        b"1\\1\\1\\1\\1\\1",
        b"1e300\\1e300\\1e300",
        b"\0",
        b"\xff" * 8,
        b"\x1b$B",
    ),
    *(b"\xfe\xff\x00\xe0\xff\xff\xff\xff", b"\xfe\xff\x00\xe0\x00\x00\x00\x00"),
]

# highdicom warns of what pydicom plans.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def slices(keyword: str, kind: bytes, value: bytes, number: int) -> list[SourceFile]:
    """Return three slices, of which one has another value."""
    found = []
    for each in range(3):
        dataset = ct_slice(each, WindowCenter=40, WindowWidth=80)
        raw = {keyword: (kind, value)} if each == number else {}
        content = with_raw(dataset, raw)
        found.append(SourceFile(f"ct/IM{each}", lambda content=content: io.BytesIO(content)))
    return found


def read_and_write(files: list[SourceFile], window: str | None) -> None:
    """Read a series and write labels of it in all formats that are offered, or be refused."""
    series, volume = None, None
    for _ in range(3):
        try:
            scan = DicomScan("ct", files, window, series=series, volume=volume)
            label_map = np.zeros(scan.label_shape, np.uint8)
            label_map[..., 0, 0] = 1
            for suffix in scan.label_suffixes:
                assert scan.encode(label_map, suffix, scan.notes_of(["a"]))
            return
        except SeveralSeriesError as error:
            series = error.choices[0][0]
        except SeveralVolumesError as error:
            volume = error.choices[0][0]
        except InferenceError as error:
            text = str(error)
            assert "ct" in text or window == "file"
            assert "\n" not in text
            return


@given(
    keyword=st.sampled_from(IN_DATASET),
    kind=st.one_of(st.just(None), st.sampled_from(KINDS)),
    value=st.one_of(st.sampled_from(ODD_VALUES), st.binary(max_size=16)),
    number=st.integers(0, 2),
    window=st.sampled_from([None, "file"]),
)
@settings(max_examples=80, deadline=None)
def test_no_value_of_any_kind_is_more_than_one_sentence(keyword, kind, value, number, window):
    kind = kind or str(dictionary_VR(keyword))[:2].encode()
    read_and_write(slices(keyword, kind, value, number), window)


# Of a file of two frames, by the sequence of the functional groups that has them.
NESTED = {
    "ImagePositionPatient": ("PlanePositionSequence", b"DS", b"1\\2\\3 "),
    "ImageOrientationPatient": ("PlaneOrientationSequence", b"DS", b"1\\0\\0\\0\\1\\0 "),
    "PixelSpacing": ("PixelMeasuresSequence", b"DS", b"0.7\\0.5 "),
    "RescaleSlope": ("PixelValueTransformationSequence", b"DS", b"1 "),
    "RescaleIntercept": ("PixelValueTransformationSequence", b"DS", b"0 "),
    "RescaleType": ("PixelValueTransformationSequence", b"LO", b"HU"),
    "WindowCenter": ("FrameVOILUTSequence", b"DS", b"40"),
    "WindowWidth": ("FrameVOILUTSequence", b"DS", b"80"),
    "StackID": ("FrameContentSequence", b"SH", b"1 "),
    "EffectiveEchoTime": ("MREchoSequence", b"FD", bytes(8)),
    "DiffusionBValue": ("MRDiffusionSequence", b"FD", bytes(8)),
}


def two_frames(
    keyword: str = "", sequence_kind: bytes = b"SQ", kind: bytes | None = None, value: bytes = b""
) -> list[SourceFile]:
    """Return an enhanced file of two frames, the second of which has another value."""

    def group(number: int) -> bytes:
        by_sequence: dict[str, list[bytes]] = {}
        for each, (sequence, own_kind, own_value) in sorted(NESTED.items(), key=by_tag):
            if each == keyword and number == 1:
                own_kind, own_value = kind or own_kind, value
            elif each == "ImagePositionPatient":
                own_value = b"1\\2\\%d " % number
            by_sequence.setdefault(sequence, []).append(raw_element(each, own_kind, own_value))
        return raw_item(
            *(
                raw_element(sequence, sequence_kind if number else b"SQ", raw_item(*elements))
                for sequence, elements in sorted(by_sequence.items(), key=by_tag)
            )
        )

    dataset = ct_slice(NumberOfFrames=2, PixelData=bytes(320), SOPClassUID=EnhancedCTImageStorage)
    for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
        delattr(dataset, name)
    groups = {"PerFrameFunctionalGroupsSequence": (b"SQ", group(0) + group(1))}
    content = with_raw(dataset, groups)
    return [SourceFile("ct/IM0", lambda: io.BytesIO(content))]


def test_such_a_file_is_a_volume_where_nothing_is_broken():
    scan = DicomScan("ct", two_frames())
    assert (scan.pixels.shape, scan.window, scan.remarks) == ((2, 8, 10), "soft-tissue", ())


@given(
    keyword=st.sampled_from(sorted(NESTED)),
    sequence_kind=st.sampled_from([b"SQ", b"SQ", b"UN", b"LO"]),
    kind=st.one_of(st.just(None), st.sampled_from(KINDS)),
    value=st.one_of(st.sampled_from(ODD_VALUES), st.binary(max_size=16)),
)
@settings(max_examples=80, deadline=None)
def test_no_value_of_a_frame_is_more_than_one_sentence(keyword, sequence_kind, kind, value):
    for window in (None, "file"):
        read_and_write(two_frames(keyword, sequence_kind, kind, value), window)


def by_tag(item: tuple[str, object]) -> int:
    return int(Tag(item[0]))


@pytest.mark.slow
@pytest.mark.parametrize("keyword", IN_DATASET)
def test_no_odd_value_of_its_own_kind_is_more_than_one_sentence(keyword):
    for value in ODD_VALUES:
        kind = str(dictionary_VR(keyword))[:2].encode()
        read_and_write(slices(keyword, kind, value, 1), "file")


@given(content=st.binary(max_size=400), at=st.integers(0, 1200))
@settings(max_examples=40, deadline=None)
def test_bytes_that_are_overwritten_are_more_than_no_sentence(content, at):
    files = slices("PatientID", b"LO", b"7", 1)
    with files[1].open() as stream:
        whole = bytearray(stream.read())
    whole[at : at + len(content)] = content
    files[1] = SourceFile("ct/IM1", lambda: io.BytesIO(bytes(whole)))
    read_and_write(files, None)


def test_the_attributes_that_are_used_are_those_that_are_tried(monkeypatch):
    """What is read of a good series and image is on the list above."""
    asked = set()
    values = Attributes.values

    def watched(self: Attributes, keyword: str) -> list[object]:
        asked.add(keyword)
        return values(self, keyword)

    monkeypatch.setattr(Attributes, "values", watched)
    files = slices("SeriesDescription", b"LO", b"x", 0)
    read_and_write(files, "file")
    read_and_write([*files, SourceFile("ct/IM9", files[0].open)], None)
    read_and_write(files[:1], None)
    assert asked <= set(USED)
