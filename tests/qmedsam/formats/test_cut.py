"""In which plane volumes are cut, and where boxes come to lie."""

from __future__ import annotations

import itertools

import nibabel
import numpy as np
import pytest
from nibabel import orientations

from qmedsam.core.prompts import check_prompts
from qmedsam.formats.cut import cut_volume
from qmedsam.formats.intensity import IntensityWindow
from qmedsam.formats.nifti import NiftiScan
from qmedsam.formats.scan import FormatError

SAME = IntensityWindow(127.5, 255)  # the window in which values stay as they are
EVERY_ORIENTATION = [
    "".join(signs)
    for axes in itertools.permutations(("RL", "AP", "IS"))
    for signs in itertools.product(*axes)
]


def scan_of(values: np.ndarray, affine: np.ndarray, **choices) -> NiftiScan:
    content = nibabel.Nifti1Image(values, affine).to_bytes()
    return NiftiScan("scan.nii", content, SAME, **choices)


def stored_as(codes: str, values: np.ndarray, sides=(1, 1, 1)) -> tuple[np.ndarray, np.ndarray]:
    """Return values (right, front, up) and their affine as a file of some orientation has them."""
    image = nibabel.Nifti1Image(values, np.diag([*sides, 1.0]))
    target = orientations.axcodes2ornt(tuple(codes))
    image = image.as_reoriented(
        orientations.ornt_transform(orientations.axcodes2ornt("RAS"), target)
    )
    return np.asarray(image.dataobj), image.affine


@pytest.mark.parametrize(
    ("shape", "sides", "plane"),
    [
        ((40, 30, 8), (1, 1, 3), "axial"),
        ((40, 8, 30), (1, 3, 1), "coronal"),
        ((8, 40, 30), (3, 1, 1), "sagittal"),
        ((40, 60, 30), (3, 1, 1), "sagittal"),
        ((128, 1, 128), (1, 1, 1), "coronal"),
        ((128, 1, 128), (9, 1, 1), "coronal"),
        ((1, 40, 30), (1, 1, 5), "sagittal"),
        ((1, 1, 30), (1, 1, 1), "sagittal"),
        ((1, 30, 1), (1, 1, 1), "axial"),
        ((7, 64, 60), (1, 1, 1), "sagittal"),
        ((60, 7, 64), (1, 1, 1.2), "coronal"),
        ((60, 64, 62), (1, 1, 1), "axial"),
        ((44, 64, 62), (1, 1, 1), "axial"),
        ((60, 64, 62), (1.2, 0.9, 0.9), "axial"),
        ((60, 64, 62), (0.5, 3, 3), "axial"),
        ((60, 64, 62), (1.5, 1, 1), "sagittal"),
        ((60, 64, 62), (1.49, 1, 1), "axial"),
        ((30, 64, 60), (1, 1, 1), "sagittal"),
        ((31, 64, 60), (1, 1, 1), "axial"),
    ],
)
def test_slices_are_cut_as_they_were_taken(shape, sides, plane):
    assert cut_volume(shape, np.diag([*sides, 1.0]), "auto").plane == plane


def test_another_plane_may_be_asked_for():
    for plane in ("axial", "coronal", "sagittal"):
        assert cut_volume((40, 30, 8), np.diag([1.0, 1, 3, 1]), plane).plane == plane
    with pytest.raises(FormatError, match="one of auto, axial, coronal, sagittal, got 'oblique'"):
        cut_volume((40, 30, 8), np.eye(4), "oblique")


@pytest.mark.parametrize("codes", EVERY_ORIENTATION)
@pytest.mark.parametrize(
    ("plane", "row", "column", "through"),
    [
        ("axial", "to the back", "to the left", "up"),
        ("coronal", "down", "to the left", "to the back"),
        ("sagittal", "down", "to the back", "to the right"),
    ],
)
def test_slices_are_turned_as_a_radiologist_sees_them(codes, plane, row, column, through):
    """Values grow to the right by 1, to the front by 10 and up by 60."""
    right, front, up = np.indices((5, 6, 3))
    values = (right + 10 * front + 60 * up).astype(np.uint8)
    steps = {
        "to the right": 1,
        "to the left": -1,
        "to the back": -10,
        "up": 60,
        "down": -60,
    }
    pixels = scan_of(*stored_as(codes, values), plane=plane).pixels.astype(int)
    assert set(np.diff(pixels, axis=2).ravel().tolist()) == {steps[column]}
    assert set(np.diff(pixels, axis=1).ravel().tolist()) == {steps[row]}
    assert set(np.diff(pixels, axis=0).ravel().tolist()) == {steps[through]}


