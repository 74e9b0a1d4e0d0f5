"""The rebuilt cases of Table 8."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.harness.table8 import SPECS, build_case, resample_volume, spread_boxes
from qmedsam.batch.cases import read_case
from qmedsam.core.prompts import check_prompts

BY_NAME = {spec.name: spec for spec in SPECS}


def test_there_are_fourteen():
    assert len(BY_NAME) == 14


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_boxes_lie_apart_inside_the_image(spec):
    boxes = spread_boxes(spec)
    assert len(boxes) == spec.objects
    pixels = np.broadcast_to(np.uint8(0), spec.shape)
    prompts = check_prompts(pixels, boxes)
    assert prompts.notes == ()
    assert len(prompts.objects) == spec.objects
    flat = boxes[:, [0, 1, 3, 4]] if spec.is_volume else boxes
    assert np.all(flat[:, 2:] - flat[:, :2] >= 20)
    for index, (x0, y0, x1, y1) in enumerate(flat):
        others = np.delete(flat, index, axis=0)
        apart = (
            (others[:, 0] > x1) | (others[:, 2] < x0) | (others[:, 1] > y1) | (others[:, 3] < y0)
        )
        assert apart.all()


def test_objects_cover_their_share_of_the_slices():
    def slices(name):
        boxes = spread_boxes(BY_NAME[name])
        return (boxes[:, 5] - boxes[:, 2] + 1).tolist()

    assert slices("3DBox_CT_0566") == [287] * 6
    assert slices("3DBox_CT_0888") == [81] * 6  # 0.34 of 237
    assert slices("3DBox_PET_0001") == [40]  # 0.15 of 264


def test_no_two_resampled_slices_repeat():
    volume = np.random.default_rng(0).integers(0, 256, (5, 8, 8)).astype(np.uint8)
    resampled = resample_volume(volume, (17, 16, 12))
    assert resampled.shape == (17, 16, 12)
    assert len({one.tobytes() for one in resampled}) == 17


def test_a_case_is_built_from_an_example_where_the_data_is_absent(tmp_path):
    spec = BY_NAME["2DBox_X-Ray_0053"]
    build_case(spec, tmp_path, tmp_path / "case.npz")
    case = read_case(tmp_path / "case.npz")
    assert case.pixels.shape == spec.shape
    assert case.boxes.shape == (34, 4)
    assert case.pixels.std() > 10  # a real image
