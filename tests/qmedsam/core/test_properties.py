"""Any image or volume and any boxes, through the whole segmenter with a fake network."""

from __future__ import annotations

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from qmedsam.core.contract import grids_up_to
from qmedsam.core.geometry import ModelFrame, clip_boxes
from qmedsam.core.pipeline import Pipeline
from qmedsam.core.prompts import check_prompts
from qmedsam.core.propagation import VOLUME_RULES
from qmedsam.core.timing import Stopwatch
from qmedsam.errors import InvalidCaseError
from tests.conftest import FakeNetwork

SIDES = st.integers(1, 70)
COORDINATES = st.one_of(
    st.floats(-200, 200), st.sampled_from([-1e300, -0.5, 0.0, 0.49, 69.5, 1e300])
)


@st.composite
def cases(draw, columns: int):
    """Draw pixels of an image or a volume, and boxes (N, columns)."""
    if columns == 6:
        shape = (draw(st.integers(1, 6)), draw(SIDES), draw(SIDES))
    else:
        shape = (draw(SIDES), draw(SIDES), *draw(st.sampled_from([(), (1,), (3,), (4,)])))
    pixels = np.random.default_rng(draw(st.integers(0, 9))).integers(0, 256, shape, dtype=np.uint8)
    boxes = draw(arrays(np.float64, (draw(st.integers(0, 5)), columns), elements=COORDINATES))
    return pixels, boxes


def segment(pixels, boxes, *, rule="fixed", box_batch_size=2, grids=((256, 256),)):
    try:
        prompts = check_prompts(pixels, boxes)
    except InvalidCaseError as error:
        assume("normalised" not in str(error))
        raise
    pipeline = Pipeline(
        FakeNetwork(grids), volume_prompt=rule, regions="auto", box_batch_size=box_batch_size
    )
    segmentation = pipeline.segment(pixels, prompts)
    present = set(np.unique(segmentation.label_map).tolist()) - {0}
    assert segmentation.is_empty == (not present)
    assert bool(segmentation.notes) == (len(present) < len(prompts.objects))
    return prompts, segmentation.label_map


@settings(max_examples=60, deadline=None)
@given(cases(4))
def test_an_image_has_a_label_map_of_its_extent(case):
    pixels, boxes = case
    prompts, label_map = segment(pixels, boxes)
    assert label_map.shape == pixels.shape[:2]
    assert label_map.dtype == np.uint8
    present = set(np.unique(label_map).tolist()) - {0}
    assert present <= {index + 1 for index in prompts.objects}


@settings(max_examples=60, deadline=None)
@given(cases(6), st.sampled_from(sorted(VOLUME_RULES)))
def test_a_volume_has_labels_in_the_slices_of_their_boxes_only(case, rule):
    pixels, boxes = case
    prompts, label_map = segment(pixels, boxes, rule=rule)
    assert label_map.shape == pixels.shape
    for index in range(len(boxes)):
        found = np.flatnonzero((label_map == index + 1).any(axis=(1, 2)))
        if found.size:
            first, last = prompts.boxes[index, [2, 5]]
            assert index in prompts.objects
            assert first <= found[0]
            assert found[-1] <= last


@settings(max_examples=40, deadline=None)
@given(cases(4), st.integers(1, 7))
def test_the_box_batch_size_changes_nothing(case, box_batch_size):
    pixels, boxes = case
    _, one_by_one = segment(pixels, boxes, box_batch_size=1)
    _, in_batches = segment(pixels, boxes, box_batch_size=box_batch_size)
    np.testing.assert_array_equal(one_by_one, in_batches)


@settings(max_examples=40, deadline=None)
@given(cases(4))
def test_corners_in_any_order_give_the_same_label_map(case):
    pixels, boxes = case
    _, label_map = segment(pixels, boxes)
    _, swapped = segment(pixels, boxes[:, [2, 3, 0, 1]])
    np.testing.assert_array_equal(label_map, swapped)


@settings(max_examples=40, deadline=None)
@given(cases(6), st.sampled_from(sorted(VOLUME_RULES)))
def test_any_case_is_segmented_by_regions(case, rule):
    pixels, boxes = case
    prompts, label_map = segment(pixels, boxes, rule=rule, grids=grids_up_to(256))
    assert label_map.shape == pixels.shape
    present = set(np.unique(label_map).tolist()) - {0}
    assert present <= {index + 1 for index in prompts.objects}


@settings(max_examples=40, deadline=None)
@given(st.permutations(range(6)), st.integers(0, 99))
def test_masks_by_regions_do_not_depend_on_the_order_of_boxes(order, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (300, 500), dtype=np.uint8)
    corners = np.random.default_rng(seed).integers(0, [500, 300], (2, 6, 2))
    boxes = np.concatenate([corners.min(axis=0), corners.max(axis=0)], axis=1)
    boxes[:, 2:] = np.minimum(boxes[:, 2:], boxes[:, :2] + 40)
    pipeline = Pipeline(
        FakeNetwork(grids_up_to(256)), volume_prompt="fixed", regions="auto", box_batch_size=2
    )

    def masks_of(chosen):
        prompts = check_prompts(pixels, boxes[chosen])
        plan = pipeline.planner.plan(prompts, (300, 500))
        decoded = list(pipeline.decode(pixels, prompts, plan, stopwatch=Stopwatch()))
        return {chosen[one.index]: one.patch.whole((300, 500)) for one in decoded}

    expected, found = masks_of(list(range(6))), masks_of(order)
    for index, mask in expected.items():
        np.testing.assert_array_equal(found[index], mask)


@settings(max_examples=100, deadline=None)
@given(SIDES, SIDES, arrays(np.float32, (3, 4), elements=st.floats(-99, 99, width=32)))
def test_boxes_inside_an_image_stay_inside_the_resized_image(height, width, boxes):
    frame = ModelFrame.square((height, width), 256)
    mapped = frame.boxes_to_model(clip_boxes(np.sort(boxes, axis=1), (height, width)))
    resized_height, resized_width = frame.resized_hw
    rounding = 1.0  # half a pixel of the resized size, and half a pixel beyond the last centre
    assert mapped[:, [0, 2]].max(initial=0) <= resized_width + rounding
    assert mapped[:, [1, 3]].max(initial=0) <= resized_height + rounding
    assert mapped.min(initial=0) >= -0.5
