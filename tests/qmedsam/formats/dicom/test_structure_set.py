"""RTSTRUCT: written of labels, and read back to them, by this program and by its rules alone."""

from __future__ import annotations

import copy
import io
import shutil
import subprocess

import nibabel
import numpy as np
import pydicom
import pytest
from matplotlib.path import Path as MatplotlibPath

from qmedsam.cli import main
from qmedsam.formats.conversion import read_labels
from qmedsam.formats.dispatch import open_scan
from qmedsam.formats.label_boxes import read_label_boxes
from qmedsam.formats.label_notes import LabelNotes
from qmedsam.formats.scan import FormatError
from qmedsam.formats.writing import encode_labels, write_labels
from tests.qmedsam.formats.dicom.conftest import HW, ct_slice, save, write_series

VALIDATOR = shutil.which("dciodvfy")
NOTES = LabelNotes("window lung", ("liver", "", "empty"))
OBLIQUE = {"ImageOrientationPatient": [0.8, 0.6, 0, -0.6, 0.8, 0]}


def blobs(shape, seed=0):
    """Return labels of two objects with holes and parts, and none of a third."""
    generator = np.random.default_rng(seed)
    found = (generator.random(shape) < 0.7).astype(np.uint8)
    found[(generator.random(shape) < 0.3) & (found == 0)] = 2
    return found


def series_with(folder, count, **attributes):
    """Write a series of slices with attributes that differ; None takes one away."""
    for number in range(count):
        save(ct_slice(number, **attributes), folder / f"IM{number:04}.dcm")
    return folder


def encoded(scan, label_map, notes=NOTES):
    return encode_labels(scan, label_map, name="plan.dcm", notes=notes, kind="rtstruct")


def by_its_rules(content, datasets):
    """Return masks by number of what an RTSTRUCT says of slices, read as DICOM has it."""
    found = {}
    for region in pydicom.dcmread(io.BytesIO(content)).ROIContourSequence:
        mask = np.zeros((len(datasets), *HW), bool)
        for contour in region.get("ContourSequence", []):
            (image,) = contour.ContourImageSequence
            (place,) = [
                index
                for index, each in enumerate(datasets)
                if each.SOPInstanceUID == image.ReferencedSOPInstanceUID
            ]
            source = datasets[place]
            points = np.array(contour.ContourData, float).reshape(-1, 3)
            assert len(points) == contour.NumberOfContourPoints
            rows = np.array(source.ImageOrientationPatient, float).reshape(2, 3)
            offset = points - np.array(source.ImagePositionPatient, float)
            assert np.abs(offset @ np.cross(*rows)).max() < 1e-6
            x, y = (offset @ rows.T / np.array(source.PixelSpacing, float)[::-1]).T
            centres = np.argwhere(np.ones(HW, bool))[:, ::-1]
            inside = MatplotlibPath(np.column_stack([x, y])).contains_points(centres)
            mask[place] ^= inside.reshape(HW)
        found[int(region.ReferencedROINumber)] = mask
    return found


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("attributes", [{}, OBLIQUE], ids=["straight", "oblique"])
def test_labels_come_back_as_they_were(tmp_path, attributes, seed):
    folder = series_with(tmp_path / "ct", 4, **attributes)
    scan = open_scan(folder)
    label_map = blobs(scan.label_shape, seed)
    write_labels(scan, label_map, tmp_path / "plan.dcm", notes=NOTES, kind="rtstruct")
    back = read_labels(tmp_path / "plan.dcm", scan)
    np.testing.assert_array_equal(back.label_map, label_map)
    assert (back.names, back.remarks) == (("liver", "Object 2", "empty"), ())
    datasets = [pydicom.dcmread(path) for path in sorted(folder.glob("*.dcm"))]
    masks = by_its_rules((tmp_path / "plan.dcm").read_bytes(), datasets)
    assert sorted(masks) == [1, 2, 3]
    for number, mask in masks.items():
        np.testing.assert_array_equal(mask, label_map == number)


