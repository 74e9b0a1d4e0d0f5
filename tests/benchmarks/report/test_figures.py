"""The rows of the qualitative figures."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.report.figures import draw_figure, read_panels, readable_boxes


@pytest.fixture
def case(tmp_path):
    """A volume whose object is largest on slice 2, and a prediction that misses half of it."""
    truth = np.zeros((4, 200, 100), dtype=np.uint8)
    truth[1, 60:70, 40:50] = 1
    truth[2, 50:90, 30:60] = 1
    predicted = truth.copy()
    predicted[2, 50:70] = 0
    boxes = np.array([[30, 50, 1, 60, 90, 2]], dtype=np.float32)
    np.savez(tmp_path / "c.npz", imgs=truth * np.uint8(200), boxes=boxes, gts=truth)
    np.savez(tmp_path / "p.npz", segs=predicted)
    return tmp_path


def test_a_row_shows_the_fullest_slice_where_the_boxes_are(case):
    panels = read_panels(case / "c.npz", {"ours": case / "p.npz"})
    assert panels.name == "c, slice 2"
    # 30 x 40 pixels of a box; 15 % of that on each side, or up to 40 pixels.
    assert panels.image.shape == (53, 41, 3)
    assert panels.boxes.tolist() == [[5, 6, 35, 46]]
    assert panels.label_maps["truth"].sum() == 30 * 40
    assert panels.label_maps["ours"].sum() == 30 * 20
    assert panels.scores["ours"] == pytest.approx(2 * 700 / (1300 + 700))


def test_of_many_small_objects_those_are_shown_where_most_are():
    corners = np.array([[0, 0], [20, 0], [0, 30], [900, 900], [905, 10]], dtype=np.float32)
    boxes = np.concatenate([corners, corners + 10], axis=1)
    np.testing.assert_array_equal(readable_boxes(boxes), boxes[:3])
    np.testing.assert_array_equal(readable_boxes(boxes[:3]), boxes[:3])


def test_a_figure_has_a_panel_per_label_map(case):
    panels = read_panels(case / "c.npz", {"ours": case / "p.npz"})
    titles = [axes.get_title() for axes in draw_figure([panels, panels]).axes]
    assert titles == ["c, slice 2", "truth", "ours: 70.0"] * 2
