"""NIfTI in any orientation: seen as slices, written as it was."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
from nibabel import orientations
from nibabel.cifti2 import BrainModelAxis, Cifti2Image
from nibabel.nifti1 import Nifti1Extension, Nifti1Pair
from nibabel.nifti2 import Nifti2Pair
from nibabel.testing import data_path

from qmedsam.formats.beside import files_beside
from qmedsam.formats.conversion import read_labels
from qmedsam.formats.dispatch import open_scan
from qmedsam.formats.intensity import IntensityWindow
from qmedsam.formats.nifti import NiftiScan
from qmedsam.formats.scan import FormatError, SeveralVolumesError
from qmedsam.formats.statistics import statistics_of
from qmedsam.formats.writing import write_labels

SHAPE = (20, 30, 10)  # left, back, up: of the body that is seen
VALUES = np.random.default_rng(0).integers(1, 250, SHAPE).astype(np.int16)
# A body of these values whose voxels are 2 x 3 x 4 mm, in the world of NIfTI (right, front, up).
LPS_AFFINE = np.array([[-2, 0, 0, 30], [0, -3, 0, 40], [0, 0, 4, -50], [0, 0, 0, 1.0]])
SAME = IntensityWindow(127.5, 255)  # the window in which values stay as they are
CODES = ["LPS", "RAS", "RPI", "PSL", "SAR", "AIL"]


def read(path: Path, window=None, **choices) -> NiftiScan:
    return NiftiScan(path.name, path.read_bytes(), window, beside=files_beside(path), **choices)


def write(scan: NiftiScan, label_map, path: Path, *names: str) -> None:
    path.write_bytes(scan.encode(label_map, "".join(path.suffixes), scan.notes_of(names)))


def cifti() -> Cifti2Image:
    """Return how each of eight voxels goes with each other."""
    mask = np.ones((2, 2, 2), dtype=bool)
    axis = BrainModelAxis.from_mask(mask, "thalamus_left", np.eye(4))
    return Cifti2Image(np.eye(8, dtype=np.float32), header=(axis, axis))


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


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
def test_the_rest_of_the_header_goes_with_labels(tmp_path, kind):
    image = kind(VALUES, LPS_AFFINE)
    image.set_sform(LPS_AFFINE, code=4)
    image.header.set_xyzt_units("mm", "sec")
    image.header["aux_file"], image.header["toffset"] = b"atlas", 7
    image.header.extensions.append(Nifti1Extension("comment", b"of the scanner"))
    nibabel.save(image, tmp_path / "scan.nii")
    scan = read(tmp_path / "scan.nii", SAME)
    write(scan, (scan.pixels > 99).astype(np.uint8), tmp_path / "labels.nii")
    written = nibabel.load(tmp_path / "labels.nii")
    assert type(written) is kind
    assert written.header.get_xyzt_units() == ("mm", "sec")
    assert [int(written.header[name]) for name in ("sform_code", "toffset")] == [4, 7]
    assert written.header["aux_file"].item() == b"atlas"
    assert written.header.extensions[0].get_content().rstrip(b"\0") == b"of the scanner"


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


def test_a_fourth_axis_of_one_is_left_out_and_of_more_wants_a_choice(tmp_path):
    nibabel.save(nibabel.Nifti1Image(VALUES[..., None], LPS_AFFINE), tmp_path / "one.nii")
    assert read(tmp_path / "one.nii", "percentiles").pixels.shape == SHAPE[::-1]
    nibabel.save(nibabel.Nifti1Image(np.stack([VALUES] * 2, -1), LPS_AFFINE), tmp_path / "two.nii")
    with pytest.raises(
        SeveralVolumesError, match=r"choose with --volume, got 2 of 20 x 30 x 10 voxels: 1 to 2"
    ):
        read(tmp_path / "two.nii", "percentiles")


@pytest.mark.parametrize("content", [b"", b"text" * 200])
@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz"])
def test_a_broken_file_is_named(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FormatError, match=f"{name} must be a readable NIfTI file"):
        read(tmp_path / name, "percentiles")


@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz"])
def test_a_truncated_file_is_named(tmp_path, name):
    path = tmp_path / name
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


@pytest.mark.parametrize("code", [2, 6, 32, 40], ids=["DICOM", "comment", "CIFTI", "unknown"])
def test_extensions_of_others_stay_with_the_labels(tmp_path, code):
    image = nibabel.Nifti1Image(VALUES, LPS_AFFINE)
    content = {2: b"", 32: cifti().header.to_xml()}.get(code, b"something else")
    image.header.extensions.append(Nifti1Extension(code, content))
    nibabel.save(image, tmp_path / "scan.nii")
    scan = read(tmp_path / "scan.nii")
    write(scan, np.zeros(scan.label_shape, np.uint8), tmp_path / "labels.nii", "organ")
    written = nibabel.load(tmp_path / "labels.nii").header.extensions
    assert [each.get_code() for each in written] == [code, 6]
    assert b"organ" in written[1].get_content()


def test_cifti_is_no_volume(tmp_path):
    nibabel.save(cifti(), tmp_path / "a.dconn.nii")
    with pytest.raises(FormatError, match=r"dconn\.nii must hold a volume, got CIFTI"):
        read(tmp_path / "a.dconn.nii")


def test_a_file_of_nibabel_itself_goes_round(tmp_path):
    path = f"{data_path}/anatomical.nii"
    scan = read(Path(path), "percentiles")
    original = nibabel.load(path)
    assert sorted(scan.pixels.shape) == sorted(original.shape[:3])
    write(scan, (scan.pixels > 99).astype(np.uint8), tmp_path / "labels.nii.gz", "")
    written = nibabel.load(tmp_path / "labels.nii.gz")
    assert written.shape == original.shape[:3]
    np.testing.assert_array_equal(written.affine, original.affine)


@pytest.mark.parametrize("number", [1, 2, 6])
@pytest.mark.parametrize("slope", [1, 2], ids=["as-stored", "rescaled"])
def test_a_volume_is_chosen_by_its_number(tmp_path, number, slope):
    """Of 3 times and 2 channels the times run faster, as they are stored."""
    volumes = np.stack([VALUES // (1 + each) for each in range(6)], axis=-1)
    image = nibabel.Nifti1Image(volumes.reshape(*SHAPE, 3, 2, order="F"), LPS_AFFINE)
    image.header.set_slope_inter(slope, 0)
    nibabel.save(image, tmp_path / "a.nii.gz")
    scan = read(tmp_path / "a.nii.gz", IntensityWindow(127.5, 255), volume=number)
    expected = volumes[..., number - 1].astype(float) * slope
    np.testing.assert_array_equal(scan.pixels.T, np.clip(expected, 0, 255))
    write(scan, (scan.pixels > 9).astype(np.uint8), tmp_path / "labels.nii.gz")
    assert nibabel.load(tmp_path / "labels.nii.gz").shape == SHAPE


@pytest.mark.parametrize("number", [0, 3, -1, True, "1"])
def test_a_volume_that_is_not_there_is_refused(tmp_path, number):
    nibabel.save(nibabel.Nifti1Image(np.stack([VALUES] * 2, -1), LPS_AFFINE), tmp_path / "a.nii")
    with pytest.raises(
        FormatError, match=r"a.nii must hold a volume .+, got 1 to 2 of 20 x 30 x 10"
    ):
        read(tmp_path / "a.nii", volume=number)


@pytest.mark.parametrize("given", ["hdr", "img"])
@pytest.mark.parametrize("end", ["", ".gz"])
@pytest.mark.parametrize("kind", [Nifti1Pair, Nifti2Pair])
def test_a_pair_is_read_by_either_file(tmp_path, given, end, kind):
    nibabel.save(kind(VALUES, LPS_AFFINE), tmp_path / f"scan.img{end}")
    scan = read(tmp_path / f"scan.{given}{end}", SAME)
    np.testing.assert_array_equal(scan.pixels, VALUES.T)
    write(scan, (scan.pixels > 99).astype(np.uint8), tmp_path / "labels.nii")
    written = nibabel.load(tmp_path / "labels.nii")
    np.testing.assert_array_equal(np.asarray(written.dataobj), VALUES > 99)
    np.testing.assert_array_equal(written.affine, LPS_AFFINE)


def test_half_of_a_pair_is_refused(tmp_path):
    nibabel.save(Nifti1Pair(VALUES, LPS_AFFINE), tmp_path / "scan.img")
    (tmp_path / "scan.img").unlink()
    with pytest.raises(FormatError, match=r"scan.hdr must have scan.img beside it, got: No such"):
        read(tmp_path / "scan.hdr")
    with pytest.raises(
        FormatError, match=r"scan.hdr must come with scan.img, which cannot be sent"
    ):
        NiftiScan("scan.hdr", (tmp_path / "scan.hdr").read_bytes())


def test_a_pair_that_does_not_say_left_from_right_is_refused(tmp_path):
    nibabel.save(nibabel.AnalyzeImage(VALUES, np.eye(4)), tmp_path / "scan.img")
    with pytest.raises(FormatError, match="readable NIfTI file, got: an Analyze file, which does"):
        read(tmp_path / "scan.img")


def test_a_slice_of_two_axes_is_a_picture_and_its_labels_too(tmp_path):
    nibabel.save(nibabel.Nifti1Image(VALUES[..., 4], LPS_AFFINE), tmp_path / "a.nii")
    scan = read(tmp_path / "a.nii", SAME)
    assert (scan.is_volume, scan.box_columns) == (False, (4, 6))
    np.testing.assert_array_equal(scan.pixels, VALUES[..., 4].T)
    write(scan, (scan.pixels > 99).astype(np.uint8), tmp_path / "labels.nii")
    written = nibabel.load(tmp_path / "labels.nii")
    np.testing.assert_array_equal(np.asarray(written.dataobj), VALUES[..., 4] > 99)
    np.testing.assert_array_equal(written.affine, nibabel.load(tmp_path / "a.nii").affine)


@pytest.mark.parametrize("slope", [1e-280, 1e-40, 1e-9, 1e40, 1e280])
def test_a_slope_of_any_size_keeps_the_contrast(tmp_path, slope):
    image = nibabel.Nifti2Image(VALUES, LPS_AFFINE)
    image.header.set_slope_inter(slope, 0)
    nibabel.save(image, tmp_path / "a.nii")
    assert read(tmp_path / "a.nii").pixels.std() > 60


def test_complex_values_colours_and_what_has_one_axis_are_refused(tmp_path):
    colours = np.zeros(SHAPE, dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    nibabel.save(nibabel.Nifti1Image(colours, LPS_AFFINE), tmp_path / "colours.nii")
    nibabel.save(nibabel.Nifti1Image(VALUES[:, 0, 0], LPS_AFFINE), tmp_path / "line.nii")
    nibabel.save(nibabel.Nifti1Image(VALUES * 1j, LPS_AFFINE), tmp_path / "complex.nii")
    for name in ("colours", "line", "complex"):
        with pytest.raises(FormatError, match=r"must hold a volume of numbers \(X, Y, Z\) or a"):
            read(tmp_path / f"{name}.nii")


def test_what_nibabel_says_of_a_header_does_not_reach_the_terminal(tmp_path, capfd):
    content = bytearray(nibabel.Nifti1Image(VALUES, LPS_AFFINE).to_bytes())
    content[80:84] = np.float32(-2).tobytes()  # the first voxel side
    (tmp_path / "a.nii").write_bytes(content)
    read(tmp_path / "a.nii")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["a.nii", "a.hdr"])
def test_what_does_not_fit_is_refused_before_it_is_decoded(tmp_path, monkeypatch, name):
    kind = Nifti1Pair if name == "a.hdr" else nibabel.Nifti1Image
    nibabel.save(kind(VALUES, LPS_AFFINE), tmp_path / name)
    monkeypatch.setattr("qmedsam.formats.scan.largest_array_bytes", lambda: 400)
    monkeypatch.setattr("qmedsam.formats.nifti._values", None)
    with pytest.raises(FormatError, match=r"must hold 100 values at most .* got 6000"):
        read(tmp_path / name)


@pytest.mark.parametrize(
    ("unit", "in_mm"), [("meter", 1e3), ("mm", 1), ("micron", 1e-3), ("unknown", 1)]
)
def test_places_are_in_millimetres_whatever_the_units_of_the_file(tmp_path, unit, in_mm):
    affine = np.array([[0, -1.0, 0, 5], [1, 0, 0, -7], [0, 0, 3, 9], [0, 0, 0, 1]])
    affine[:3] /= in_mm
    image = nibabel.Nifti1Image(np.ones((6, 5, 4), np.int16), affine)
    image.header.set_xyzt_units(unit, "sec")
    nibabel.save(image, tmp_path / "a.nii")
    scan = open_scan(tmp_path / "a.nii")
    label_map = np.zeros(scan.label_shape, np.uint8)
    label_map[1, 2:4, 3] = 1
    (found,) = statistics_of(scan, label_map, notes=scan.notes_of(()))
    assert found.volume_mm3 == pytest.approx(6)
    assert scan.spacing == pytest.approx((1, 1, 3))
    write_labels(scan, label_map, tmp_path / "labels.nii")
    written = nibabel.load(tmp_path / "labels.nii")
    np.testing.assert_allclose(written.affine, image.affine, rtol=1e-6)
    assert written.header.get_xyzt_units() == (unit, "sec")
    again = read_labels(tmp_path / "labels.nii", scan).label_map
    np.testing.assert_array_equal(again, label_map)


def test_labels_in_other_units_lie_at_the_same_places(tmp_path):
    for name, unit, in_mm in (("a.nii", "mm", 1), ("b.nii", "micron", 1e-3)):
        affine = np.diag([1 / in_mm, 1 / in_mm, 3 / in_mm, 1])
        image = nibabel.Nifti1Image(np.ones((6, 5, 4), np.int16), affine)
        image.header.set_xyzt_units(unit)
        nibabel.save(image, tmp_path / name)
    labels = read_labels(tmp_path / "b.nii", open_scan(tmp_path / "a.nii"))
    assert labels.label_map.all()