def test_it_says_whose_it_is_and_of_what(tmp_path):
    scan = open_scan(write_series(tmp_path / "ct", 3))
    content = encoded(scan, blobs(scan.label_shape))
    written = pydicom.dcmread(io.BytesIO(content))
    assert (written.Modality, written.PatientID, written.StudyInstanceUID) == (
        "RTSTRUCT",
        "7",
        "1.2.3.4.2",
    )
    assert written.SeriesInstanceUID != "1.2.3.4.1"
    assert written.SeriesDescription.endswith(", window lung")
    (frame,) = written.ReferencedFrameOfReferenceSequence
    assert frame.FrameOfReferenceUID == "1.2.3.4.3"
    (series,) = frame.RTReferencedStudySequence[0].RTReferencedSeriesSequence
    assert series.SeriesInstanceUID == "1.2.3.4.1"
    assert len(series.ContourImageSequence) == 3
    assert [each.ROIName for each in written.StructureSetROISequence] == [
        "liver",
        "Object 2",
        "empty",
    ]
    assert "ContourSequence" not in written.ROIContourSequence[2]
    if VALIDATOR:
        (tmp_path / "plan.dcm").write_bytes(content)
        done = subprocess.run(
            [VALIDATOR, tmp_path / "plan.dcm"], capture_output=True, text=True, check=False
        )
        assert [line for line in done.stderr.splitlines() if line.startswith("Error")] == []


@pytest.mark.filterwarnings("ignore:Invalid value")  # which this one is about
@pytest.mark.parametrize(
    "attributes",
    [
        {"PatientName": None, "PatientID": None, "StudyDate": None, "PatientSex": "male"},
        {"StudyInstanceUID": None, "FrameOfReferenceUID": None, "SliceThickness": None},
    ],
)
def test_metadata_that_is_missing_or_invalid_does_not_matter(tmp_path, attributes):
    scan = open_scan(series_with(tmp_path / "ct", 2, **attributes))
    label_map = blobs(scan.label_shape)
    (tmp_path / "plan.dcm").write_bytes(encoded(scan, label_map))
    np.testing.assert_array_equal(read_labels(tmp_path / "plan.dcm", scan).label_map, label_map)


def test_uneven_and_shifted_slices_keep_their_places(tmp_path):
    folder = write_series(tmp_path / "ct", 4)
    save(ct_slice(2, ImagePositionPatient=[1.5, 2, 4.5]), folder / "IM0002.dcm")
    save(ct_slice(3, ImagePositionPatient=[1, 4, 9]), folder / "IM0003.dcm")
    scan = open_scan(folder)
    assert scan.affine is None
    label_map = blobs(scan.label_shape)
    (tmp_path / "plan.dcm").write_bytes(encoded(scan, label_map))
    np.testing.assert_array_equal(read_labels(tmp_path / "plan.dcm", scan).label_map, label_map)


def test_one_slice_has_contours_too(tmp_path):
    scan = open_scan(save(ct_slice(), tmp_path / "a.dcm"))
    label_map = blobs(scan.label_shape)
    (tmp_path / "plan.dcm").write_bytes(encoded(scan, label_map))
    np.testing.assert_array_equal(read_labels(tmp_path / "plan.dcm", scan).label_map, label_map)


def test_a_volume_in_nifti_of_the_same_place_takes_contours(tmp_path):
    scan = open_scan(series_with(tmp_path / "ct", 4, **OBLIQUE))
    label_map = blobs(scan.label_shape)
    (tmp_path / "plan.dcm").write_bytes(encoded(scan, label_map))
    write_labels(scan, label_map, tmp_path / "labels.nii")
    image = open_scan(tmp_path / "labels.nii")
    back = read_labels(tmp_path / "plan.dcm", image)
    np.testing.assert_array_equal(back.label_map, image.values)
    assert (image.values > 0).any()


def test_each_region_has_a_box(tmp_path):
    scan = open_scan(write_series(tmp_path / "ct", 4))
    label_map = np.zeros(scan.label_shape, np.uint8)
    label_map[1:3, 2:5, 3:9] = 1
    (tmp_path / "plan.dcm").write_bytes(encoded(scan, label_map, LabelNotes("", ("liver",))))
    (box,), remarks = read_label_boxes(tmp_path / "plan.dcm", scan)
    assert (box.corners, box.name, remarks) == ((3, 2, 1, 8, 4, 2), "liver", [])