@pytest.mark.parametrize("codes", EVERY_ORIENTATION)
@pytest.mark.parametrize("plane", ["auto", "axial", "coronal", "sagittal"])
def test_a_box_of_voxels_is_the_same_voxels_in_any_plane(codes, plane):
    values = np.random.default_rng(0).integers(1, 250, (6, 7, 5), dtype=np.uint8)
    stored, affine = stored_as(codes, values, sides=(1, 4, 1))
    scan = scan_of(stored, affine, plane=plane)
    low, high = (1, 0, 2), (3, 2, 4)
    (box,) = scan.boxes_to_pixels([[*low, *high]]).astype(int)
    x0, y0, z0, x1, y1, z1 = box
    seen = scan.pixels[z0 : z1 + 1, y0 : y1 + 1, x0 : x1 + 1]
    own = stored[1:4, 0:3, 2:5]
    np.testing.assert_array_equal(np.sort(seen.ravel()), np.sort(own.ravel()))
    label_map = np.zeros(scan.label_shape, np.uint8)
    label_map[z0 : z1 + 1, y0 : y1 + 1, x0 : x1 + 1] = 1
    written = nibabel.Nifti1Image.from_bytes(scan.encode(label_map, ".nii", scan.notes_of(())))
    expected = np.zeros(stored.shape)
    expected[1:4, 0:3, 2:5] = 1
    np.testing.assert_array_equal(np.asarray(written.dataobj), expected)
    np.testing.assert_array_equal(written.affine, affine)


@pytest.mark.parametrize("codes", ["RAS", "LPS", "SAR", "PIR", "LAI"])
def test_a_single_slice_is_a_picture_in_its_own_plane(codes):
    values = np.random.default_rng(0).integers(1, 250, (8, 1, 6), dtype=np.uint8)
    stored, affine = stored_as(codes, values)
    scan = scan_of(stored, affine)
    assert (scan.is_volume, scan.plane, scan.label_shape) == (False, "coronal", (6, 8))
    np.testing.assert_array_equal(scan.pixels, values[::-1, 0, ::-1].T)
    axis = stored.shape.index(1)
    six = np.array([[2, 2, 2, 4, 4, 4]])
    six[:, [axis, axis + 3]] = 0
    four = [[2, 2, 4, 4]]
    np.testing.assert_array_equal(scan.boxes_to_pixels(six), scan.boxes_to_pixels(four))
    ((x0, y0, x1, y1),) = scan.boxes_to_pixels(four).astype(int)
    own = stored.squeeze(axis)[2:5, 2:5]
    seen = scan.pixels[y0 : y1 + 1, x0 : x1 + 1]
    np.testing.assert_array_equal(np.sort(seen.ravel()), np.sort(own.ravel()))
    six[:, [axis, axis + 3]] = 1, 2
    with pytest.raises(FormatError, match=r"must be on the file's only slice, . = 0, got"):
        scan.boxes_to_pixels(six)
    label_map = (scan.pixels > 99).astype(np.uint8)
    written = nibabel.Nifti1Image.from_bytes(scan.encode(label_map, ".nii", scan.notes_of(())))
    np.testing.assert_array_equal(np.asarray(written.dataobj), stored > 99)


@pytest.mark.parametrize("codes", ["RAS", "LPI"])
@pytest.mark.parametrize(
    ("low", "high", "first", "last"),
    [(2.5, 4.5, 3, 5), (2.4, 4.4, 2, 4), (2.6, 4.6, 3, 5), (-0.5, 0.5, 0, 1), (8.4, 9.4, 8, 9)],
)
def test_half_a_slice_belongs_to_the_next_one_of_the_file_either_way(codes, low, high, first, last):
    values = np.random.default_rng(0).integers(1, 250, (6, 7, 10), dtype=np.uint8)
    scan = scan_of(values, nibabel.Nifti1Image(*stored_as(codes, values)).affine)
    written = np.array([[1, 1, low, 3, 3, high]])
    prompts = check_prompts(scan.pixels, scan.boxes_to_pixels(written), written=written)
    slices = np.zeros(10, bool)
    z0, z1 = prompts.slices[0]
    slices[z0 : z1 + 1] = True
    own = slices if codes == "RAS" else slices[::-1]
    assert np.flatnonzero(own).tolist() == list(range(first, last + 1))
    assert any("rounded" in note for note in prompts.notes)


@pytest.mark.parametrize("codes", ["RAS", "LPI"])
def test_corners_that_are_swapped_are_said_either_way(codes):
    stored, affine = stored_as(codes, np.ones((6, 7, 3), np.uint8))
    scan = scan_of(stored, affine)
    for written, is_swapped in (([[3, 1, 0, 1, 3, 2]], True), ([[1, 1, 0, 3, 3, 2]], False)):
        rows = np.array(written)
        prompts = check_prompts(scan.pixels, scan.boxes_to_pixels(rows), written=rows)
        assert any("order" in note for note in prompts.notes) == is_swapped


def test_boxes_that_read_like_normalised_ones_are_found_out_in_any_plane():
    scan = scan_of(np.ones((40, 6, 30), np.uint8), np.diag([1.0, 3, 1, 1]))
    rows = np.array([[0.1, 2, 0.3, 0.5, 4, 0.9]])
    boxes = scan.boxes_to_pixels(rows)
    assert scan.plane_axes == (0, 2)
    with pytest.raises(Exception, match="read like normalised ones"):
        check_prompts(scan.pixels, boxes, written=rows, plane_axes=scan.plane_axes)
