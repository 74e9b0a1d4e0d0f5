"""NIfTI in any orientation: seen as axial slices, written as it was."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
from nibabel import orientations
from nibabel.testing import data_path

from qmedsam.formats.intensity import IntensityWindow
from qmedsam.formats.nifti import NiftiScan
from qmedsam.formats.scan import FormatError

SHAPE = (20, 30, 10)  # left, back, up: of the body that is seen
VALUES = np.random.default_rng(0).integers(1, 250, SHAPE).astype(np.int16)
# A body of these values whose voxels are 2 x 3 x 4 mm, in the world of NIfTI (right, front, up).
LPS_AFFINE = np.array([[-2, 0, 0, 30], [0, -3, 0, 40], [0, 0, 4, -50], [0, 0, 0, 1.0]])
SAME = IntensityWindow(127.5, 255)  # the window in which values stay as they are
CODES = ["LPS", "RAS", "RPI", "PSL", "SAR", "AIL"]


def read(path: Path, window) -> NiftiScan:
    return NiftiScan(path.name, path.read_bytes(), window)


def write(scan: NiftiScan, label_map, path: Path, *names: str) -> None:
    path.write_bytes(scan.encode(label_map, "".join(path.suffixes), scan.notes_of(names)))


def stored_as(codes: str, affine=LPS_AFFINE) -> nibabel.Nifti1Image:
    image = nibabel.Nifti1Image(VALUES, affine)
    start = orientations.io_orientation(affine)
    target = orientations.axcodes2ornt(tuple(codes))
    return image.as_reoriented(orientations.ornt_transform(start, target))


def oblique() -> np.ndarray:
    """Turn the body by 20 degrees about two axes."""
    a = np.deg2rad(20)
    about_z = [[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]]
    about_x = [[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]]
    affine = LPS_AFFINE.copy()
    affine[:3, :3] = np.array(about_z) @ np.array(about_x) @ LPS_AFFINE[:3, :3]
    return affine


@pytest.mark.parametrize("codes", CODES)
@pytest.mark.parametrize("is_oblique", [False, True])
def test_any_orientation_is_seen_as_axial_slices(tmp_path, codes, is_oblique):
    path = tmp_path / "scan.nii.gz"
    nibabel.save(stored_as(codes, oblique() if is_oblique else LPS_AFFINE), path)
    scan = read(path, SAME)
    assert scan.pixels.shape == SHAPE[::-1]
    np.testing.assert_array_equal(scan.pixels, VALUES.T)


@pytest.mark.parametrize("codes", CODES)
@pytest.mark.parametrize("is_oblique", [False, True])
def test_labels_are_written_in_the_geometry_of_the_file(tmp_path, codes, is_oblique):
    path = tmp_path / "scan.nii.gz"
    nibabel.save(stored_as(codes, oblique() if is_oblique else LPS_AFFINE), path)
    scan = read(path, SAME)
    label_map = (scan.pixels > 128).astype(np.uint8)
    label_map[scan.pixels > 200] = 2
    write(scan, label_map, tmp_path / "labels.nii.gz", "disc", "")
    original, written = nibabel.load(path), nibabel.load(tmp_path / "labels.nii.gz")
    assert written.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(written.affine, original.affine)
    for code in ("sform_code", "qform_code", "xyzt_units"):
        assert written.header[code] == original.header[code]
    np.testing.assert_array_equal(written.header["pixdim"], original.header["pixdim"])
    assert b"window L 127.5 W 255" in bytes(written.header["descrip"].tobytes())
    info = json.loads(written.header.extensions[0].get_content())
    assert info["window"] == "window L 127.5 W 255"
    assert info["labels"] == {"1": "disc", "2": "Object 2"}
    values = np.asarray(original.dataobj)
    np.testing.assert_array_equal(np.asarray(written.dataobj) > 0, values > 128)
    np.testing.assert_array_equal(np.asarray(written.dataobj) == 2, values > 200)
    assert {file.name for file in tmp_path.iterdir()} == {"scan.nii.gz", "labels.nii.gz"}


@pytest.mark.parametrize("codes", CODES)
def test_boxes_are_of_the_voxels_of_the_file(tmp_path, codes):
    """A box round some voxels of the file is the box round the same ones of the pixels."""
    path = tmp_path / "scan.nii"
    nibabel.save(stored_as(codes), path)
    scan = read(path, SAME)
    values = np.asarray(nibabel.load(path).dataobj)
    for corner in itertools.product((0, 2), repeat=3):
        low = np.array(corner)
        high = low + np.array([3, 4, 5])
        (found,) = scan.boxes_to_pixels(np.array([[*low, *high]], dtype=np.float32)).astype(int)
        x0, y0, z0, x1, y1, z1 = found
        seen = scan.pixels[z0 : z1 + 1, y0 : y1 + 1, x0 : x1 + 1]
        region = values[tuple(slice(a, b + 1) for a, b in zip(low, high, strict=True))]
        np.testing.assert_array_equal(np.sort(seen.ravel()), np.sort(region.ravel()))


def test_slope_and_intercept_are_applied(tmp_path):
    image = nibabel.Nifti1Image(VALUES, LPS_AFFINE)
    image.header.set_slope_inter(2, -1000)
    raw = tmp_path / "scan.nii"
    nibabel.save(image, raw)
    stored = nibabel.load(raw)
    expected = np.clip(np.rint((np.asarray(stored.dataobj) + 160) * 255 / 400), 0, 255)
    found = read(raw, "soft-tissue")
    np.testing.assert_allclose(found.pixels.T.astype(int), expected, atol=1)
    write(found, (found.pixels > 9).astype(np.uint8), tmp_path / "labels.nii")
    labels = nibabel.load(tmp_path / "labels.nii")
    assert set(np.unique(np.asarray(labels.dataobj)).tolist()) <= {0, 1}


def test_a_fourth_axis_of_one_is_left_out_and_of_more_is_refused(tmp_path):
    nibabel.save(nibabel.Nifti1Image(VALUES[..., None], LPS_AFFINE), tmp_path / "one.nii")
    assert read(tmp_path / "one.nii", "percentiles").pixels.shape == SHAPE[::-1]
    nibabel.save(nibabel.Nifti1Image(np.stack([VALUES] * 2, -1), LPS_AFFINE), tmp_path / "two.nii")
    with pytest.raises(FormatError, match=r"one volume of numbers .*\(20, 30, 10, 2\)"):
        read(tmp_path / "two.nii", "percentiles")


@pytest.mark.parametrize("content", [b"", b"text" * 200])
@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz"])
def test_a_broken_file_is_named(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FormatError, match=f"{name} must be a readable NIfTI file"):
        read(tmp_path / name, "percentiles")


def test_a_truncated_file_is_named(tmp_path):
    path = tmp_path / "scan.nii.gz"
    nibabel.save(nibabel.Nifti1Image(VALUES, LPS_AFFINE), path)
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(FormatError, match="readable NIfTI file"):
        read(path, "percentiles")


@pytest.mark.parametrize("broken", [np.zeros((4, 4)), np.diag([2.0, 0, 4, 1]), np.nan * np.eye(4)])
def test_an_affine_that_says_no_place_is_named(tmp_path, broken):
    path = tmp_path / "scan.nii"
    content = bytearray(nibabel.Nifti1Image(VALUES, LPS_AFFINE).to_bytes())
    content[280:328] = broken[:3].astype("<f4").tobytes()  # srow_x, srow_y and srow_z
    path.write_bytes(content)
    with pytest.raises(FormatError, match="readable NIfTI file"):
        read(path, "percentiles")


def test_voxels_that_are_not_finite_are_said(tmp_path):
    values = VALUES.astype(np.float32)
    values[:3] = np.nan
    nibabel.save(nibabel.Nifti1Image(values, LPS_AFFINE), tmp_path / "scan.nii")
    scan = read(tmp_path / "scan.nii", "percentiles")
    assert scan.remarks == ("900 values are no measurement and are seen as 0.",)
    assert not scan.pixels[..., :3].any()
    assert scan.pixels[..., 3:].mean() > 100


def test_labels_of_labels_have_one_note(tmp_path):
    image = nibabel.Nifti1Image(VALUES, LPS_AFFINE)
    image.header.set_intent("t test", (2,))
    nibabel.save(image, tmp_path / "scan.nii")
    scan = read(tmp_path / "scan.nii", "percentiles")
    label_map = (scan.pixels > 128).astype(np.uint8)
    write(scan, label_map, tmp_path / "labels.nii", "first")
    again = read(tmp_path / "labels.nii", "percentiles")
    write(again, label_map, tmp_path / "again.nii", "second")
    written = nibabel.load(tmp_path / "again.nii")
    (note,) = written.header.extensions
    assert b"second" in note.get_content()
    assert written.header.get_intent()[0] == "label"


def test_a_file_of_nibabel_itself_goes_round(tmp_path):
    path = f"{data_path}/anatomical.nii"
    scan = read(Path(path), "percentiles")
    original = nibabel.load(path)
    assert sorted(scan.pixels.shape) == sorted(original.shape[:3])
    write(scan, (scan.pixels > 99).astype(np.uint8), tmp_path / "labels.nii.gz", "")
    written = nibabel.load(tmp_path / "labels.nii.gz")
    assert written.shape == original.shape[:3]
    np.testing.assert_array_equal(written.affine, original.affine)
