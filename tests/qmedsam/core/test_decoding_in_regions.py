"""Objects decoded in the regions round their boxes, with fakes whose masks are known."""

from __future__ import annotations

import operator

import numpy as np
import pytest

from qmedsam.core.contract import grids_up_to
from qmedsam.core.embeddings import EncodedImage
from qmedsam.core.network import DecodedBoxes
from qmedsam.core.planning import Planner
from qmedsam.core.prompts import check_prompts
from qmedsam.core.propagation import (
    Visit,
    boxes_2d,
    fixed_visits,
    follow_mask_within_box,
    image_visits,
    propagation_visits,
)
from qmedsam.core.regions import Region, RegionPlan
from qmedsam.core.tally import Tally
from tests.conftest import FakeNetwork, cut, decode_slices, segment_slices
from tests.qmedsam.core.conftest import random_volume

GRIDS = grids_up_to(256)
EDGES = 40  # pixels of two squares of 20


@pytest.fixture
def network() -> FakeNetwork:
    return FakeNetwork(GRIDS)


class SeeingNetwork(FakeNetwork):
    """Finds what is bright inside a box."""

    def encode(self, image):
        self.embed(image)
        return EncodedImage(image.shape[2:], {"image": image[0, 0]})

    def decode(self, encoded, boxes, crops):
        logits = self.draw(boxes, encoded.grid_hw)
        return DecodedBoxes(cut(np.where(encoded.values["image"] > 0.5, logits, -1), crops))


def decode_image(network, boxes, regions, of_object, hw=(600, 700)):
    plan = RegionPlan(tuple(regions), tuple(of_object))
    visits = image_visits(range(len(boxes)))
    image = random_volume(1, hw)
    planner = Planner("auto")
    return list(decode_slices(network, image, boxes, visits, planner=planner, plan=plan))


@pytest.mark.parametrize(
    ("region", "box"),
    [
        (Region(100, 200, (64, 64), (64, 64)), [210, 110, 240, 150]),
        (Region(100, 200, (64, 128), (64, 128)), [300, 110, 320, 150]),
        (Region(100, 200, (128, 64), (256, 128)), [210, 190, 240, 220]),
        (Region(0, 0, (64, 256), (64, 256)), [0, 0, 30, 40]),
        (Region(472, 636, (128, 64), (128, 64)), [660, 500, 699, 599]),
        (Region(536, 572, (64, 128), (128, 256)), [690, 590, 699, 599]),
    ],
    ids=["square", "wide", "tall-enlarged", "first-corner", "last-corner", "last-pixels"],
)
def test_masks_land_on_their_boxes_in_the_original(network, region, box):
    (one,) = decode_image(network, [box], [region], [0])
    assert one.patch.box().tolist() == box
    left, top, right, bottom = box
    assert one.patch.mask.sum() == (right - left + 1) * (bottom - top + 1)
    assert (one.region, one.box.tolist()) == (region, box)


def test_each_region_is_encoded_once_for_all_of_its_boxes(network):
    regions = [Region(0, 0, (64, 64), (64, 64)), Region(300, 300, (128, 64), (128, 64))]
    boxes = [[5, 5, 20, 20], [310, 310, 340, 400], [30, 20, 50, 60], [320, 320, 330, 330]]
    found = decode_image(network, boxes, regions, [0, 1, 0, 1])
    assert len(network.encoded) == 2
    assert sorted(one.index for one in found) == [0, 1, 2, 3]
    for one in found:
        assert one.patch.box().tolist() == boxes[one.index]
        assert one.region == regions[one.index % 2]


def segment_volume(network, volume, boxes, visits, tally=None, **options):
    """Segment boxes (N, 6) by the regions that they get."""
    boxes = np.array(boxes, dtype=np.float32)
    planner = Planner("auto", grids=GRIDS)
    plan = planner.plan(check_prompts(volume, boxes), volume.shape[1:])
    options |= {"planner": planner, "plan": plan, "tally": tally}
    return plan, segment_slices(network, volume, boxes_2d(boxes), visits, **options)


def test_far_objects_of_a_volume_are_encoded_apart_on_their_own_slices(network):
    volume = random_volume(6, (400, 400))
    boxes = np.float32([[20, 20, 0, 39, 39, 3], [350, 350, 2, 369, 369, 5]])
    plan, label_map = segment_volume(network, volume, boxes, fixed_visits(boxes, [0, 1]))
    assert len(plan.regions) == 2
    assert len(network.encoded) == 8
    expected = np.zeros_like(volume)
    expected[0:4, 20:40, 20:40] = 1
    expected[2:6, 350:370, 350:370] = 2
    np.testing.assert_array_equal(label_map, expected)


