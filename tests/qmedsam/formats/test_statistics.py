"""What is measured of objects, beside what NumPy and nibabel say of the same voxels."""

from __future__ import annotations

import csv
import itertools
import json

import cv2
import nibabel
import numpy as np
import pytest
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, ornt_transform

from qmedsam.formats.dispatch import open_scan
from qmedsam.formats.label_notes import LabelNotes
from qmedsam.formats.scan import FormatError
from qmedsam.formats.statistics import (
    check_statistics_name,
    statistics_of,
    write_statistics,
)
from tests.qmedsam.formats.dicom.conftest import ct_slice, save, write_series

NOTES = LabelNotes("", ("liver", ""))
ORIENTATIONS = [
    "".join(sides)
    for axes in itertools.permutations(["RL", "AP", "SI"])
    for sides in itertools.product(*axes)
]
RAS_TO_LPS = np.array([-1, -1, 1])


def nifti_in(folder, orientation, *, turn=0.0):
    """Write a volume whose voxels are 1 x 2 x 4 mm, turned by an angle about the last axis."""
    values = np.random.default_rng(3).normal(100, 30, (7, 6, 5)).astype(np.float32)
    back = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(tuple(orientation)))
    cosine, sine = np.cos(turn), np.sin(turn)
    turned = np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turned @ np.diag([1, 2, 4])
    affine[:3, 3] = [-30, 12, 5]
    affine = affine @ inv_ornt_aff(back, (7, 6, 5))
    own = nibabel.orientations.apply_orientation(values, back)
    path = folder / f"{orientation}.nii"
    nibabel.save(nibabel.Nifti1Image(own, affine), path)
    return path


@pytest.mark.parametrize("turn", [0.0, 0.3])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_objects_of_a_volume_are_measured_where_they_are(tmp_path, orientation, turn):
    path = nifti_in(tmp_path, orientation, turn=turn)
    scan = open_scan(path)
    label_map = np.zeros(scan.label_shape, np.uint8)
    label_map[1:3, 1:4, 2:5] = 1
    label_map[2, 2, 3] = 2
    liver, single = statistics_of(scan, label_map, notes=NOTES, quality=[0.9, np.nan])
    written = tmp_path / "labels.nii"
    written.write_bytes(scan.encode(label_map, ".nii", NOTES))
    image, found = nibabel.load(path), nibabel.load(written)
    for statistics, label, name in ((liver, 1, "liver"), (single, 2, "Object 2")):
        places = np.argwhere(np.asarray(found.dataobj) == label)
        values = np.asarray(image.dataobj)[tuple(places.T)]
        assert (statistics.label, statistics.name) == (label, name)
        assert statistics.voxels == len(places)
        assert statistics.volume_mm3 == pytest.approx(len(places) * 8)
        assert statistics.area_mm2 is None
        np.testing.assert_allclose(statistics.mean, [values.mean()], rtol=1e-5)
        np.testing.assert_allclose(statistics.deviation, [values.std()], rtol=1e-5, atol=1e-5)
        assert (statistics.low, statistics.high) == ((values.min(),), (values.max(),))
        np.testing.assert_allclose(statistics.centre, places.mean(axis=0))
        assert statistics.first == tuple(places.min(axis=0))
        assert statistics.last == tuple(places.max(axis=0))
        corners = places[:, None] + np.array(list(itertools.product([-0.5, 0.5], repeat=3)))
        centre = nibabel.affines.apply_affine(image.affine, places.mean(axis=0)) * RAS_TO_LPS
        in_mm = nibabel.affines.apply_affine(image.affine, corners.reshape(-1, 3)) * RAS_TO_LPS
        np.testing.assert_allclose(statistics.centre_mm, centre, atol=1e-4)
        np.testing.assert_allclose(statistics.low_mm, in_mm.min(axis=0), atol=1e-4)
        np.testing.assert_allclose(statistics.high_mm, in_mm.max(axis=0), atol=1e-4)
    assert (liver.quality, single.quality) == (0.9, None)


