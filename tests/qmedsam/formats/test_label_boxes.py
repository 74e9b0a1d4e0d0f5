"""Boxes around labels that are there, in whichever format and orientation they are."""

from __future__ import annotations

import cv2
import highdicom
import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK
from nibabel.orientations import axcodes2ornt, ornt_transform
from PIL import Image
from pydicom.sr.codedict import codes

from qmedsam.formats.boxed_scan import open_boxed_scan
from qmedsam.formats.dispatch import open_scan
from qmedsam.formats.label_boxes import read_label_boxes as read_boxes_and_remarks
from qmedsam.formats.label_grids import is_labels_name
from qmedsam.formats.label_notes import LabelNotes
from qmedsam.formats.scan import FormatError
from qmedsam.formats.writing import encode_labels
from tests.qmedsam.formats.conftest import OF_ANOTHER_PROGRAM
from tests.qmedsam.formats.dicom.conftest import HW, ct_slice, save, write_series
from tests.qmedsam.formats.test_statistics import ORIENTATIONS, nifti_in

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of what pydicom plans


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "image.png"
    cv2.imwrite(str(path), np.zeros((60, 80, 3), np.uint8))
    return path


def block_in(shape, *, label=3, kind=np.uint8):
    """Return a label map (X, Y, Z) with a block, and another label of one voxel."""
    found = np.zeros(shape, kind)
    found[2:5, 1:4, 1:3] = label
    found[0, 0, 0] = label + 4
    return found


def read_label_boxes(path, scan):
    boxes, remarks = read_boxes_and_remarks(path, scan)
    assert remarks == []
    return boxes


def corners(boxes):
    return [box.corners for box in boxes]


EXPECTED = [(2, 1, 1, 4, 3, 2), (0, 0, 0, 0, 0, 0)]


@pytest.mark.parametrize("turn", [0.0, 0.3])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_a_label_map_may_be_in_any_orientation(tmp_path, orientation, turn):
    scan = open_scan(nifti_in(tmp_path, "RAS", turn=turn))
    image = nibabel.load(tmp_path / "RAS.nii")
    labels = nibabel.Nifti1Image(block_in(image.shape), image.affine)
    turned = labels.as_reoriented(
        ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(tuple(orientation)))
    )
    nibabel.save(turned, tmp_path / "labels.nii.gz")
    found = read_label_boxes(tmp_path / "labels.nii.gz", scan)
    assert corners(found) == EXPECTED
    assert [box.name for box in found] == ["Label 3", "Label 7"]


@pytest.mark.parametrize("orientation", ["RAS", "PIR", "SLA"])
def test_boxes_are_of_the_voxels_of_the_image(tmp_path, orientation):
    path = nifti_in(tmp_path, orientation)
    image = nibabel.load(path)
    labels = nibabel.Nifti1Image(block_in(image.shape), image.affine)
    for name in ("labels.nrrd", "labels.mha"):
        SimpleITK.WriteImage(_as_itk(labels, tmp_path), str(tmp_path / name))
    for name in ("plain.nii", "labels.nrrd", "labels.mha"):
        assert corners(read_label_boxes(tmp_path / name, open_scan(path))) == EXPECTED


def _as_itk(labels, folder):
    nibabel.save(labels, folder / "plain.nii")
    return SimpleITK.ReadImage(str(folder / "plain.nii"))


def test_a_finer_and_larger_grid_becomes_that_of_the_image(tmp_path):
    scan = open_scan(nifti_in(tmp_path, "RAS"))
    image = nibabel.load(tmp_path / "RAS.nii")
    fine = np.kron(block_in(image.shape), np.ones((2, 2, 2), np.uint8))
    affine = image.affine @ np.array(
        [[0.5, 0, 0, -0.25], [0, 0.5, 0, -0.25], [0, 0, 0.5, -0.25], [0, 0, 0, 1]]
    )
    fine = np.pad(fine, ((4, 0), (0, 0), (0, 6)))
    affine[:3, 3] -= affine[:3, 0] * 4
    nibabel.save(nibabel.Nifti1Image(fine, affine), tmp_path / "fine.nii")
    assert corners(read_label_boxes(tmp_path / "fine.nii", scan)) == EXPECTED


@pytest.mark.parametrize(("place", "voxel"), [((0, 1, 2), (0, 0, 1)), ((5, 4, 3), (2, 2, 1))])
def test_a_label_thinner_than_a_voxel_is_in_that_voxel(tmp_path, place, voxel):
    scan = open_scan(nifti_in(tmp_path, "RAS"))
    image = nibabel.load(tmp_path / "RAS.nii")
    fine = np.zeros(2 * np.array(image.shape), np.uint8)
    fine[place] = 1
    affine = image.affine @ np.array(
        [[0.5, 0, 0, -0.25], [0, 0.5, 0, -0.25], [0, 0, 0.5, -0.25], [0, 0, 0, 1]]
    )
    nibabel.save(nibabel.Nifti1Image(fine, affine), tmp_path / "fine.nii")
    assert corners(read_label_boxes(tmp_path / "fine.nii", scan)) == [voxel + voxel]


