"""What labels in DICOM say of patient, study and equipment: as their source does, where valid.

What is missing becomes the empty value of DICOM, what is invalid is left out, and text is in UTF-8,
so that nothing here keeps labels from being written.
"""

from __future__ import annotations

from typing import Any

from pydicom import config
from pydicom.charset import python_encoding
from pydicom.datadict import dictionary_VM, dictionary_VR
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset as PydicomDataset
from pydicom.multival import MultiValue
from pydicom.tag import Tag
from pydicom.valuerep import DA, TM

from .attributes import Attributes, Dataset

CALENDAR: dict[str, Any] = {"DA": DA, "TM": TM}  # which read what the rules of their text allow
# What a SEG or an RTSTRUCT must have, with or without a value.
REQUIRED = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
)
# What an animal must have as well.
SPECIES = ("PatientSpeciesDescription", "PatientSpeciesCodeSequence")
OF_ANIMALS = (
    "PatientBreedDescription",
    "PatientBreedCodeSequence",
    "BreedRegistrationSequence",
    "PatientSexNeutered",
    "ResponsiblePerson",
    "ResponsibleOrganization",
)
COPIED = (
    *REQUIRED,
    "IssuerOfPatientID",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
    *SPECIES,
    *OF_ANIMALS,
    "ResponsiblePersonRole",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "DeidentificationMethodCodeSequence",
    "LongitudinalTemporalInformationModified",
    "StudyDescription",
    "ClinicalTrialSponsorName",
    "ClinicalTrialProtocolID",
    "ClinicalTrialProtocolName",
    "ClinicalTrialSiteID",
    "ClinicalTrialSiteName",
    "ClinicalTrialSubjectID",
    "ClinicalTrialSubjectReadingID",
    "ClinicalTrialTimePointID",
    "ClinicalTrialTimePointDescription",
    "ClinicalTrialCoordinatingCenterName",
    "Manufacturer",
    "ManufacturerModelName",
    "SoftwareVersions",
    "DeviceSerialNumber",
    "InstitutionName",
    "StationName",
    "LossyImageCompression",
    "LossyImageCompressionRatio",
    "LossyImageCompressionMethod",
)
CHOICES = {
    "PatientSex": ("M", "F", "O"),
    "PatientIdentityRemoved": ("YES", "NO"),
    "LossyImageCompression": ("00", "01"),
}
HOW_REMOVED = ("DeidentificationMethod", "DeidentificationMethodCodeSequence")
UTF_8 = "ISO_IR 192"
UNDECODED = "\ufffd"  # what pydicom puts in place of bytes that it cannot decode


def copy_patient(source: Attributes) -> tuple[Dataset, list[str]]:
    """Return a dataset of what can be copied, and the keywords of what is invalid and left out."""
    found: Dataset = PydicomDataset()
    found.SpecificCharacterSet = UTF_8
    invalid = []
    is_decoded = _is_decoded(source)
    for keyword in COPIED:
        if source.has(keyword):
            try:
                element = _checked(keyword, source.dataset[keyword].value, is_decoded)
            except Exception:  # of a broken value, any
                invalid.append(keyword)
                continue
            if not element.is_empty:
                found.add(element)
    if not any(keyword in found for keyword in HOW_REMOVED):  # without which the other is invalid
        found.pop(Tag("PatientIdentityRemoved"), None)
    is_animal = any(keyword in found for keyword in SPECIES)
    for keyword in (*REQUIRED, *(OF_ANIMALS if is_animal else ())):
        if keyword not in found:
            setattr(found, keyword, None)
    return found, invalid


def _is_decoded(source: Attributes) -> bool:
    """Whether the file says how its text is encoded, in a way that is known."""
    names = source.lenient("SpecificCharacterSet").split("\\")
    return any(names) and all(name in python_encoding for name in names)


def _checked(keyword: str, value: Any, is_decoded: bool) -> DataElement:
    """Return an element of a valid value.

    Args:
        keyword: of the element, whose kind of value is that of the dictionary.
        value: as pydicom reads it.
        is_decoded: whether text may hold more than ASCII.

    Raises:
        Exception: the value is invalid; what, the library decides.
    """
    tag, kind = Tag(keyword), dictionary_VR(keyword)
    if kind == "SQ":
        return DataElement(tag, kind, [_checked_item(item, is_decoded) for item in value])
    values = list(value) if isinstance(value, MultiValue) else [value]
    if dictionary_VM(keyword) == "1" and len(values) > 1:
        raise ValueError("several values")
    texts = ["" if each is None else str(each) for each in values]
    if any(UNDECODED in text or not (is_decoded or text.isascii()) for text in texts):
        raise ValueError("not decoded")
    if keyword in CHOICES and texts[0] not in ("", *CHOICES[keyword]):
        raise ValueError("not defined")
    for text in filter(None, texts):
        if kind in CALENDAR:
            CALENDAR[kind](text)
    whole = texts[0] if len(texts) == 1 else texts
    return DataElement(tag, kind, whole, validation_mode=config.RAISE)


def _checked_item(item: Dataset, is_decoded: bool) -> Dataset:
    """Return an item of a sequence, whose elements are valid.

    Raises:
        Exception: one is not.
    """
    found: Dataset = PydicomDataset()
    for element in item:
        found.add(_checked(element.keyword, element.value, is_decoded))
    return found