def test_hounsfield_units_and_places_of_dicom_are_those_of_its_files(tmp_path):
    scan = open_scan(write_series(tmp_path / "ct", 3))
    label_map = np.zeros(scan.label_shape, np.uint8)
    label_map[1:, 2:4, 3] = 1
    (found,) = statistics_of(scan, label_map, notes=LabelNotes(""))
    assert found.mean == (-850.0,)  # of slices of -900 and -800
    assert found.deviation == (50.0,)
    assert found.volume_mm3 == pytest.approx(4 * 0.5 * 0.7 * 2)
    assert found.centre_mm == pytest.approx((1 + 3 * 0.5, 2 + 2.5 * 0.7, 3))
    assert (found.first, found.last) == ((3, 2, 1), (3, 3, 2))


def test_an_image_without_a_place_has_an_area_by_its_spacing(tmp_path):
    dataset = ct_slice(ImagePositionPatient=None, ImageOrientationPatient=None)
    scan = open_scan(save(dataset, tmp_path / "a.dcm"))
    label_map = np.zeros(scan.label_shape, np.uint8)
    label_map[2:4, 3:8] = 1
    (found,) = statistics_of(scan, label_map, notes=LabelNotes(""))
    assert found.area_mm2 == pytest.approx(10 * 0.5 * 0.7)
    assert (found.volume_mm3, found.centre_mm, found.low_mm) == (None, None, None)
    assert scan.spacing == (0.5, 0.7)


def test_slices_at_uneven_distances_have_no_volume(tmp_path):
    folder = write_series(tmp_path / "ct", 3)
    save(ct_slice(2, ImagePositionPatient=[1, 2, 9]), folder / "IM0002.dcm")
    scan = open_scan(folder)
    (found,) = statistics_of(scan, np.ones(scan.label_shape, np.uint8), notes=LabelNotes(""))
    assert (found.voxels, found.volume_mm3, found.centre_mm) == (240, None, None)


def test_colours_are_measured_apart(tmp_path):
    pixels = np.zeros((6, 8, 3), np.uint8)
    pixels[1:3, 2:4] = [250, 100, 10]
    cv2.imwrite(str(tmp_path / "a.png"), pixels[..., ::-1])
    scan = open_scan(tmp_path / "a.png")
    (found,) = statistics_of(scan, pixels[..., 0] > 0, notes=LabelNotes(""))
    assert (found.mean, found.deviation) == ((250, 100, 10), (0, 0, 0))
    assert (found.centre, found.area_mm2) == ((2.5, 1.5, 0), None)
    write_statistics(tmp_path / "a.csv", scan, [found])
    (row,) = csv.DictReader((tmp_path / "a.csv").read_text().splitlines())
    assert (row["mean_red"], row["mean_green"], row["max_blue"]) == ("250.0", "100.0", "10.0")
    assert (row["x_min"], row["x_max"], row["area_mm2"]) == ("2", "3", "")


def test_what_is_no_measurement_does_not_count(tmp_path):
    values = np.full((4, 4, 2), 7, np.float32)
    values[0, 0, 0], values[1, 0, 0], values[2, 0, 0] = np.nan, np.inf, -np.finfo(np.float32).max
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / "a.nii")
    scan = open_scan(tmp_path / "a.nii")
    labels = np.ones(scan.label_shape, np.uint8)
    (found,) = statistics_of(scan, labels, notes=LabelNotes(""))
    assert (found.voxels, found.mean, found.deviation) == (32, (7,), (0,))
    values[...] = np.nan
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / "a.nii")
    (found,) = statistics_of(open_scan(tmp_path / "a.nii"), labels, notes=LabelNotes(""))
    assert (found.voxels, found.mean, found.low) == (32, None, None)


