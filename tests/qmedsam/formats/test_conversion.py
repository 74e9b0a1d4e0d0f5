"""Labels that are there already as label maps of an image: on its grid, by their own numbers."""

from __future__ import annotations

import itertools

import nibabel
import numpy as np
import pytest
import SimpleITK
from nibabel.orientations import axcodes2ornt, ornt_transform
from PIL import Image

from qmedsam.formats.conversion import read_labels
from qmedsam.formats.dispatch import open_scan, write_labels
from qmedsam.formats.scan import FormatError, LabelNotes
from tests.qmedsam.formats.dicom.conftest import write_series

SHAPE = (7, 6, 5)  # to the right, front and top
AFFINE = np.array([[1.0, 0, 0, -30], [0, 2, 0, 12], [0, 0, 4, 5], [0, 0, 0, 1]])
LABELS = np.random.default_rng(0).choice([0, 0, 3, 7, 300], SHAPE).astype(np.int16)
EVERY_ORIENTATION = [
    "".join(signs)
    for axes in itertools.permutations(("RL", "AP", "IS"))
    for signs in itertools.product(*axes)
]


def stored_as(codes: str, values: np.ndarray = LABELS) -> nibabel.Nifti1Image:
    """Return a file of values (right, front, up) whose axes run as the codes say."""
    turn = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(tuple(codes)))
    return nibabel.Nifti1Image(values, AFFINE).as_reoriented(turn)


@pytest.fixture
def volume(tmp_path):
    nibabel.save(stored_as("RAS", np.ones(SHAPE, np.int16)), tmp_path / "image.nii")
    return open_scan(tmp_path / "image.nii")


@pytest.mark.parametrize("codes", EVERY_ORIENTATION)
@pytest.mark.parametrize("own", ["RAS", "PIL"])
def test_labels_on_the_grid_come_in_any_order_and_direction_of_axes(tmp_path, own, codes):
    nibabel.save(stored_as(own, np.ones(SHAPE, np.int16)), tmp_path / "image.nii")
    nibabel.save(stored_as(codes), tmp_path / "labels.nii")
    scan = open_scan(tmp_path / "image.nii")
    found = read_labels(tmp_path / "labels.nii", scan)
    write_labels(scan, found.label_map, tmp_path / "written.nii")
    written = np.asarray(nibabel.load(tmp_path / "written.nii").dataobj)
    np.testing.assert_array_equal(written, np.asarray(stored_as(own).dataobj))
    assert (found.names, found.remarks) == ((), ())


@pytest.mark.parametrize("name", ["labels.nrrd", "labels.mha", "labels.nii.gz"])
def test_every_format_of_volumes_has_labels(tmp_path, volume, name):
    nibabel.save(stored_as("LPS"), tmp_path / "plain.nii")
    SimpleITK.WriteImage(SimpleITK.ReadImage(str(tmp_path / "plain.nii")), str(tmp_path / name))
    expected = LABELS[::-1, ::-1].T  # slices, rows to the back, columns to the left
    np.testing.assert_array_equal(read_labels(tmp_path / name, volume).label_map, expected)


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.tiff", "a.bmp", "a.gif"])
def test_every_format_of_pictures_that_keeps_values_has_labels(tmp_path, name):
    Image.new("RGB", (8, 6)).save(tmp_path / "image.png")
    labels = np.zeros((6, 8), np.uint8)
    labels[1:3, 2:5], labels[4, 6] = 3, 7
    Image.fromarray(labels).save(tmp_path / name)
    found = read_labels(tmp_path / name, open_scan(tmp_path / "image.png"))
    np.testing.assert_array_equal(found.label_map, labels)


@pytest.mark.parametrize(
    ("values", "affine"),
    [
        (LABELS, AFFINE + 0.5 * np.eye(4, k=3)),
        (LABELS[:, :, :4], AFFINE),
        (np.kron(LABELS, np.ones((2, 1, 1), np.int16)), AFFINE @ np.diag([0.5, 1, 1, 1])),
        (LABELS, AFFINE @ np.diag([1.1, 1, 1, 1])),
    ],
    ids=["half-a-voxel-aside", "a-slice-less", "twice-as-fine", "another-side"],
)
def test_labels_on_another_grid_are_refused(tmp_path, volume, values, affine):
    nibabel.save(nibabel.Nifti1Image(values, affine), tmp_path / "a.nii")
    with pytest.raises(FormatError, match=r"a\.nii must have labels on the grid of the image, \("):
        read_labels(tmp_path / "a.nii", volume)


@pytest.mark.parametrize("value", [-1, 0.5, 70_000, np.nan])
def test_what_is_no_label_is_refused(tmp_path, volume, value):
    nibabel.save(stored_as("RAS", np.full(SHAPE, value, np.float32)), tmp_path / "a.nii")
    message = rf"a\.nii must have labels, whole from 0 to 65535, got {value:g}"
    with pytest.raises(FormatError, match=message):
        read_labels(tmp_path / "a.nii", volume)


def test_segments_keep_their_numbers_and_names(tmp_path):
    scan = open_scan(write_series(tmp_path / "ct", 3))
    label_map = np.zeros(scan.label_shape, np.uint8)
    label_map[1:, 2:4, 3], label_map[0, 5, 5] = 3, 1
    notes = LabelNotes("window lung", ("nail", "", "liver"))
    write_labels(scan, label_map, tmp_path / "a.dcm", notes)
    found = read_labels(tmp_path / "a.dcm", scan)
    np.testing.assert_array_equal(found.label_map, label_map)
    assert found.names == ("nail", "Object 2", "liver")
