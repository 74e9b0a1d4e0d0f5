"""What is said of the patient: copied where it is valid, empty where it is missing."""

from __future__ import annotations

import io

import pydicom
import pytest
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset

from qmedsam.formats.dicom.attributes import Attributes, without_warnings
from qmedsam.formats.dicom.patient import REQUIRED, copy_patient
from tests.qmedsam.formats.dicom.conftest import ct_slice, with_raw


def copied(dataset: Dataset, **raw: bytes) -> tuple[Dataset, list[str]]:
    """Return what is copied of a dataset, with values as they stand in a file."""
    kinds = {keyword: dictionary_VR(keyword).encode() for keyword in raw}
    content = with_raw(
        dataset, {keyword: (kinds[keyword], value) for keyword, value in raw.items()}
    )
    with without_warnings():
        return copy_patient(Attributes(pydicom.dcmread(io.BytesIO(content)), "a.dcm"))


def test_what_is_valid_is_copied():
    found, invalid = copied(ct_slice(PatientWeight="70.5", StudyDescription="Abdomen"))
    assert invalid == []
    assert (found.PatientName, found.PatientID, found.PatientSex) == ("Doe^Jane", "7", "F")
    assert (found.PatientBirthDate, found.StudyTime) == ("19700102", "050607")
    assert (found.PatientWeight, found.StudyDescription) == (70.5, "Abdomen")
    assert found.SpecificCharacterSet == "ISO_IR 192"
    assert "Rows" not in found


@pytest.mark.parametrize("keyword", REQUIRED)
def test_what_is_missing_or_empty_becomes_empty(keyword):
    for change in ({keyword: None}, {keyword: ""}):
        found, invalid = copied(ct_slice(**change))
        assert invalid == []
        assert not found[keyword].value


def test_what_is_optional_and_empty_is_left_out():
    found, invalid = copied(ct_slice(PatientAge="", LossyImageCompressionRatio=""))
    assert invalid == []
    assert "PatientAge" not in found
    assert "LossyImageCompressionRatio" not in found


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("PatientSex", b"male"),
        ("PatientSex", b"M\\F "),
        ("PatientSex", b"X "),
        ("PatientBirthDate", b"1970-01-02"),
        ("PatientBirthDate", b"19700231"),
        ("StudyDate", b"yesterday "),
        ("StudyTime", b"10:11:12"),
        ("StudyTime", b"99 "),
        ("AccessionNumber", b"longer than sixteen"),
        ("PatientID", b"x" * 65),
        ("StudyID", b"\xff\xfe"),
        ("PatientName", "Müller".encode("latin-1")),
        ("PatientWeight", b"heavy "),
        ("PatientAge", b"6Y"),
    ],
)
def test_what_is_invalid_is_left_out_and_named(keyword, value):
    found, invalid = copied(ct_slice(), **{keyword: value})
    assert invalid == [keyword]
    assert not found.get(keyword)


@pytest.mark.parametrize(
    ("charset", "value", "name"),
    [
        (b"ISO_IR 100", "Müller^Jörg".encode("latin-1"), "Müller^Jörg"),
        (b"ISO_IR 192", "Müller^Jörg".encode(), "Müller^Jörg"),
        (
            b"\\ISO 2022 IR 87",
            b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B",
            "Yamada^Tarou=山田^太郎",
        ),
        (b"", b"Doe^Jane", "Doe^Jane"),
        (b"NONSENSE", b"Doe^Jane", "Doe^Jane"),
    ],
    ids=["latin-1", "utf-8", "japanese", "empty", "unknown"],
)
def test_text_is_read_in_its_own_character_set(charset, value, name):
    found, invalid = copied(ct_slice(), PatientName=value, SpecificCharacterSet=charset)
    assert invalid == []
    assert str(found.PatientName) == name


@pytest.mark.parametrize("charset", [b"", b"NONSENSE"])
def test_letters_in_no_known_character_set_are_not_guessed(charset):
    name = "Müller".encode("latin-1")
    found, invalid = copied(ct_slice(), PatientName=name, SpecificCharacterSet=charset)
    assert invalid == ["PatientName"]
    assert not found.PatientName


def test_how_identity_was_removed_goes_with_it():
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator = "113100", "DCM"
    item.CodeMeaning = "Basic Application Confidentiality Profile"
    found, _ = copied(
        ct_slice(PatientIdentityRemoved="YES", DeidentificationMethodCodeSequence=[item])
    )
    assert found.PatientIdentityRemoved == "YES"
    assert found.DeidentificationMethodCodeSequence[0].CodeValue == "113100"
    found, _ = copied(ct_slice(PatientIdentityRemoved="YES"))
    assert "PatientIdentityRemoved" not in found  # which says nothing without the other


def test_an_animal_has_what_an_animal_must_have():
    found, _ = copied(ct_slice(PatientSpeciesDescription="Dog", PatientBreedDescription="Pug"))
    assert (found.PatientSpeciesDescription, found.PatientBreedDescription) == ("Dog", "Pug")
    assert not found.ResponsiblePerson
    assert not found.BreedRegistrationSequence
    assert "ResponsiblePerson" not in copied(ct_slice())[0]
