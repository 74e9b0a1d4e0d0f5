"""Values of attributes, read within one net."""

from __future__ import annotations

import pytest
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from qmedsam.formats.dicom.attributes import Attributes, reason
from qmedsam.formats.scan import FormatError


def raw(keyword: str, kind: str, value: bytes) -> Attributes:
    """Return a dataset with an element as it stands in a file."""
    dataset = Dataset()
    tag = Tag(keyword)
    dataset[tag] = RawDataElement(tag, kind, len(value), value, 0, False, True)
    return Attributes(dataset, "a.dcm")


def test_numbers_are_read():
    attributes = raw("PixelSpacing", "DS", b"0.7\\0.5 ")
    assert attributes.numbers("PixelSpacing", 2) == (0.7, 0.5)
    assert attributes.first_number("PixelSpacing") == 0.7
    assert attributes.text("PixelSpacing") == "0.7\\0.5"
    assert raw("Rows", "US", b"\x05\x00").count("Rows", 1) == 5


def test_what_is_missing_and_what_is_empty_have_no_value():
    missing, empty = Attributes(Dataset(), "a.dcm"), raw("RescaleSlope", "DS", b"")
    assert not missing.has("RescaleSlope")
    assert empty.has("RescaleSlope")
    for attributes in (missing, empty):
        assert attributes.number("RescaleSlope") is None
        assert attributes.first_number("RescaleSlope") is None
        assert attributes.text("RescaleSlope") == ""
        assert attributes.items("RescaleSlope") == []
        assert attributes.count("RescaleSlope", 4) == 4


@pytest.mark.parametrize(
    ("keyword", "kind", "value", "message"),
    [
        ("RescaleSlope", "DS", b"abc", "RescaleSlope must be a number, got abc"),
        ("RescaleSlope", "DS", b"1\\2", r"RescaleSlope must be a number, got 1\\2"),
        ("RescaleSlope", "DS", b"nan", "RescaleSlope must be a number, got nan"),
        ("RescaleSlope", "DS", b"1e999", "RescaleSlope must be a number, got 1e999"),
        ("RescaleSlope", "LO", b"one", "RescaleSlope must be a number, got one"),
        ("RescaleSlope", "ZZ", b"1 ", "RescaleSlope must be readable, got: .*ZZ"),
        ("RescaleSlope", "SQ", b"1 ", "RescaleSlope must be"),
        ("RescaleSlope", "FD", b"12345", "RescaleSlope must be readable"),
    ],
)
def test_what_is_no_number_is_named_with_its_file(keyword, kind, value, message):
    with pytest.raises(FormatError, match=f"a.dcm: {message}"):
        raw(keyword, kind, value).number(keyword)


@pytest.mark.parametrize("value", [b"0", b"-1", b"1.5"])
def test_a_count_is_a_whole_number_above_0(value):
    with pytest.raises(FormatError, match="NumberOfFrames must be a whole number above 0, got"):
        raw("NumberOfFrames", "DS", value).count("NumberOfFrames", 1)


def test_text_that_cannot_be_read_is_none_where_it_does_not_matter():
    attributes = raw("SeriesNumber", "IS", b"abc")
    with pytest.raises(FormatError, match="SeriesNumber"):
        attributes.text("SeriesNumber")
    assert attributes.lenient("SeriesNumber") == attributes.shown("SeriesNumber") == ""


def test_what_is_shown_steers_no_terminal():
    assert raw("SeriesDescription", "LO", b"a\x1b[2Jb").shown("SeriesDescription").isprintable()


def test_a_sequence_has_items():
    dataset, item = Dataset(), Dataset()
    item.Rows = 3
    dataset.SharedFunctionalGroupsSequence = [item]
    (found,) = Attributes(dataset, "a.dcm").items("SharedFunctionalGroupsSequence")
    assert (found.name, found.count("Rows", 1)) == ("a.dcm", 3)
    with pytest.raises(FormatError, match=r"a\.dcm: PatientID must be a sequence, got 7"):
        raw("PatientID", "LO", b"7").items("PatientID")


def test_a_reason_is_one_line():
    assert reason(ValueError("one\n  two\t3")) == "one two 3"
    assert reason(ValueError()) == "ValueError"
    assert len(reason(ValueError("x" * 999))) == 200
