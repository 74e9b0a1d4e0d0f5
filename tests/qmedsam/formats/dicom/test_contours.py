"""Outlines and the masks that they are of, there and back."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from matplotlib.path import Path as MatplotlibPath

from qmedsam.formats.dicom import contours
from qmedsam.formats.dicom.contours import fill, outlines_of


def by_another(polygon, hw):
    """Return the mask of a polygon by matplotlib, which winds around centres."""
    places = np.argwhere(np.ones(hw, bool))[:, ::-1]
    return MatplotlibPath(polygon).contains_points(places).reshape(hw)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.6, 0.8, 0.95])
@pytest.mark.parametrize("seed", range(8))
def test_noise_comes_back_as_it_was(share, seed):
    mask = np.random.default_rng(seed).random((19, 23)) < share
    outlines = outlines_of(mask)
    np.testing.assert_array_equal(fill(outlines, mask.shape), mask)
    whole = np.zeros(mask.shape, bool)
    for outline in outlines:  # no part covers another: whatever the rule, they add up
        part = by_another(outline, mask.shape)
        assert not (whole & part).any()
        whole |= part
    np.testing.assert_array_equal(whole, mask)


def test_rings_in_rings_are_parts_with_a_hole_each():
    mask = np.zeros((60, 60), np.uint8)
    for radius, value in ((28, 1), (22, 0), (15, 1), (6, 0)):
        cv2.circle(mask, (30, 30), radius, value, -1)
    outlines = outlines_of(mask > 0)
    assert len(outlines) == 2
    np.testing.assert_array_equal(fill(outlines, mask.shape), mask > 0)


def test_several_holes_are_tied_to_one_outline():
    mask = np.ones((9, 14), bool)
    mask[2:7, 2:4] = mask[2:5, 6:8] = mask[2, 10] = mask[4:6, 10:12] = False
    (outline,) = outlines_of(mask)
    np.testing.assert_array_equal(by_another(outline, mask.shape), mask)


def test_a_straight_side_has_no_points_between_its_ends():
    mask = np.zeros((50, 60), bool)
    mask[10:40, 5:55] = True
    (outline,) = outlines_of(mask)
    assert len(outline) == 8  # the corners are cut
    assert outline.min(axis=0).tolist() == [4.5, 9.5]
    assert outline.max(axis=0).tolist() == [54.5, 39.5]
    assert outlines_of(np.zeros((4, 4), bool)) == []


def test_the_border_of_the_image_is_an_outline():
    mask = np.ones((3, 4), bool)
    (outline,) = outlines_of(mask)
    assert (outline.min(), outline.max()) == (-0.5, 3.5)
    np.testing.assert_array_equal(fill([outline], mask.shape), mask)


def test_polygons_may_reach_beyond_the_image_and_cross():
    square = np.array([[-9.0, -9], [2.5, -9], [2.5, 99], [-9, 99]])
    mask = fill([square], (4, 6))
    np.testing.assert_array_equal(mask, np.tile([1, 1, 1, 0, 0, 0], (4, 1)).astype(bool))
    both = fill([square, square + np.array([1, 0])], (4, 6))
    np.testing.assert_array_equal(both, np.tile([0, 0, 0, 1, 0, 0], (4, 1)).astype(bool))
    assert not fill([np.array([[1.0, 1], [3, 3], [1, 1]])], (4, 6)).any()
    assert not fill([], (4, 6)).any()
    assert not fill([square + 1000], (4, 6)).any()


def test_a_contour_of_many_crossings_is_filled_part_by_part(monkeypatch):
    corners = np.array([(x, y) for x in range(40) for y in ((-1, 50) if x % 2 else (50, -1))])
    mask = fill([corners + 0.5], (40, 50))
    monkeypatch.setattr(contours, "CROSSINGS", 7)
    np.testing.assert_array_equal(fill([corners + 0.5], (40, 50)), mask)
    assert mask.any()
    assert not mask.all()
