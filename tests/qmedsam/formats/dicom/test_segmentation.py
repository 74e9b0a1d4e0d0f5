"""DICOM SEG of series, images, frames and clips, whatever their files lack."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import highdicom
import numpy as np
import pytest
from pydicom.datadict import dictionary_VR
from pydicom.uid import SecondaryCaptureImageStorage, UltrasoundMultiFrameImageStorage

from qmedsam.cli import main
from qmedsam.formats.dispatch import open_scan
from qmedsam.formats.label_notes import LabelNotes
from qmedsam.formats.scan import FormatError
from qmedsam.formats.writing import check_labels_name, encode_labels
from tests.qmedsam.formats.dicom.conftest import HW, ct_slice, save, with_raw, write_series

VALIDATOR = shutil.which("dciodvfy")
OPTIONAL = (
    "PatientName",
    "PatientID",
    "PatientSex",
    "PatientBirthDate",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
    "SliceThickness",
    "Manufacturer",
    "SeriesNumber",
    "InstanceNumber",
    "FrameOfReferenceUID",
    "StudyInstanceUID",
    "Modality",
)
# highdicom warns of what pydicom plans.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def labels(scan, names=("a", "b")):
    """Return labels of two objects, on one row each and not on the first slice, and their SEG."""
    label_map = np.zeros(scan.label_shape, np.uint8)
    label_map[..., -1, 2:4] = 1
    label_map[..., 0, 5] = 2
    if scan.is_volume:
        label_map[0] = 0
    scan.check(".dcm")
    return label_map, encode_labels(scan, label_map, name="a.dcm", notes=scan.notes_of(names))


def checked(content: bytes, folder: Path):
    """Return a SEG as highdicom reads it, without errors for dciodvfy where that is installed."""
    path = folder / "labels.dcm"
    path.write_bytes(content)
    if VALIDATOR:
        done = subprocess.run([VALIDATOR, path], capture_output=True, text=True, check=False)
        found = [line for line in done.stderr.splitlines() if line.startswith("Error")]
        assert not found
    return highdicom.seg.segread(path)


@pytest.mark.parametrize("keyword", OPTIONAL)
@pytest.mark.parametrize("value", [None, ""], ids=["absent", "empty"])
def test_a_seg_needs_nothing_that_does_not_concern_it(tmp_path, keyword, value):
    def change(number, dataset):
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)

    scan = open_scan(write_series(tmp_path / "ct", 3, change))
    label_map, content = labels(scan)
    written = checked(content, tmp_path)
    assert written.NumberOfFrames == 4
    found = written.get_pixels_by_source_instance(
        [f"1.2.3.4.5.{number}" for number in (1, 2, 3)],
        combine_segments=True,
        assert_missing_frames_are_empty=True,
    )
    np.testing.assert_array_equal(found, label_map)


@pytest.mark.parametrize(
    ("attributes", "left_out"),
    [
        ({"PatientSex": "male"}, "PatientSex"),
        ({"PatientBirthDate": "1970-01-02"}, "PatientBirthDate"),
        ({"StudyDate": "2020-03-04", "StudyTime": "05:06"}, "StudyDate, StudyTime"),
    ],
)
def test_what_is_invalid_is_left_out_with_a_warning_that_names_it(tmp_path, attributes, left_out):
    folder = write_series(tmp_path / "ct", 3)
    raw = {
        keyword: (dictionary_VR(keyword).encode(), value.encode())
        for keyword, value in attributes.items()
    }
    for number in range(3):
        (folder / f"IM000{number}.dcm").write_bytes(with_raw(ct_slice(number), raw))
    scan = open_scan(folder)
    assert scan.remarks == (
        f"{folder}/IM0000.dcm has values that are invalid and left out of labels in DICOM: "
        f"{left_out}.",
    )
    written = checked(labels(scan)[1], tmp_path)
    assert [written.get(keyword) or "" for keyword in attributes] == [""] * len(attributes)


@pytest.mark.parametrize("charset", ["", ["", "ISO 2022 IR 87"], "ISO_IR 13", "ISO_IR 192"])
def test_any_character_set_becomes_utf_8(tmp_path, charset):
    folder = write_series(
        tmp_path / "ct", 3, lambda _, dataset: setattr(dataset, "SpecificCharacterSet", charset)
    )
    written = checked(labels(open_scan(folder), ("左", "b\\c\n"))[1], tmp_path)
    assert written.SpecificCharacterSet == "ISO_IR 192"
    assert [each.SegmentLabel for each in written.SegmentSequence] == ["左", "b/c"]
    assert written.PatientName == "Doe^Jane"


@pytest.mark.parametrize("value", [None, b"1.02.x"], ids=["missing", "invalid"])
def test_identifiers_that_are_missing_or_invalid_are_made_up_and_said(tmp_path, value):
    keywords = ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")
    folder = write_series(tmp_path / "ct", 3)
    for number, path in enumerate(sorted(folder.iterdir())):
        dataset = ct_slice(number, **dict.fromkeys(keywords))
        raw = {} if value is None else dict.fromkeys(keywords, (b"UI", value))
        path.write_bytes(with_raw(dataset, raw))
    scan = open_scan(folder)
    assert scan.remarks == (
        f"{folder}/IM0000.dcm has no valid identifiers, and new ones are made for labels in DICOM: "
        f"{', '.join(keywords)}.",
    )
    first, second = (checked(labels(each)[1], tmp_path) for each in (scan, open_scan(folder)))
    assert first.StudyInstanceUID == second.StudyInstanceUID  # labels of a series stay together
    assert first.FrameOfReferenceUID == second.FrameOfReferenceUID
    assert first.SOPInstanceUID != second.SOPInstanceUID


def test_the_patient_is_that_of_the_first_slice(tmp_path):
    def change(number, dataset):
        dataset.PatientID, dataset.InstanceNumber = f"of {number}", 9 - number

    scan = open_scan(write_series(tmp_path / "ct", 3, change))
    assert checked(labels(scan)[1], tmp_path).PatientID == "of 0"


def test_the_window_is_in_the_description_of_the_series(tmp_path):
    scan = open_scan(write_series(tmp_path / "ct", 3), "lung")
    description = checked(labels(scan)[1], tmp_path).SeriesDescription
    assert description.startswith("qmedsam ")
    assert description.endswith(", window lung")


def test_slices_without_thickness_are_as_thick_as_their_distance(tmp_path):
    folder = write_series(tmp_path / "ct", 3, lambda _, dataset: dataset.pop("SliceThickness"))
    scan = open_scan(folder)
    assert scan.remarks == ()
    measures = checked(labels(scan)[1], tmp_path).SharedFunctionalGroupsSequence[0]
    assert measures.PixelMeasuresSequence[0].SliceThickness == 2
    one = open_scan(folder / "IM0001.dcm")
    assert one.remarks == (
        f"{folder}/IM0001.dcm has no thickness, and 1 mm is written in a DICOM SEG: "
        "SliceThickness.",
    )
    measures = checked(labels(one)[1], tmp_path).SharedFunctionalGroupsSequence[0]
    assert measures.PixelMeasuresSequence[0].SliceThickness == 1
    assert "SpacingBetweenSlices" not in measures.PixelMeasuresSequence[0]


def test_uneven_and_tilted_slices_have_their_own_places(tmp_path):
    def change(number, dataset):
        dataset.ImagePositionPatient = [0.25 * number**2, 2, 3.5 * number**2]

    scan = open_scan(write_series(tmp_path / "ct", 4, change))
    written = checked(labels(scan, ("a",))[1], tmp_path)
    places = [
        [float(each) for each in group.PlanePositionSequence[0].ImagePositionPatient]
        for group in written.PerFrameFunctionalGroupsSequence[:3]
    ]
    assert sorted(places) == [[0.25, 2, 3.5], [1, 2, 14], [2.25, 2, 31.5]]


def test_orientations_that_differ_in_rounding_are_no_hindrance(tmp_path):
    def change(number, dataset):
        dataset.ImageOrientationPatient = [1, 0.0001 * number, 0, 0, 1, 0]

    checked(labels(open_scan(write_series(tmp_path / "ct", 3, change)))[1], tmp_path)


def clip(path, frames=4, **attributes):
    """Write a grey clip of ultrasound that does not say where its frames lie."""
    dataset = ct_slice(SOPClassUID=UltrasoundMultiFrameImageStorage, Modality="US")
    for keyword in ("Position", "Orientation"):
        delattr(dataset, f"Image{keyword}Patient")
    del dataset.FrameOfReferenceUID, dataset.RescaleSlope, dataset.RescaleIntercept
    del dataset.PixelSpacing, dataset.SliceThickness
    dataset.NumberOfFrames = frames
    dataset.PixelData = bytes(160 * frames)
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return save(dataset, path)


def test_labels_of_a_clip_refer_to_its_frames(tmp_path):
    scan = open_scan(clip(tmp_path / "us.dcm"))
    assert scan.label_suffixes == (".dcm",)
    label_map, content = labels(scan)
    written = checked(content, tmp_path)
    for keyword in ("FrameOfReferenceUID", "PositionReferenceIndicator"):
        assert keyword not in written
    assert "PixelMeasuresSequence" not in written.SharedFunctionalGroupsSequence[0]
    found = written.get_pixels_by_source_frame(
        "1.2.3.4.5.1",
        [1, 2, 3, 4],
        combine_segments=True,
        ignore_spatial_locations=True,
        assert_missing_frames_are_empty=True,
    )
    np.testing.assert_array_equal(found, label_map)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".png"])
def test_what_cannot_be_written_of_a_clip_is_said_before_it_is_segmented(
    tmp_path, suffix, caplog, monkeypatch
):
    path = clip(tmp_path / "us.dcm")
    monkeypatch.setattr("qmedsam.commands.segment.Segmenter", None)  # nothing is computed
    output = tmp_path / f"labels{suffix}"
    assert main(["segment", str(path), "--box", "1,1,0,5,5,3", "-o", str(output)]) == 2
    assert f"labels{suffix} cannot be written. NIfTI needs" in caplog.text or (
        f"labels{suffix} must end in .dcm, .npz" in caplog.text
    )
    assert not output.exists()


def test_what_highdicom_refuses_is_said_before_anything_is_segmented(tmp_path, caplog, monkeypatch):
    def refuse(*arguments, **options):
        raise ValueError("not\n  today")

    monkeypatch.setattr(highdicom.seg, "Segmentation", refuse)
    monkeypatch.setattr("qmedsam.commands.segment.Segmenter", None)
    folder = write_series(tmp_path / "ct", 3)
    output = tmp_path / "labels.dcm"
    assert main(["segment", str(folder), "--box", "1,1,0,5,5,2", "-o", str(output)]) == 2
    assert "labels.dcm cannot be written. " in caplog.text
    assert "can be a DICOM SEG, got: not today" in caplog.text


def test_an_image_without_a_place_is_referred_to(tmp_path):
    dataset = ct_slice(SOPClassUID=SecondaryCaptureImageStorage)
    del dataset.ImagePositionPatient, dataset.ImageOrientationPatient
    written = checked(labels(open_scan(save(dataset, tmp_path / "a.dcm")))[1], tmp_path)
    (item,) = written.SourceImageSequence
    assert item.ReferencedSOPInstanceUID == "1.2.3.4.5.1"
    assert item.ReferencedSOPClassUID == SecondaryCaptureImageStorage
    assert written.PatientOrientation is None or written.PatientOrientation == ""


@pytest.mark.parametrize("keyword", ["PixelSpacing", "ImageOrientationPatient"])
def test_a_place_that_is_none_is_left_out_with_a_warning(tmp_path, keyword):
    value = [0] * (2 if keyword == "PixelSpacing" else 6)
    scan = open_scan(save(ct_slice(**{keyword: value}), tmp_path / "a.dcm"))
    (remark,) = scan.remarks
    assert f"a.dcm: {keyword} must be two " in remark
    assert remark.endswith("; it is left out.")
    assert "FrameOfReferenceUID" not in checked(labels(scan)[1], tmp_path)


def test_a_place_that_is_none_in_all_files_is_one_warning(tmp_path):
    def change(number, dataset):
        dataset.PixelSpacing = [0, -number]

    (remark,) = open_scan(write_series(tmp_path / "ct", 4, change)).remarks
    assert "IM0000.dcm: PixelSpacing must be two distances above 0, got 0" in remark
    assert remark.endswith("; it is left out. So it is in 3 more files.")


@pytest.mark.parametrize("keyword", ["SOPInstanceUID", "SOPClassUID"])
def test_a_file_that_cannot_be_referred_to_has_no_seg(tmp_path, keyword):
    (tmp_path / "a.dcm").write_bytes(with_raw(ct_slice(), {keyword: (b"UI", b"1.02.x")}))
    scan = open_scan(tmp_path / "a.dcm")
    assert scan.label_suffixes == (".nii", ".nii.gz", ".png")
    with pytest.raises(
        FormatError, match=f"b.dcm cannot be written. .*a.dcm must have a valid {keyword}"
    ):
        check_labels_name(scan, "b.dcm")


def test_empty_labels_are_a_seg_of_their_names(tmp_path):
    scan = open_scan(write_series(tmp_path / "ct", 3))
    content = scan.encode(np.zeros((3, *HW), np.uint8), ".dcm", scan.notes_of(["a", "b"]))
    written = checked(content, tmp_path)
    assert [each.SegmentLabel for each in written.SegmentSequence] == ["a", "b"]
    assert not written.pixel_array.any()
    assert len(written.SourceImageSequence) == 3
    with pytest.raises(FormatError, match="a DICOM SEG must have an object"):
        scan.encode(np.zeros((3, *HW), np.uint8), ".dcm", LabelNotes(""))


def test_every_slice_is_referred_to_once(tmp_path):
    scan = open_scan(write_series(tmp_path / "ct", 3))
    written = checked(labels(scan)[1], tmp_path)
    (series,) = written.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == "1.2.3.4.1"
    for items in (series.ReferencedInstanceSequence, written.SourceImageSequence):
        uids = [item.ReferencedSOPInstanceUID for item in items]
        assert uids == ["1.2.3.4.5.1", "1.2.3.4.5.2", "1.2.3.4.5.3"]