def test_large_numbers_lose_no_digits_over_slices(tmp_path):
    values = np.random.default_rng(0).normal(1e6, 1, (30, 20, 40))
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / "a.nii")
    scan = open_scan(tmp_path / "a.nii")
    (found,) = statistics_of(scan, np.ones(scan.label_shape, bool), notes=LabelNotes(""))
    assert found.deviation[0] == pytest.approx(values.std(), rel=1e-9)


def test_an_object_of_which_nothing_was_found_has_a_row(tmp_path):
    path = nifti_in(tmp_path, "RAS")
    scan = open_scan(path)
    found = statistics_of(
        scan, np.zeros(scan.label_shape, np.uint8), notes=NOTES, quality=[0.0, 0.5]
    )
    assert [(each.voxels, each.volume_mm3, each.centre) for each in found] == [(0, 0, None)] * 2
    write_statistics(tmp_path / "a.json", scan, found)
    document = json.loads((tmp_path / "a.json").read_text())
    assert [each["name"] for each in document["objects"]] == ["liver", "Object 2"]
    assert (
        document["objects"][1] | {"centre_x": None, "quality": 0.5, "mean": None}
        == (document["objects"][1])
    )
    write_statistics(tmp_path / "none.csv", scan, [])
    assert (tmp_path / "none.csv").read_text().startswith("label,name,quality,voxels,volume_mm3")


def test_labels_that_neither_occur_nor_have_a_name_have_no_row(tmp_path):
    scan = open_scan(nifti_in(tmp_path, "RAS"))
    label_map = np.zeros(scan.label_shape, np.uint16)
    label_map[1, 1, 1], label_map[2, 2, 2] = 1, 3000
    names = LabelNotes("", (*([""] * 6), "liver", ""))
    found = statistics_of(scan, label_map, notes=names)
    rows = [(each.label, each.name, each.voxels) for each in found]
    assert rows == [(1, "Object 1", 1), (7, "liver", 0), (3000, "Object 3000", 1)]
    found = statistics_of(scan, label_map, notes=names, quality=[np.nan, 0.0])
    assert [each.label for each in found] == [1, 2, 7, 3000]  # of which 2 is a box


def test_what_does_not_fit_is_refused(tmp_path):
    scan = open_scan(nifti_in(tmp_path, "RAS"))
    with pytest.raises(FormatError, match="must have the image's shape"):
        statistics_of(scan, np.zeros((2, 2), np.uint8), notes=NOTES)
    with pytest.raises(FormatError, match=r"a\.xlsx must end in \.csv, \.json"):
        check_statistics_name(tmp_path / "a.xlsx")


def test_a_table_has_the_columns_that_are_documented(tmp_path):
    scan = open_scan(nifti_in(tmp_path, "RAS"))
    write_statistics(tmp_path / "a.csv", scan, [])
    assert (tmp_path / "a.csv").read_text().strip().split(",") == [
        *("label", "name", "quality", "voxels", "volume_mm3", "area_mm2"),
        *("mean", "deviation", "min", "max", "centre_x", "centre_y", "centre_z"),
        *("x_min", "y_min", "z_min", "x_max", "y_max", "z_max"),
        *("centre_left_mm", "centre_posterior_mm", "centre_superior_mm"),
        *("left_min_mm", "posterior_min_mm", "superior_min_mm"),
        *("left_max_mm", "posterior_max_mm", "superior_max_mm"),
    ]


def test_a_case_has_no_millimetres(tmp_path):
    pixels = np.full((3, 4, 5), 7, np.uint8)
    np.savez(tmp_path / "a.npz", imgs=pixels, boxes=np.array([[0, 0, 0, 1, 1, 1]]))
    (found,) = statistics_of(open_scan(tmp_path / "a.npz"), pixels > 0, notes=LabelNotes(""))
    assert (found.voxels, found.mean) == (60, (7,))
    assert (found.volume_mm3, found.area_mm2, found.centre_mm) == (None, None, None)