def test_labels_of_dicom_are_nifti_or_a_seg(tmp_path):
    scan = open_scan(write_series(tmp_path / "ct", 4))
    label_map = np.zeros(scan.label_shape, np.uint8)
    label_map[1:3, 2:5, 3:9] = 1
    label_map[3, 0, 0] = 2
    notes = LabelNotes("", ("liver", "nail"))
    expected = [(3, 2, 1, 8, 4, 2), (0, 0, 3, 0, 0, 3)]
    for name in ("a.nii", "a.dcm"):
        (tmp_path / name).write_bytes(encode_labels(scan, label_map, name=name, notes=notes))
        assert corners(read_label_boxes(tmp_path / name, scan)) == expected
    names = [box.name for box in read_label_boxes(tmp_path / "a.dcm", scan)]
    assert names == ["liver", "nail"]
    # A volume that was made of the series is another file, of the same place.
    image = nibabel.load(tmp_path / "a.nii")
    nibabel.save(nibabel.Nifti1Image(np.zeros(image.shape), image.affine), tmp_path / "image.nii")
    other = open_scan(tmp_path / "image.nii")
    assert corners(read_label_boxes(tmp_path / "a.dcm", other)) == expected


def test_a_seg_of_uneven_slices_goes_by_what_it_refers_to(tmp_path):
    folder = write_series(tmp_path / "ct", 3)
    save(ct_slice(2, ImagePositionPatient=[1, 2, 9]), folder / "IM0002.dcm")
    scan = open_scan(folder)
    label_map = np.zeros(scan.label_shape, np.uint8)
    label_map[:, 2:4, 3] = 1
    (tmp_path / "a.dcm").write_bytes(
        encode_labels(scan, label_map, name="a.dcm", notes=scan.notes_of([""]))
    )
    assert corners(read_label_boxes(tmp_path / "a.dcm", scan)) == [(3, 2, 0, 3, 3, 2)]
    plain = open_scan(nifti_in(tmp_path, "RAS"))
    with pytest.raises(FormatError, match=r"a\.dcm must be a readable DICOM SEG whose segments"):
        read_label_boxes(tmp_path / "a.dcm", plain)


def test_a_seg_of_an_image_has_boxes_of_four_coordinates(tmp_path):
    dataset = ct_slice(ImagePositionPatient=None, ImageOrientationPatient=None)
    scan = open_scan(save(dataset, tmp_path / "image.dcm"))
    label_map = np.zeros(HW, np.uint8)
    label_map[2:4, 3:8] = 1
    (tmp_path / "a.dcm").write_bytes(
        encode_labels(scan, label_map, name="a.dcm", notes=scan.notes_of([""]))
    )
    assert corners(read_label_boxes(tmp_path / "a.dcm", scan)) == [(3, 2, 7, 3)]


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.bmp", "a.gif", "a.npz"])
def test_labels_of_a_picture_are_a_picture_or_an_archive(tmp_path, picture, name):
    scan = open_scan(picture)
    label_map = np.zeros(scan.label_shape, np.uint8)
    label_map[10:20, 30:50] = 255
    if name == "a.npz":
        np.savez(tmp_path / name, gts=label_map)
    else:
        Image.fromarray(label_map).save(tmp_path / name)
    (box,) = read_label_boxes(tmp_path / name, scan)
    assert (box.corners, box.name) == ((30, 10, 49, 19), "Label 255")


def test_labels_that_were_found_count_before_those_that_were_drawn(tmp_path, picture):
    scan = open_scan(picture)
    found, drawn = np.zeros((2, *scan.label_shape), np.uint8)
    found[10:20, 30:50], drawn[1:3, 1:4] = 2, 5
    np.savez(tmp_path / "a.npz", segs=found, gts=drawn)
    (box,) = read_label_boxes(tmp_path / "a.npz", scan)
    assert (box.corners, box.name) == ((30, 10, 49, 19), "Label 2")


def test_a_label_in_several_parts_is_one_object(tmp_path, picture):
    scan = open_scan(picture)
    label_map = np.zeros(scan.label_shape, np.uint8)
    label_map[2, 3] = label_map[50, 70] = 9
    Image.fromarray(label_map).save(tmp_path / "a.png")
    assert corners(read_label_boxes(tmp_path / "a.png", scan)) == [(3, 2, 70, 50)]


