"""Whether slices lie on one grid, and where labels of them lie in NIfTI."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
import SimpleITK

from qmedsam.formats.dicom.frames import frames_of
from qmedsam.formats.dicom.geometry import grid_of, straighten
from qmedsam.formats.dispatch import open_scan
from qmedsam.formats.scan import FormatError
from qmedsam.formats.writing import write_labels
from tests.qmedsam.formats.dicom.conftest import headers, write_series


def moved(shifts):
    """Return a change that moves slices, by number, by millimetres."""

    def change(number, dataset):
        if number in shifts:
            place = np.array(dataset.ImagePositionPatient, dtype=float) + shifts[number]
            dataset.ImagePositionPatient = place.tolist()

    return change


def leaning(degrees, along=1):
    """Return a change that shifts each slice evenly along an axis, as a tilted gantry does."""

    def change(number, dataset):
        place = [1.0, 2.0, 2.0 * number]
        place[along] += 2.0 * number * np.tan(np.radians(degrees))
        dataset.ImagePositionPatient = [round(each, 9) for each in place]

    return change


def grid(folder, **options):
    """Return the grid of a series."""
    frames, _ = frames_of(headers(write_series(folder, **options)))
    found = grid_of(frames)
    assert found is not None
    return found


def test_the_grid_has_rows_and_columns_and_the_way_from_slice_to_slice(tmp_path):
    found = grid(tmp_path / "ct")
    assert found.problem == ""
    assert found.affine.tolist() == [[0.5, 0, 0, 1], [0, 0.7, 0, 2], [0, 0, 2, 0], [0, 0, 0, 1]]
    assert not found.is_sheared


@pytest.mark.parametrize(
    ("shifts", "problem"),
    [
        ({2: (0, 0, 0.15)}, ""),  # a tenth of 2 mm is tolerated
        ({2: (0, 0, 0.25)}, "Slices lie 1.75 to 2.25 mm apart, most between IM0001.dcm and"),
        ({4: (0, 0, 2)}, "Slices lie 2 to 4 mm apart, most between IM0003.dcm and IM0004.dcm"),
        ({2: (0.04, 0, 0)}, ""),  # and of a pixel
        ({2: (0.06, 0, 0)}, "IM0002.dcm lies 0.06 mm beside the line of the other slices."),
        ({3: (0, 20, 0)}, "IM0003.dcm lies 20 mm beside the line of the other slices."),
        ({0: (3, 4, 0)}, "IM0000.dcm lies 5 mm beside the line of the other slices."),
        ({4: (-3, 0, 0)}, "IM0004.dcm lies 3 mm beside the line of the other slices."),
    ],
)
def test_a_slice_beside_the_grid_is_named(tmp_path, shifts, problem):
    assert grid(tmp_path / "ct", change=moved(shifts)).problem.startswith(problem)
    scan = open_scan(tmp_path / "ct")
    assert (".nii" in scan.label_suffixes) == (not problem)
    assert scan.remarks == ((scan._grid.problem,) if problem else ())
    if problem:
        with pytest.raises(FormatError, match="even distances in a line"):
            scan.check(".nii.gz")
    scan.check(".dcm")


def test_gaps_that_drift_add_up(tmp_path):
    """Gaps of 0.99 and 1.01 mm are even within 2 %, yet the middle slice lies 0.6 mm off."""

    def change(number, dataset):
        place = 0.99 * number if number < 60 else 0.99 * 60 + 1.01 * (number - 60)
        dataset.ImagePositionPatient = [0, 0, round(place, 6)]

    found = grid(tmp_path / "ct", count=121, change=change)
    assert found.problem.startswith("Slices lie 0.99 to 1.01 mm apart")


def test_rounded_positions_are_even(tmp_path):
    """At 1.25 mm with one decimal, gaps are 1.2 and 1.3 mm."""

    def change(number, dataset):
        dataset.ImagePositionPatient = [0, 0, round(1.25 * number + 1e-9, 1)]

    assert grid(tmp_path / "ct", count=9, change=change).problem == ""


@pytest.mark.parametrize(("degrees", "along"), [(15, 1), (-12.5, 0)])
def test_tilt_is_an_even_shift_with_a_warning(tmp_path, degrees, along):
    found = grid(tmp_path / "ct", change=leaning(degrees, along))
    assert found.problem == ""
    assert found.is_sheared
    assert found.tilt_degrees() == pytest.approx(abs(degrees), abs=1e-5)
    (remark,) = open_scan(tmp_path / "ct").remarks
    assert f"tilted by {abs(degrees):.1f} degrees" in remark
    assert "which ITK does not read; --straighten" in remark


def test_a_lean_within_rounding_is_none(tmp_path):
    """Over four slices 0.03 mm, less than a tenth of a pixel: no shear is written."""
    found = grid(tmp_path / "ct", change=leaning(0.2))
    assert not found.is_sheared
    assert found.affine[:3, 2].tolist() == [0, 0, 2]


def test_straight_slices_lie_where_leaning_ones_did(tmp_path):
    """Each labelled voxel keeps its place within half a pixel."""
    found = grid(tmp_path / "ct", change=leaning(-30))
    label_map = np.zeros((5, 8, 10), np.uint8)
    for z in range(5):
        label_map[z, z + 1, 2 * z] = z + 1
    straight, straight_grid = straighten(label_map, found)
    assert straight.shape == (5, 8 + 7, 10)  # 4 steps of 2 mm * tan 30, of 0.7 mm
    np.testing.assert_allclose(straight_grid.affine[:3, 2], [0, 0, 2], atol=1e-9)
    for label in range(1, 6):
        (before,) = np.argwhere(label_map == label)
        (after,) = np.argwhere(straight == label)
        places = [
            each.affine @ [*where[::-1], 1]
            for each, where in ((found, before), (straight_grid, after))
        ]
        assert np.abs(places[0] - places[1]).max() <= 0.35 + 1e-9


def test_labels_of_a_tilted_series_are_sheared_or_straight(tmp_path):
    folder = write_series(tmp_path / "ct", change=leaning(15))
    label_map = np.zeros((5, 8, 10), np.uint8)
    label_map[4, 3, 2] = 1
    place = np.array([1 + 0.5 * 2, 2 + 0.7 * 3 + 8 * np.tan(np.radians(15)), 8])
    for is_straight in (False, True):
        write_labels(open_scan(folder, straighten=is_straight), label_map, tmp_path / "a.nii")
        written = nibabel.load(tmp_path / "a.nii")
        ((i, j, k),) = np.argwhere(np.asarray(written.dataobj))
        found = (written.affine @ [i, j, k, 1])[:3] * [-1, -1, 1]
        np.testing.assert_allclose(found, place, atol=0.35 if is_straight else 1e-4)
        axes = written.affine[:3, :3] / np.linalg.norm(written.affine[:3, :3], axis=0)
        assert np.allclose(axes.T @ axes, np.eye(3), atol=1e-6) == is_straight
        if is_straight:
            SimpleITK.ReadImage(str(tmp_path / "a.nii"))
        else:
            with pytest.raises(RuntimeError, match="orthonormal"):
                SimpleITK.ReadImage(str(tmp_path / "a.nii"))
    plain, straight = open_scan(folder), open_scan(folder, straighten=True)
    np.testing.assert_array_equal(straight.pixels, plain.pixels)


def test_whether_a_straight_grid_fits_in_memory_is_decided_before(tmp_path, monkeypatch):
    folder = write_series(tmp_path / "ct", change=leaning(15))  # by 3 rows from first to last
    monkeypatch.setattr("qmedsam.formats.scan.largest_array_bytes", lambda: 4 * 5 * 11 * 10)
    open_scan(folder, straighten=True).check(".nii")
    monkeypatch.setattr("qmedsam.formats.scan.largest_array_bytes", lambda: 4 * 5 * 11 * 10 - 1)
    open_scan(folder).check(".nii")
    open_scan(folder, straighten=True).check(".dcm")
    with pytest.raises(FormatError, match=r"straight grid must hold 549 values at most .* got 550"):
        open_scan(folder, straighten=True).check(".nii")


def test_a_straight_grid_may_be_longer_than_nifti_1_has_it(tmp_path):
    def change(number, dataset):
        dataset.ImagePositionPatient = [1, 2 + 7000 * number, 2 * number]

    label_map = np.zeros((5, 8, 10), np.uint8)
    label_map[4, 3, 2] = 1
    scan = open_scan(write_series(tmp_path / "ct", change=change), straighten=True)
    write_labels(scan, label_map, tmp_path / "a.nii", notes=scan.notes_of(["disc"]))
    written = nibabel.load(tmp_path / "a.nii")
    assert written.shape == (10, 40_008, 5)
    assert np.argwhere(np.asarray(written.dataobj)).tolist() == [[2, 40_003, 4]]
    np.testing.assert_allclose(
        written.affine @ [2, 40_003, 4, 1], [-2, -2 - 28_000 - 2.1, 8, 1], rtol=1e-6
    )
    assert b"disc" in written.header.extensions[0].get_content()


def test_without_distances_of_pixels_there_is_no_grid(tmp_path):
    folder = write_series(tmp_path / "ct", change=lambda _, dataset: dataset.pop("PixelSpacing"))
    scan = open_scan(folder)
    assert scan.label_suffixes == (".dcm",)
    with pytest.raises(FormatError, match="NIfTI needs the places of slices and pixels"):
        scan.check(".nii")
