"""Which regions boxes get, by numbers that are given here."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from qmedsam.core.contract import grids_up_to
from qmedsam.core.planning import REGION_GRIDS, plan_regions
from qmedsam.core.region_rule import FOLLOWING_RULE, Prompted, RegionRule
from qmedsam.core.work import decoder_gmacs, encoder_gmacs

GRIDS = grids_up_to(256)
RULE = RegionRule(
    context=2.5,
    whole_share=1.0,
    small_px=(0, 0),
    wanted_px=64.0,
    largest_enlargement=2.0,
    least_px=0.0,
    largest_reduction=0.85,
    shared_scale=0.7,
    grid_gmacs=0.0,
    most_grids=16,
    few_boxes=4,
    many_boxes=16,
    most_work=2.0,
)
ROUNDING_PX = 1.0  # a region has whole pixels


def prompted(boxes, hw, slices=None, grids=GRIDS) -> Prompted:
    boxes = np.array(boxes, dtype=np.float32).reshape(-1, 4)
    slices = np.zeros((len(boxes), 2)) if slices is None else np.array(slices)
    return Prompted(boxes, slices.astype(np.int64), hw, grids)


def plan(boxes, hw, slices=None, rule=RULE, grids=GRIDS):
    return plan_regions(prompted(boxes, hw, slices, grids), rule)


def only_region(box, hw, rule=RULE):
    (region,) = plan([box], hw, rule=rule).regions
    return region


def random_boxes(seed, count, hw, largest=60) -> np.ndarray:
    generator = np.random.default_rng(seed)
    height, width = hw
    sides = generator.uniform(1, largest, (count, 2))
    low = generator.uniform(0, 1, (count, 2)) * (np.array([width, height]) - sides)
    return np.hstack([low, low + sides - 1]).astype(np.float32).clip(0)


def assert_within(region, hw) -> None:
    assert region.grid_hw in GRIDS
    assert min(region.hw) >= 1
    assert min(region.top, region.left) >= 0
    assert region.top + region.hw[0] <= hw[0]
    assert region.left + region.hw[1] <= hw[1]


def assert_holds(region, box) -> None:
    left, top, right, bottom = box
    assert region.left <= left + ROUNDING_PX
    assert region.top <= top + ROUNDING_PX
    assert right <= region.left + region.hw[1] - 1 + ROUNDING_PX
    assert bottom <= region.top + region.hw[0] - 1 + ROUNDING_PX


def test_no_boxes_need_no_regions():
    found = plan(np.zeros((0, 4)), (100, 100))
    assert (found.regions, found.of_object) == ((), ())


def test_a_box_sees_its_context_at_its_own_resolution_on_the_smallest_grid():
    """A box of 100 sees 250 pixels, reduced to 192 at most where 0.85 suffices, else not."""
    region = only_region([500, 400, 599, 499], (1000, 1200))
    assert region.grid_hw == (256, 256)
    assert region.hw == (256, 256)  # what the grid has room for is seen, too
    assert (region.top, region.left) == (450 - 128, 550 - 128)
    assert region.frame.scale == 1


def test_a_region_may_be_reduced_a_little_to_fit_a_smaller_grid():
    """A box of 88 sees 220, which at 0.85 is 187 and fits 192; one of 92 sees 230, 195.5."""
    assert only_region([500, 400, 587, 487], (1000, 1200)).grid_hw == (192, 192)
    assert only_region([500, 400, 591, 491], (1000, 1200)).grid_hw == (256, 256)


def test_a_flat_box_gets_a_flat_grid():
    """A box of 20 x 80 sees 120 more each way, 140 x 200, on 128 x 192 at 0.85 and more."""
    region = only_region([500, 400, 579, 419], (1000, 1200))
    assert region.grid_hw == (128, 192)
    assert region.frame.scale >= RULE.largest_reduction
    assert region.hw[0] >= 139
    assert region.hw[1] >= 199


@pytest.mark.parametrize("side", [1, 2, 5, 20, 40])
def test_a_small_box_is_enlarged_but_not_by_more_than_the_factor(side):
    box = [300, 300, 299 + side, 299 + side]
    region = only_region(box, (700, 700))
    assert region.frame.scale <= RULE.largest_enlargement + 0.02
    assert region.grid_hw == (64, 64) if side <= 10 else region.frame.scale >= 1
    assert_holds(region, box)


@pytest.mark.parametrize("side", [300, 600, 999])
def test_with_a_large_box_the_whole_image_is_seen(side):
    region = only_region([10, 10, 9 + side, 9 + side], (1024, 1024))
    if side * RULE.context >= 1024:
        assert (region.top, region.left, region.hw) == (0, 0, (1024, 1024))
    else:
        assert min(region.hw) >= side * RULE.context - ROUNDING_PX
    assert region.grid_hw == (256, 256)


@pytest.mark.parametrize("corner", [(0, 0), (0, 960), (960, 0), (960, 960)])
def test_a_region_at_the_border_is_as_large_and_moved_inside(corner):
    top, left = corner
    region = only_region([left, top, left + 39, top + 39], (1000, 1000))
    inside = only_region([500, 500, 539, 539], (1000, 1000))
    assert (region.hw, region.grid_hw) == (inside.hw, inside.grid_hw)
    assert (region.top > 0) == (top > 0)
    assert (region.left > 0) == (left > 0)
    assert_within(region, (1000, 1000))


@pytest.mark.parametrize(
    ("hw", "box", "region_hw"),
    [
        ((8, 8), [2, 2, 5, 5], (8, 8)),
        ((1, 1), [0, 0, 0, 0], (1, 1)),
        ((8, 8), [0, 0, 7, 7], (8, 8)),
    ],
    ids=["tiny", "one-pixel", "full"],
)
def test_a_tiny_image_is_seen_whole_on_the_smallest_grid(hw, box, region_hw):
    region = only_region(box, hw)
    assert (region.top, region.left, region.hw) == (0, 0, region_hw)
    assert region.grid_hw == (64, 64)


def test_an_image_that_is_small_is_seen_whole_on_the_largest_square():
    rule = replace(RULE, small_px=(25, 64))
    region = only_region([2, 2, 5, 5], (40, 64), rule=rule)
    assert (region.hw, region.grid_hw) == ((40, 64), (256, 256))
    assert only_region([2, 2, 5, 5], (40, 65), rule=rule).grid_hw == (64, 64)
    assert only_region([2, 2, 5, 5], (24, 24), rule=rule).grid_hw == (64, 64)


def test_round_a_box_of_much_of_the_image_all_is_seen_on_a_square_near_its_resolution():
    rule = replace(RULE, whole_share=0.45)
    region = only_region([0, 20, 99, 39], (180, 200), rule=rule)
    assert (region.top, region.left, region.hw) == (0, 0, (180, 200))
    assert region.grid_hw == (192, 192)
    assert only_region([0, 20, 79, 39], (180, 200), rule=rule).grid_hw != (192, 192)


def test_an_object_of_few_pixels_is_enlarged_by_twice_the_factor():
    rule = replace(RULE, least_px=16.0)
    assert only_region([300, 300, 301, 301], (700, 700), rule=rule).frame.scale == 4
    assert only_region([300, 300, 309, 309], (700, 700), rule=rule).frame.scale == 2


def test_a_grid_that_is_little_dearer_is_taken_where_it_reduces_less():
    """A box of 50 x 67 sees 150 x 168: 256 x 128 takes it at 0.85, 192 x 192 as it is."""
    grids = ((256, 128), (192, 192), (256, 256))
    found = plan([[205, 172, 254, 238]], (512, 512), rule=replace(RULE, wanted_px=0.0), grids=grids)
    assert found.regions[0].grid_hw == (192, 192)
    assert found.regions[0].frame.scale == pytest.approx(1, abs=0.01)


def test_few_grids_are_used_where_one_more_saves_little():
    boxes = [[100, 100, 109, 109], [800, 800, 839, 839]]
    free = plan(boxes, (1000, 1000), rule=replace(RULE, few_boxes=1, many_boxes=2))
    assert {region.grid_hw for region in free.regions} == {(64, 64), (192, 192)}
    few = replace(RULE, few_boxes=1, many_boxes=2, grid_gmacs=20.0)
    assert {region.grid_hw for region in plan(boxes, (1000, 1000), rule=few).regions} == {
        (192, 192)
    }
    most = replace(RULE, few_boxes=1, many_boxes=2, most_grids=1)
    assert len({region.grid_hw for region in plan(boxes, (1000, 1000), rule=most).regions}) == 1


SHIPPED = RegionRule()


def test_a_group_that_sees_all_is_not_moved_to_a_rectangle():
    """It would be on a square again, and be moved again."""
    boxes = [
        *([14, 21, 84, 85], [25, 86, 47, 99], [39, 45, 73, 55]),
        *([85, 50, 116, 82], [83, 99, 101, 117], [5, 112, 25, 120]),
    ]
    found = plan(boxes, (150, 150), rule=SHIPPED, grids=REGION_GRIDS)
    for region in found.regions:
        if region.hw == (150, 150):
            assert region.grid_hw[0] == region.grid_hw[1]


@pytest.mark.parametrize("seed", range(60))
def test_plans_of_any_boxes_end_with_few_grids(seed):
    random = np.random.default_rng(seed)
    hw = tuple(int(side) for side in random.integers(57, 300, 2))
    count = int(random.integers(2, 24))
    low = (random.random((count, 2)) * 0.8 * hw[::-1]).astype(int)
    sides = random.random((count, 2)) * np.where(random.random((count, 1)) < 0.2, 0.6, 0.15)
    boxes = np.hstack([low, np.minimum(low + sides * hw[::-1], np.array(hw[::-1]) - 1)])
    depth = int(random.integers(0, 6)) * int(random.integers(0, 2))
    slices = np.sort(random.integers(0, depth + 1, (count, 2)), axis=1)
    found = plan(boxes, hw, slices, rule=SHIPPED, grids=REGION_GRIDS)
    assert len({region.grid_hw for region in found.regions}) <= SHIPPED.most_grids


@pytest.mark.parametrize("seed", [188, 265, 353])
def test_a_box_that_sees_all_does_so_as_large_as_alone_where_grids_are_given_up(seed):
    """Boxes of volumes that would have more than three grids, some of them large, on few slices."""
    random = np.random.default_rng(seed)
    hw, count = (512, 512), int(random.integers(4, 14))
    low = (random.random((count, 2)) * 0.8 * 512).astype(int)
    sides = random.random((count, 2)) * np.where(random.random((count, 1)) < 0.2, 0.6, 0.15)
    boxes = np.hstack([low, np.minimum(low + sides * 512, 511)]).astype(np.float32)
    slices = np.sort(random.integers(0, 60, (count, 2)), axis=1)
    found = plan(boxes, hw, slices, rule=SHIPPED, grids=REGION_GRIDS)
    large = (boxes[:, 2:] - boxes[:, :2] + 1).max(axis=1) > SHIPPED.whole_share * 512
    assert large.any()
    for row in np.flatnonzero(large):
        (alone,) = plan(boxes[row], hw, slices[[row]], rule=SHIPPED, grids=REGION_GRIDS).regions
        assert found.regions[found.of_object[row]].grid_hw[0] >= alone.grid_hw[0]


def test_a_small_box_is_not_lost_with_one_that_sees_all():
    boxes = [[20, 20, 990, 990], [500, 500, 519, 514]]
    found = plan(boxes, (1000, 1000), rule=SHIPPED, grids=REGION_GRIDS)
    large, small = (found.regions[place] for place in found.of_object)
    assert (large.hw, large.grid_hw) == ((1000, 1000), (256, 256))
    assert small.frame.scale >= 1
    around = plan([[0, 0, 999, 999], [490, 490, 509, 509]], (1000, 1000), rule=SHIPPED)
    assert around.regions[around.of_object[1]].frame.scale >= 1
    near = plan([[20, 20, 250, 250], [100, 100, 119, 114]], (256, 256), rule=SHIPPED)
    assert len(near.regions) == 1  # at its own scale it is left there


def test_where_its_own_scale_is_too_dear_a_box_gets_most_of_it():
    boxes = [[87, 375, 1367, 1655], [139, 192, 191, 244], [1305, 844, 1424, 962]]
    found = plan(boxes, (2000, 2000), rule=SHIPPED, grids=REGION_GRIDS)
    for box, place in zip(boxes[1:], found.of_object[1:], strict=True):
        (alone,) = plan([box], (2000, 2000), rule=SHIPPED, grids=REGION_GRIDS).regions
        assert found.regions[place].frame.scale >= 0.45 * alone.frame.scale


def test_what_is_followed_is_not_enlarged():
    box = [[250, 250, 277, 277]]
    assert plan(box, (512, 512), rule=SHIPPED).regions[0].frame.scale > 1.5
    assert 0.85 <= plan(box, (512, 512), rule=FOLLOWING_RULE).regions[0].frame.scale <= 1


def test_a_box_that_sees_all_of_a_small_image_is_enlarged_as_others_are():
    region = only_region([20, 20, 40, 40], (64, 64), rule=SHIPPED)
    assert (region.hw, region.grid_hw) == ((64, 64), (128, 128))
    assert only_region([5, 5, 55, 55], (64, 64), rule=SHIPPED).grid_hw == (64, 64)


def test_where_enlarging_is_too_much_work_boxes_are_seen_as_they_are():
    far = [[100, 100, 139, 139], [1800, 1700, 1839, 1739]]
    found = plan(far, (2000, 2000))
    assert [round(region.frame.scale, 2) for region in found.regions] == [1, 1]


def test_a_box_on_a_thin_image_sees_the_part_round_it():
    region = only_region([2000, 2, 2039, 13], (16, 4000))
    assert region.hw[0] == 16
    assert 80 <= region.hw[1] <= 256
    assert region.grid_hw[0] == 64
    assert_holds(region, [2000, 2, 2039, 13])
    long = only_region([0, 0, 3999, 15], (16, 4000))
    assert (region.top, long.hw) == (0, (16, 4000))
    assert long.grid_hw == (64, 256)


def test_two_far_boxes_get_two_regions_and_two_near_ones_share():
    far = plan([[100, 100, 119, 119], [1800, 1700, 1819, 1719]], (2000, 2000))
    assert len(far.regions) == 2
    assert far.of_object == (0, 1)
    near = plan([[100, 100, 119, 119], [125, 105, 144, 124]], (2000, 2000))
    assert len(near.regions) == 1
    assert near.of_object == (0, 0)


def test_a_small_box_far_from_a_large_one_is_not_reduced_with_it_where_work_allows():
    boxes = [[0, 0, 1499, 1499], [1800, 1800, 1829, 1829]]
    together = plan(boxes, (2000, 2000))
    assert [region.hw for region in together.regions] == [(2000, 2000)]
    found = plan(boxes, (2000, 2000), rule=replace(RULE, few_boxes=1, many_boxes=2))
    assert len(found.regions) == 2
    assert found.regions[found.of_object[1]].frame.scale >= 1


@pytest.mark.parametrize("count", [2, 7, 40])
def test_regions_are_the_same_whatever_the_order_of_boxes(count):
    for seed in range(4):
        boxes = random_boxes(seed, count, (1500, 2000))
        found = plan(boxes, (1500, 2000))
        order = np.random.default_rng(seed).permutation(count)
        other = plan(boxes[order], (1500, 2000))
        expected = [found.regions[place] for place in found.of_object]
        assert [other.regions[other.of_object[at]] for at in np.argsort(order)] == expected


@pytest.mark.parametrize("hw", [(256, 256), (800, 800), (3000, 3000)], ids=str)
def test_boxes_in_rows_and_columns_get_the_same_regions_in_any_order(hw):
    """Centres along an axis are equal, so that a cut may run through a column."""
    y, x = np.mgrid[:6, :6].reshape(2, -1) * (hw[0] // 6)
    boxes = np.stack([x, y, x + 15, y + 15], axis=1).astype(np.float32)
    found = plan(boxes, hw)
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(36)
        other = plan(boxes[order], hw)
        expected = [found.regions[place] for place in found.of_object]
        assert [other.regions[other.of_object[at]] for at in np.argsort(order)] == expected


def gmacs(found) -> float:
    encoding = sum(encoder_gmacs(region.grid_hw) for region in found.regions)
    return encoding + sum(decoder_gmacs(found.regions[at].grid_hw) for at in found.of_object)


@pytest.mark.parametrize("count", [1, 2, 5, 20, 300, 4000])
@pytest.mark.parametrize("hw", [(90, 70), (600, 800), (3000, 2000), (40, 4000)], ids=str)
def test_work_is_bounded_and_each_box_lies_in_its_region(count, hw):
    for seed in range(3 if count < 1000 else 1):
        boxes = random_boxes(seed, count, hw, largest=min(*hw, 400) / (1 + seed))
        found = plan(boxes, hw)
        whole = encoder_gmacs((256, 256)) + count * decoder_gmacs((256, 256))
        most = 1.0 if count <= 4 else 1 + min(1.0, (count - 4) / 12)
        assert gmacs(found) <= most * whole * (1 + 1e-9)
        assert sorted(set(found.of_object)) == list(range(len(found.regions)))
        for region in found.regions:
            assert_within(region, hw)
        for box, place in zip(boxes, found.of_object, strict=True):
            assert_holds(found.regions[place], box)
            assert found.regions[place].frame.scale <= RULE.largest_enlargement * 1.1


def test_more_boxes_may_take_more_work():
    slices = np.zeros((1, 2), dtype=np.int64)

    def most(count, slices=slices):
        boxes = np.zeros((count, 4), dtype=np.float32)
        return RULE.most_work_of(Prompted(boxes, slices.repeat(count, axis=0), (9, 9), GRIDS))

    assert [most(count) for count in (1, 4, 10, 16, 999)] == [1.0, 1.0, 1.5, 2.0, 2.0]
    assert most(999, np.array([[2, 7]])) == 1.0
    assert most(999, np.array([[7, 7]])) == 2.0  # of one slice as of an image


def test_objects_of_a_volume_that_overlap_share_a_region():
    boxes = [[100, 100, 139, 139], [120, 120, 159, 159]]
    found = plan(boxes, (512, 512), slices=[[0, 20], [5, 25]])
    assert found.of_object == (0, 0)


def test_objects_of_a_volume_that_are_far_apart_do_not():
    boxes = [[20, 20, 59, 59], [430, 430, 469, 469]]
    found = plan(boxes, (512, 512), slices=[[0, 20], [5, 25]])
    assert len(found.regions) == 2


@pytest.mark.parametrize("count", [1, 3, 30])
def test_a_volume_takes_no_more_work_than_its_slices_seen_whole(count):
    for seed in range(5):
        generator = np.random.default_rng(seed)
        boxes = random_boxes(seed, count, (512, 512), largest=120)
        slices = np.sort(generator.integers(0, 40, (count, 2)), axis=1)
        found = plan(boxes, (512, 512), slices=slices)
        taken = 0.0
        for place, region in enumerate(found.regions):
            rows = np.flatnonzero(np.array(found.of_object) == place)
            taken += len(covered(slices[rows])) * encoder_gmacs(region.grid_hw)
            taken += visits(slices[rows]) * decoder_gmacs(region.grid_hw)
        whole = len(covered(slices)) * encoder_gmacs((256, 256))
        whole += visits(slices) * decoder_gmacs((256, 256))
        assert taken <= whole * (1 + 1e-9)


def covered(slices) -> set[int]:
    return {z for first, last in slices for z in range(first, last + 1)}


def visits(slices) -> int:
    return sum(last - first + 1 for first, last in slices)


def test_where_slices_are_counted_from_changes_nothing():
    boxes = random_boxes(1, 20, (512, 512))
    at_first = plan(boxes, (512, 512), slices=[[0, 0]] * 20)
    assert plan(boxes, (512, 512), slices=[[9, 9]] * 20) == at_first
