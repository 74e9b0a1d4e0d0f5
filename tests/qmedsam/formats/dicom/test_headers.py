"""What is an image among files, what is broken, and what is left out."""

from __future__ import annotations

import pytest
from pydicom.uid import (
    ComprehensiveSRStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
)

from qmedsam.formats.dicom.headers import is_dicom, read_headers
from qmedsam.formats.dicom.sources import files_of_path, uploaded_files
from qmedsam.formats.dispatch import open_scan
from qmedsam.formats.scan import FormatError
from tests.qmedsam.formats.dicom.conftest import ct_slice, save, write_bare, write_series


@pytest.mark.parametrize("length", [140, 200, 300, 400, 700, 900, -1])
def test_a_slice_that_is_cut_off_anywhere_stops_the_run_and_is_named(tmp_path, length):
    folder = write_series(tmp_path / "ct")
    path = folder / "IM0000.dcm"
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(FormatError, match=r"ct/IM0000\.dcm .*it may have been cut off"):
        open_scan(folder)


@pytest.mark.parametrize("length", [8, 60, 300, -1])
def test_a_slice_without_preamble_that_is_cut_off_stops_the_run_and_is_named(tmp_path, length):
    folder = write_series(tmp_path / "ct")
    path = write_bare(ct_slice(1), folder / "IM0001.dcm")
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(FormatError, match=r"ct/IM0001\.dcm .*it may have been cut off"):
        open_scan(folder)


def test_files_without_preamble_are_slices_like_others(tmp_path):
    folder = write_series(tmp_path / "ct")
    expected = open_scan(folder).pixels
    write_bare(ct_slice(1), folder / "IM0001.dcm")
    path = folder / "IM0003.dcm"
    path.write_bytes(path.read_bytes()[132:])  # from the file meta information on
    assert (open_scan(folder).pixels == expected).all()
    for number in (1, 3):
        content = (folder / f"IM000{number}.dcm").read_bytes()
        (tmp_path / "IM").write_bytes(content)  # nor a suffix
        assert is_dicom(content)
        assert (open_scan(tmp_path / "IM").pixels == expected[number]).all()


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_files_may_be_encoded_in_other_ways(tmp_path, syntax):
    dataset = ct_slice(1)
    if syntax == ExplicitVRBigEndian:
        dataset["PixelData"].VR = "OW"
        dataset.PixelData = bytes([dataset.PixelData[each ^ 1] for each in range(160)])
    expected = open_scan(save(ct_slice(1), tmp_path / "a.dcm")).pixels
    assert (open_scan(save(dataset, tmp_path / "b.dcm", syntax)).pixels == expected).all()


@pytest.mark.parametrize("name", ["IM0005.dcm", "IM0005.IMA", "X.dcm", "X.dicom"])
@pytest.mark.parametrize("content", [b"", b"<html>not found</html>"])
def test_a_file_named_as_dicom_that_is_none_stops_the_run(tmp_path, name, content):
    folder = write_series(tmp_path / "ct")
    (folder / name).write_bytes(content)
    with pytest.raises(FormatError, match=f"ct/{name} must be DICOM, got something else"):
        open_scan(folder)


def test_a_file_named_as_the_slices_beside_it_is_one_of_them(tmp_path):
    folder = write_series(tmp_path / "ct")
    for path in sorted(folder.glob("*.dcm")):
        path.rename(path.with_suffix(""))
    for name in ("README", "IM.txt", "1.txt"):
        (folder / name).write_text("beside the slices")
    assert open_scan(folder).pixels.shape == (5, 8, 10)
    (folder / "IM0005").write_bytes(b"")
    with pytest.raises(FormatError, match="ct/IM0005 must be DICOM as files of such names"):
        open_scan(folder)


def test_dicom_of_other_kinds_is_left_out(tmp_path):
    folder = write_series(tmp_path / "ct")
    other = ct_slice(7, SOPClassUID=ComprehensiveSRStorage, PixelData=None)
    save(other, folder / "report.dcm")
    save(ct_slice(8, SOPClassUID="1.2.3.99", PixelData=None), folder / "private.dcm")
    assert open_scan(folder).pixels.shape == (5, 8, 10)
    with pytest.raises(FormatError, match=r"report\.dcm .* got Comprehensive SR Storage"):
        open_scan(folder / "report.dcm")


def test_labels_beside_the_slices_are_left_out(tmp_path):
    folder = write_series(tmp_path / "ct")
    scan = open_scan(folder)
    label_map = (scan.pixels > 0).astype("uint8")
    label_map[2, 2, 2] = 1
    (folder / "labels.dcm").write_bytes(scan.encode(label_map, ".dcm", scan.notes_of(["a"])))
    assert (open_scan(folder).pixels == scan.pixels).all()
    with pytest.raises(FormatError, match=r"labels\.dcm .* got Segmentation Storage"):
        open_scan(folder / "labels.dcm")


def test_a_deflated_file_is_refused_unread(tmp_path):
    save(ct_slice(), tmp_path / "a.dcm", DeflatedExplicitVRLittleEndian)
    with pytest.raises(FormatError, match=r"a\.dcm must be readable DICOM, got: it is deflated"):
        open_scan(tmp_path / "a.dcm")


def test_messages_have_no_advice_on_pydicom(tmp_path):
    (tmp_path / "a.dcm").write_bytes(b"text" * 99)
    with pytest.raises(FormatError) as caught:
        open_scan(tmp_path / "a.dcm")
    assert "force" not in str(caught.value)


def test_a_folder_without_dicom_says_so(tmp_path):
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(FormatError, match="must be readable DICOM with pixels, got no DICOM"):
        open_scan(tmp_path)


def test_files_that_are_equal_are_taken_once(tmp_path):
    folder = write_series(tmp_path / "ct")
    (folder / "copy.dcm").write_bytes((folder / "IM0002.dcm").read_bytes())
    scan = open_scan(folder)
    assert scan.pixels.shape == (5, 8, 10)
    assert scan.remarks == (
        f"{folder}/copy.dcm is the same as {folder}/IM0002.dcm and is left out.",
    )


def test_files_with_one_identifier_that_differ_are_both_taken(tmp_path):
    folder = write_series(tmp_path / "ct", 4)
    save(ct_slice(4, SOPInstanceUID="1.2.3.4.5.1"), folder / "IM0004.dcm")
    scan = open_scan(folder)
    assert scan.pixels.shape == (5, 8, 10)
    assert scan.label_suffixes == (".nii", ".nii.gz")
    for kind, named in ((".dcm", "a DICOM SEG"), ("rtstruct", "an RTSTRUCT")):
        with pytest.raises(FormatError, match=f"must have a SOPInstanceUID of its own for {named}"):
            scan.check(kind)


def test_uploaded_files_without_names_are_counted(tmp_path):
    folder = write_series(tmp_path / "ct", 3)
    contents = [path.read_bytes() for path in sorted(folder.glob("*.dcm"))]
    found = read_headers(uploaded_files("ct.dcm", [*contents, b"a note", contents[0][:300]]))
    assert len(found.images) == 3
    (broken,) = found.broken
    assert broken.problem == "ct.dcm, file 5 of 5, must have pixels, it may have been cut off"


def test_a_file_that_cannot_be_opened_is_named(tmp_path):
    folder = write_series(tmp_path / "ct")
    files = files_of_path(folder)
    (folder / "IM0001.dcm").unlink()
    (broken,) = read_headers(files).broken
    assert broken.problem.startswith(f"{folder}/IM0001.dcm cannot be read: ")