def square(left, top, right, bottom, z):
    """Return a contour about pixels of the series, by its corners."""
    corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
    return [value for x, y in corners for value in (1 + x * 0.5, 2 + y * 0.7, z)]


def with_contours(folder, *contours, kinds=None, number=1):
    """Write an RTSTRUCT of contours of one region."""
    scan = open_scan(folder)
    written = pydicom.dcmread(io.BytesIO(encoded(scan, blobs(scan.label_shape))))
    region = written.ROIContourSequence[0]
    template = region.ContourSequence[0]
    region.ContourSequence = []
    for place, contour in enumerate(contours):
        item = pydicom.Dataset()
        item.update(template)
        item.ContourGeometricType = kinds[place] if kinds else "CLOSED_PLANAR"
        item.ContourData = [f"{value:.6f}" for value in contour]
        region.ContourSequence.append(item)
    del written.ROIContourSequence[1:]
    path = folder.parent / "plan.dcm"
    written.save_as(path)
    return path


def test_contours_that_fit_no_slice_are_told_of(tmp_path):
    folder = write_series(tmp_path / "ct", 4)
    scan = open_scan(folder)
    path = with_contours(
        folder,
        square(0.5, 0.5, 4.5, 3.5, 0),
        square(0.5, 0.5, 4.5, 3.5, 2.6),  # between the second and the third, nearer to the second
        square(0.5, 0.5, 2.5, 3.5, 3.4),  # at the third, and another plane than the next
        square(0.5, 0.5, 4.5, 3.5, 4),
        square(0.5, 0.5, 4.5, 3.5, 30),
        [1, 2, 0],
        kinds=["CLOSED_PLANAR"] * 5 + ["POINT"],
    )
    back = read_labels(path, scan)
    expected = np.zeros(scan.label_shape, np.uint8)
    expected[:3, 1:4, 1:5] = 1
    np.testing.assert_array_equal(back.label_map, expected)
    assert back.remarks == (
        "Contours that are not closed are left out: POINT.",
        "1 contours lie above or below the image and are left out.",
        "2 contours lie between slices; for a slice the plane that is closest counts.",
    )


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        ((-0.5, 0.5, 1.5, 2.5), (1, 1, 0, 0)),  # twice as dense as slices, none in one
        ((-1, 1, 3, 5, 7), (1, 1, 1, 1)),  # half a slice off
        ((0, 0.02), (1, 0, 0, 0)),  # rounding
    ],
)
def test_planes_between_slices_do_not_cut_holes_in_each_other(tmp_path, levels, expected):
    folder = write_series(tmp_path / "ct", 4)
    one = (levels[-1] == 0.02) * 1  # the second contour is apart from the first one
    path = with_contours(
        folder,
        *(
            square(0.5, 0.5 + 4 * one * place, 4.5, 3.5 + 3 * one * place, z)
            for place, z in enumerate(levels)
        ),
    )
    label_map = read_labels(path, open_scan(folder)).label_map
    assert tuple(label_map[:, 1, 1].tolist()) == expected
    assert label_map[0, 5, 1] == one


def test_a_neighbour_of_a_single_slice_has_no_contour_on_it(tmp_path):
    folder = write_series(tmp_path / "ct", 2)
    for z in (-1.25, 1.25):  # half a thickness away
        path = with_contours(folder, square(0.5, 0.5, 4.5, 3.5, z))
        scan = open_scan(folder / "IM0000.dcm")
        assert not read_labels(path, scan).label_map.any()


@pytest.mark.parametrize("numbers", [(0, 1), (5, 70_000), (-3, 2), (None, 4)])
def test_regions_of_any_number_become_labels(tmp_path, numbers):
    folder = write_series(tmp_path / "ct", 3)
    scan = open_scan(folder)
    label_map = np.zeros(scan.label_shape, np.uint8)
    label_map[:, 1:4, 1:4], label_map[:, 5:7, 5:9] = 1, 2
    written = pydicom.dcmread(io.BytesIO(encoded(scan, label_map, LabelNotes("", ("a", "b")))))
    for place, number in enumerate(numbers):
        written.StructureSetROISequence[place].ROINumber = number
        written.ROIContourSequence[place].ReferencedROINumber = number
    written.save_as(tmp_path / "plan.dcm")
    back = read_labels(tmp_path / "plan.dcm", scan)
    np.testing.assert_array_equal(back.label_map, label_map)
    assert back.names == ("a", "b")
    assert back.remarks == ("Labels count regions, as their numbers are not all 1 to 65535.",)
    boxes, _ = read_label_boxes(tmp_path / "plan.dcm", scan)
    assert [box.name for box in boxes] == ["a", "b"]