def test_regions_of_equal_slices_are_encoded_once(network):
    volume = np.repeat(random_volume(1, (400, 400)), 5, axis=0)
    boxes = np.float32([[20, 20, 0, 39, 39, 4], [350, 350, 0, 369, 369, 4]])
    _, label_map = segment_volume(network, volume, boxes, fixed_visits(boxes, [0, 1]))
    assert len(network.encoded) == 2
    assert (label_map == label_map[0]).all()
    assert set(np.unique(label_map)) == {0, 1, 2}


def wandering(depth, hw, *, first, step=1, side=20):
    """Return a volume with a bright square that wanders to the right, slice by slice."""
    volume = np.zeros((depth, *hw), dtype=np.uint8)
    for z, one in enumerate(volume):
        left = first + step * z
        one[100 : 100 + side, left : left + side] = 255
    return volume


def assert_found(masks, volume) -> None:
    """Check masks of a volume's bright squares, of which an edge may be lost on a smaller grid."""
    wrong = np.count_nonzero(masks != (volume > 0), axis=(-2, -1))
    assert np.max(wrong) <= EDGES


@pytest.mark.parametrize("step", [1, -1], ids=["right", "left"])
def test_an_object_that_leaves_its_region_is_followed_and_found(step):
    depth = 81
    volume = wandering(depth, (300, 400), first=200 - 40 * step, step=step)
    network, tally = SeeingNetwork(GRIDS), Tally()
    boxes = np.float32([[200, 100, 0, 219, 119, depth - 1]])
    planner = Planner("auto", grids=GRIDS)
    plan = planner.plan(check_prompts(volume, boxes), volume.shape[1:])
    visits = propagation_visits(boxes, [0])
    decoded = decode_slices(
        network, volume, boxes_2d(boxes), visits, planner=planner, plan=plan, tally=tally
    )
    upward, downward = [plan.regions[0]], [plan.regions[0]]
    for one in decoded:
        assert_found(one.patch.whole((300, 400)), volume[one.z])
        (upward if one.z >= depth // 2 else downward).append(one.region)
    moves = [sum(map(operator.ne, way, way[1:])) for way in (upward, downward)]
    assert min(moves) >= 1
    assert len(network.encoded) <= depth + sum(moves)  # one in vain for each move
    assert sum(tally.encoded.values()) == len(network.encoded)
    assert sum(tally.decoded.values()) == depth


def test_an_object_that_stays_in_its_region_costs_nothing_in_vain():
    volume = wandering(21, (300, 400), first=200, step=0)
    network = SeeingNetwork(GRIDS)
    boxes = np.float32([[200, 100, 0, 219, 119, 20]])
    _, label_map = segment_volume(network, volume, boxes, propagation_visits(boxes, [0]))
    np.testing.assert_array_equal(label_map > 0, volume > 0)
    assert len(network.encoded) == 1  # of equal slices the first, also where one is followed


def test_what_is_followed_within_its_box_never_leaves_its_region():
    volume = wandering(81, (300, 400), first=160)
    network = SeeingNetwork(GRIDS)
    boxes = np.float32([[190, 90, 0, 229, 129, 80]])
    visits = propagation_visits(boxes, [0])
    options = {"follow": follow_mask_within_box}
    _, label_map = segment_volume(network, volume, boxes, visits, **options)
    assert len(network.encoded) == 81
    assert label_map[40].sum() == 400


def test_one_of_two_that_leaves_their_region_moves_alone():
    """The one that stays is still found where both began."""
    volume = wandering(61, (300, 400), first=170)
    volume[:, 140:160, 200:220] = 255
    network = SeeingNetwork(GRIDS)
    boxes = np.float32([[200, 100, 0, 219, 119, 60], [200, 140, 0, 219, 159, 60]])
    visits = propagation_visits(boxes, [0, 1])
    plan, label_map = segment_volume(network, volume, boxes, visits)
    assert len(plan.regions) == 1
    assert_found(label_map > 0, volume)
    assert_found(label_map == 2, volume * (np.arange(300) >= 130)[:, None])


def test_an_empty_slice_of_a_volume_needs_no_visit(network):
    volume = random_volume(3, (300, 400))
    boxes = np.float32([[20, 20, 1, 39, 39, 1]])
    _, label_map = segment_volume(network, volume, boxes, [Visit(1, (0,))])
    assert len(network.encoded) == 1
    assert label_map.any(axis=(1, 2)).tolist() == [False, True, False]