def test_a_fractional_segment_is_there_from_a_half_on(tmp_path):
    folder = write_series(tmp_path / "ct", 2)
    fractions = np.zeros((2, *HW), np.float32)
    fractions[0, 2:4, 3:8], fractions[0, 1, 1], fractions[1, 2, 3] = 0.5, 0.49, 1
    written = highdicom.seg.Segmentation(
        source_images=[pydicom.dcmread(path) for path in sorted(folder.iterdir())],
        pixel_array=fractions,
        segmentation_type="FRACTIONAL",
        max_fractional_value=100,
        segment_descriptions=[
            highdicom.seg.SegmentDescription(
                1, "liver", codes.SCT.Organ, codes.SCT.Liver, algorithm_type="MANUAL"
            )
        ],
        **OF_ANOTHER_PROGRAM,
    )
    written.save_as(tmp_path / "a.dcm")
    (box,) = read_label_boxes(tmp_path / "a.dcm", open_scan(folder))
    assert (box.corners, box.name) == ((3, 2, 0, 7, 3, 1), "liver")


def test_boxes_of_a_label_map_come_after_those_that_are_given(tmp_path, picture):
    label_map = np.zeros(open_scan(picture).label_shape, np.uint16)
    label_map[10:20, 30:50] = 300
    cv2.imwrite(str(tmp_path / "a.png"), label_map)
    boxed = open_boxed_scan(
        picture,
        [],
        boxes_file=tmp_path / "a.png",
        window=None,
        series=None,
        plane="auto",
        volume=None,
        straighten=False,
    )
    np.testing.assert_array_equal(boxed.own_boxes(), [[30, 10, 49, 19]])
    assert boxed.notes.names == ("Label 300",)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros((7, 6, 5)), "must have labels, of which there are none"),
        (np.full((7, 6, 5), 0.5), "must have labels, whole from 0, got 0.5"),
        (np.full((7, 6, 5), -1.0), "must have labels, whole from 0, got -1"),
        (np.full((7, 6, 5), np.nan), "must have labels, whole from 0, got nan"),
        (np.arange(30 * 30 * 20).reshape(30, 30, 20), "must have 10000 labels at most"),
    ],
)
def test_what_is_no_label_map_is_refused(tmp_path, labels, message):
    scan = open_scan(nifti_in(tmp_path, "RAS"))
    affine = nibabel.load(tmp_path / "RAS.nii").affine
    nibabel.save(nibabel.Nifti1Image(labels.astype(np.float32), affine), tmp_path / "a.nii")
    with pytest.raises(FormatError, match=rf"a\.nii {message}"):
        read_label_boxes(tmp_path / "a.nii", scan)


def test_labels_of_another_image_are_refused(tmp_path, picture):
    aslant = open_scan(nifti_in(tmp_path, "RAS", turn=0.3))
    straight = open_scan(nifti_in(tmp_path, "LAS"))
    nibabel.save(
        nibabel.Nifti1Image(block_in((7, 6, 5)), nibabel.load(tmp_path / "LAS.nii").affine),
        tmp_path / "a.nii",
    )
    assert read_label_boxes(tmp_path / "a.nii", straight)
    with pytest.raises(FormatError, match=r"a\.nii must have axes along those of the image"):
        read_label_boxes(tmp_path / "a.nii", aslant)
    scan = open_scan(picture)
    for name in ("small.png", "small.npz"):
        np.savez(tmp_path / "small.npz", segs=np.ones((3, 4), np.uint8))
        cv2.imwrite(str(tmp_path / "small.png"), np.ones((3, 4), np.uint8))
        with pytest.raises(FormatError, match=rf"{name} must have shape \(60, 80\)"):
            read_label_boxes(tmp_path / name, scan)
    cv2.imwrite(
        str(tmp_path / "colour.png"),
        np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8),
    )
    with pytest.raises(FormatError, match=r"colour\.png must have one label a pixel, got colo"):
        read_label_boxes(tmp_path / "colour.png", scan)


def test_dicom_that_is_no_seg_is_refused(tmp_path):
    folder = write_series(tmp_path / "ct", 3)
    scan = open_scan(folder)
    with pytest.raises(FormatError, match=r"IM0001\.dcm must be a DICOM SEG or RTSTRUCT"):
        read_label_boxes(folder / "IM0001.dcm", scan)
    with pytest.raises(FormatError, match=r"none\.dcm cannot be read"):
        read_label_boxes(tmp_path / "none.dcm", scan)


def test_files_of_words_are_told_from_those_of_labels(tmp_path):
    folder = write_series(tmp_path / "ct", 1)
    unnamed = (folder / "IM0000.dcm").rename(tmp_path / "unnamed")
    for name in ("a.nii.gz", "a.PNG", "a.mha", "a.npz", "a.dcm"):
        assert is_labels_name(tmp_path / name)
    assert is_labels_name(unnamed)
    for name in ("a.csv", "a.json", "a.txt", "none"):
        assert not is_labels_name(tmp_path / name)