def test_labels_that_are_far_apart_are_as_many_regions(tmp_path):
    scan = open_scan(write_series(tmp_path / "ct", 2))
    label_map = np.zeros(scan.label_shape, np.uint16)
    label_map[0, 1, 1], label_map[1, 4, 4] = 1, 3000
    written = pydicom.dcmread(io.BytesIO(encoded(scan, label_map, LabelNotes(""))))
    assert [region.ROINumber for region in written.StructureSetROISequence] == [1, 3000]
    with pytest.raises(FormatError, match="an RTSTRUCT must have an object"):
        encoded(scan, np.zeros(scan.label_shape, np.uint8), LabelNotes(""))


@pytest.mark.parametrize(("z_mm", "slices"), [(-1.01, []), (-0.99, [0]), (2.99, [1]), (3.01, [])])
def test_contours_count_up_to_half_a_slice_beside_the_image(tmp_path, z_mm, slices):
    """Slices are 2 mm apart, the last one at 2 mm."""
    folder = write_series(tmp_path / "ct", 2)
    back = read_labels(with_contours(folder, square(0.5, 0.5, 4.5, 3.5, z_mm)), open_scan(folder))
    assert np.flatnonzero(back.label_map.any(axis=(1, 2))).tolist() == slices
    assert any("above or below" in remark for remark in back.remarks) == (not slices)


@pytest.mark.parametrize("kind", ["CLOSED_PLANAR", "CLOSEDPLANAR_XOR"])
def test_a_contour_in_another_is_a_hole(tmp_path, kind):
    folder = write_series(tmp_path / "ct", 2)
    squares = square(-0.5, -0.5, 8.5, 6.5, 0), square(1.5, 1.5, 4.5, 3.5, 0)
    path = with_contours(folder, *squares, kinds=[kind] * 2)
    label_map = read_labels(path, open_scan(folder)).label_map
    assert label_map[0, 0, 0] == 1
    assert label_map[0, 2:4, 2:5].max() == 0
    assert label_map[0].sum() == 9 * 7 - 3 * 2
    assert label_map[1].max() == 0


def test_where_regions_overlap_the_later_one_counts_and_it_is_said(tmp_path):
    folder = write_series(tmp_path / "ct", 2)
    path = with_contours(folder, square(0.5, 0.5, 4.5, 3.5, 0))
    written = pydicom.dcmread(path)
    later = copy.deepcopy(written.ROIContourSequence[0])
    later.ReferencedROINumber = 2
    corners = square(3.5, 2.5, 6.5, 5.5, 0)
    later.ContourSequence[0].ContourData = [f"{value:.6f}" for value in corners]
    written.ROIContourSequence.insert(0, later)  # by number, and not by place
    written.save_as(path)
    back = read_labels(path, open_scan(folder))
    expected = np.zeros((2, *HW), np.uint8)
    expected[0, 1:4, 1:5] = 1
    expected[0, 3:6, 4:7] = 2
    np.testing.assert_array_equal(back.label_map, expected)
    assert back.remarks == ("Objects overlap on 1 voxels, where the later one counts.",)


@pytest.mark.parametrize("rise_mm", [0.99, 1.01])
def test_contours_aslant_by_more_than_half_a_slice_are_refused(tmp_path, rise_mm):
    """Slices are 2 mm apart."""
    folder = write_series(tmp_path / "ct", 4)
    aslant = square(0.5, 0.5, 4.5, 3.5, 0)
    aslant[5] = rise_mm
    if rise_mm < 1:
        label_map = read_labels(with_contours(folder, aslant), open_scan(folder)).label_map
        assert label_map[0, 1:4, 1:5].all()
        return
    with pytest.raises(FormatError, match=r"plan\.dcm must have contours in the slices of the"):
        read_labels(with_contours(folder, aslant), open_scan(folder))


@pytest.mark.parametrize(
    ("keyword", "value", "message"),
    [
        ("ContourData", "1\\2", "ContourData must be three numbers for each point"),
        ("ContourData", "1\\2\\x", "ContourData must be"),
        ("ContourData", None, "ContourData must be three numbers for each point"),
    ],
)
def test_broken_contours_are_named(tmp_path, keyword, value, message):
    folder = write_series(tmp_path / "ct", 2)
    path = with_contours(folder, square(0, 0, 4, 3, 0))
    written = pydicom.dcmread(path)
    contour = written.ROIContourSequence[0].ContourSequence[0]
    if value is None:
        delattr(contour, keyword)
    else:
        with pydicom.config.disable_value_validation():
            contour[keyword] = pydicom.dataelem.RawDataElement(
                pydicom.tag.Tag(keyword), "DS", len(value), value.encode(), 0, True, True
            )
    written.save_as(path)
    with pytest.raises(FormatError, match=message):
        read_labels(path, open_scan(folder))


def test_an_image_without_a_place_has_none(tmp_path):
    dataset = ct_slice(ImagePositionPatient=None, ImageOrientationPatient=None)
    scan = open_scan(save(dataset, tmp_path / "a.dcm"))
    message = r"plan\.dcm cannot be written\. An RTSTRUCT has contours in the patient"
    with pytest.raises(FormatError, match=message):
        encoded(scan, blobs(scan.label_shape))
    folder = write_series(tmp_path / "ct", 2)
    path = with_contours(folder, square(0, 0, 4, 3, 0))
    with pytest.raises(FormatError, match="The image must say where its pixels lie"):
        read_labels(path, scan)


def test_slices_that_cannot_be_referred_to_have_none(tmp_path):
    folder = write_series(tmp_path / "ct", 2)
    save(ct_slice(1, SOPInstanceUID="1.2.3.4.5.1"), folder / "IM0001.dcm")
    scan = open_scan(folder)
    with pytest.raises(
        FormatError, match=r"plan\.dcm cannot be written\. .* SOPInstanceUID of its"
    ):
        encoded(scan, blobs(scan.label_shape))


def test_other_images_and_other_names_are_refused(tmp_path):
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 4, 4)), np.eye(4)), tmp_path / "a.nii")
    scan = open_scan(tmp_path / "a.nii")
    for name in ("plan.nii", "plan.npz"):
        with pytest.raises(FormatError, match=rf"{name} must end in \.dcm, as an RTSTRUCT does"):
            encode_labels(
                scan, np.zeros((4, 4, 4), np.uint8), name=name, notes=NOTES, kind="rtstruct"
            )
    with pytest.raises(FormatError, match=r"plan\.dcm must end in"):
        encoded(scan, np.zeros((4, 4, 4), np.uint8))


@pytest.mark.usefixtures("fake_model")
def test_a_plan_is_made_and_read_by_the_commands(tmp_path):
    folder = write_series(tmp_path / "ct", 4)
    plan, seg, labels = (tmp_path / name for name in ("plan.dcm", "seg.dcm", "labels.nii.gz"))
    box = "organ=2,1,1,7,5,3"
    words = ["segment", str(folder), "--box", box, "-o", str(plan), "--as", "rtstruct"]
    for _ in range(2):  # what an earlier run left is replaced
        assert main(words) == 0
    back = ["convert", str(folder), "--labels"]
    assert main([*back, str(plan), "-o", str(labels)]) == 0
    assert main([*back, str(labels), "-o", str(seg)]) == 0
    assert main([*back, str(seg), "-o", str(tmp_path / "back.npz")]) == 0
    direct = tmp_path / "direct.npz"
    assert main(["segment", str(folder), "--box", box, "-o", str(direct)]) == 0
    found, expected = (np.load(path)["segs"] for path in (tmp_path / "back.npz", direct))
    np.testing.assert_array_equal(found, expected)
    assert expected.any()
    words = ["segment", str(folder), "--boxes", str(plan), "-o", str(tmp_path / "again.dcm")]
    assert main(words) == 0
    assert main(["convert", str(folder), "--box", box, "--as", "rtstruct", "-o", "a.npz"]) == 2
