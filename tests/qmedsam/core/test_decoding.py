"""Objects decoded on slices seen whole, held to one object at a time, with fake networks."""

from __future__ import annotations

import threading
import tracemalloc

import numpy as np
import pytest

from qmedsam.core.geometry import ModelFrame
from qmedsam.core.postprocess import cut_far_islands, logits_to_patch
from qmedsam.core.preprocess import preprocess_image
from qmedsam.core.propagation import (
    PROPAGATION_MARGIN_PX,
    Visit,
    fixed_visits,
    follow_mask,
    follow_mask_within_box,
    image_visits,
    propagation_visits,
)
from tests.conftest import decode_slices, segment_slices
from tests.qmedsam.conftest import alone
from tests.qmedsam.core.conftest import WanderingNetwork, random_boxes, random_volume


def test_a_box_becomes_its_own_label(fake_network):
    label_map = segment_slices(
        fake_network, [np.zeros((256, 256, 3), np.uint8)], [[10, 20, 30, 50]], image_visits([0])
    )
    expected = np.zeros((256, 256), dtype=np.uint8)
    expected[20:51, 10:31] = 1
    np.testing.assert_array_equal(label_map[0], expected)


def test_no_boxes_give_background_without_any_network_call(fake_network):
    label_map = segment_slices(fake_network, [np.zeros((30, 40), np.uint8)], np.zeros((0, 4)), [])
    assert label_map.shape == (1, 30, 40)
    assert not label_map.any()
    assert fake_network.encoded == fake_network.decoded == []


@pytest.mark.parametrize("visits_of", [fixed_visits, propagation_visits])
def test_every_needed_slice_is_embedded_exactly_once(fake_network, visits_of):
    volume = random_volume(12)
    boxes = np.array(
        [[1, 1, 2, 20, 20, 7], [5, 5, 4, 30, 30, 5], [2, 2, 3, 9, 9, 9]], dtype=np.float32
    )
    segment_slices(
        fake_network, volume, boxes[:, [0, 1, 3, 4]], visits_of(boxes, range(len(boxes)))
    )
    needed = [float(preprocess_image(volume[z], 256).mean()) for z in range(2, 10)]
    assert sorted(fake_network.encoded) == sorted(needed)


@pytest.mark.parametrize("visits_of", [fixed_visits, propagation_visits])
@pytest.mark.parametrize("box_batch_size", [1, 2, 7, 1000])
def test_box_batch_size_does_not_change_the_result(fake_network, visits_of, box_batch_size):
    volume, boxes = random_volume(9), random_boxes(11, 9)
    flat, visits = boxes[:, [0, 1, 3, 4]], visits_of(boxes, range(len(boxes)))
    expected = segment_slices(fake_network, volume, flat, visits, box_batch_size=16)
    fake_network.decoded.clear()
    np.testing.assert_array_equal(
        segment_slices(fake_network, volume, flat, visits, box_batch_size=box_batch_size), expected
    )
    assert max(len(batch) for batch in fake_network.decoded) <= box_batch_size


def test_objects_of_a_slice_whose_crops_are_alike_are_decoded_in_one_call(fake_network):
    boxes = np.array([[1, 1, 0, 20, 20, 6], [2, 2, 1, 21, 20, 5]], dtype=np.float32)
    visits = fixed_visits(boxes, range(len(boxes)))
    segment_slices(fake_network, random_volume(7), boxes[:, [0, 1, 3, 4]], visits)
    assert [len(batch) for batch in fake_network.decoded] == [len(v.objects) for v in visits]


def edges_in_model(boxes, frame):
    """Return where the edges of the first and last pixels of (N, 4) boxes lie."""
    return ((boxes + np.float32([0, 0, 1, 1])) * np.float32(frame.scale) - np.float32(0.5)).astype(
        np.float32
    )


def propagate_slowly(network, volume, boxes, *, is_limited):
    """Walk one object after the other from its middle outward, embedding anew each time."""
    label_map = np.zeros(volume.shape, dtype=np.uint8)
    frame = ModelFrame.square(volume.shape[1:], 256)

    def mask_of(z, box):
        prompts = edges_in_model(box[None], frame)
        embedding = network.encode(preprocess_image(volume[z], 256))
        patch = logits_to_patch(network.draw(embedding, prompts)[0], frame)
        return cut_far_islands(patch, box).whole(volume.shape[1:])

    def box_from(mask, own):
        rows, columns = np.nonzero(mask)
        if rows.size == 0:
            return own
        box = np.array([columns.min(), rows.min(), columns.max(), rows.max()], dtype=np.float32)
        box += np.float32(PROPAGATION_MARGIN_PX / frame.scale) * np.float32([-1, -1, 1, 1])
        height, width = mask.shape
        box = np.clip(box, 0, np.float32([width - 1, height - 1, width - 1, height - 1]))
        if not is_limited:
            return box
        box = np.array([max(box[0], own[0]), max(box[1], own[1]), *np.minimum(box[2:], own[2:])])
        return box if box[0] <= box[2] and box[1] <= box[3] else own

    for label, (x0, y0, z0, x1, y1, z1) in enumerate(boxes, start=1):
        own = np.array([x0, y0, x1, y1], dtype=np.float32)
        middle = (int(z0) + int(z1)) // 2
        masks = {middle: mask_of(middle, own)}
        for z in range(middle + 1, int(z1) + 1):
            masks[z] = mask_of(z, box_from(masks[z - 1], own))
        for z in range(middle - 1, int(z0) - 1, -1):
            masks[z] = mask_of(z, box_from(masks[z + 1], own))
        for z, mask in masks.items():
            label_map[z][mask] = label
    return label_map


def segment_slowly(network, volume, boxes):
    """Prompt each slice of each object with its own box, one object after the other."""
    label_map = np.zeros(volume.shape, dtype=np.uint8)
    frame = ModelFrame.square(volume.shape[1:], 256)
    for label, (x0, y0, z0, x1, y1, z1) in enumerate(boxes, start=1):
        own = np.array([x0, y0, x1, y1], dtype=np.float32)
        prompts = edges_in_model(own[None], frame)
        for z in range(int(z0), int(z1) + 1):
            embedding = network.encode(preprocess_image(volume[z], 256))
            patch = logits_to_patch(network.draw(embedding, prompts)[0], frame)
            label_map[z][cut_far_islands(patch, own).whole(volume.shape[1:])] = label
    return label_map


@pytest.mark.parametrize("depth", [1, 14], ids=["image", "volume"])
def test_fixed_prompts_equal_one_object_at_a_time(depth):
    volume, boxes = random_volume(14)[-depth:], random_boxes(6, depth)
    network = WanderingNetwork()
    expected = segment_slowly(network, volume, boxes)
    visits = fixed_visits(boxes, range(len(boxes)))
    label_map = segment_slices(network, volume, boxes[:, [0, 1, 3, 4]], visits, box_batch_size=4)
    np.testing.assert_array_equal(label_map, expected)
    assert len(np.unique(expected)) > 3


@pytest.mark.parametrize("follow", [follow_mask, follow_mask_within_box])
def test_propagation_equals_walking_one_object_at_a_time(follow):
    volume, boxes = random_volume(14), random_boxes(6, 14)
    network = WanderingNetwork()
    is_limited = follow is follow_mask_within_box
    expected = propagate_slowly(network, volume, boxes, is_limited=is_limited)
    visits = propagation_visits(boxes, range(len(boxes)))
    label_map = segment_slices(network, volume, boxes[:, [0, 1, 3, 4]], visits, follow=follow)
    np.testing.assert_array_equal(label_map, expected)
    assert expected.any()
    other = propagate_slowly(network, volume, boxes, is_limited=not is_limited)
    assert (other != expected).any()


def test_an_empty_neighbour_falls_back_to_the_own_box(fake_network):
    outside_the_image = [[300, 300, 310, 310]]  # of a 256 x 128 image: draws nothing in it
    visits = [Visit(0, (0,), step=1), Visit(1, (0,), step=1)]
    segment_slices(fake_network, random_volume(2, (128, 256)), outside_the_image, visits)
    np.testing.assert_array_equal(fake_network.decoded[1], fake_network.decoded[0])


def test_memory_does_not_grow_with_the_number_of_boxes(fake_network):
    """255 masks on a large image: one label map and one batch of logits, not a frame per box."""
    image = np.zeros((2604, 1726), dtype=np.uint8)
    y, x = np.mgrid[:17, :15].reshape(2, -1)
    boxes = np.stack([115 * x, 153 * y, 115 * (x + 1), 153 * (y + 1)], axis=1)
    tracemalloc.start()
    label_map = segment_slices(
        fake_network, [image], boxes, image_visits(range(255)), box_batch_size=4
    )
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert set(range(1, 256)) <= set(np.unique(label_map))
    frame_bytes = 4 * image.size  # of float32
    assert peak < 2 * frame_bytes


def test_equal_slices_are_encoded_once(fake_network):
    volume = random_volume(6)
    volume[4], volume[5] = volume[1], volume[0]
    boxes = np.array([[1, 1, 0, 20, 20, 5]], dtype=np.float32)
    visits = fixed_visits(boxes, [0])
    segment_slices(fake_network, volume, boxes[:, [0, 1, 3, 4]], visits)
    assert len(fake_network.encoded) == 4
    assert len(fake_network.decoded) == 6


def test_what_is_yielded_lies_in_its_crop(fake_network):
    boxes = np.array([[10, 20, 30, 50], [100, 90, 250, 255]], dtype=np.float32)
    found = list(
        decode_slices(fake_network, [np.zeros((256, 256), np.uint8)], boxes, image_visits([0, 1]))
    )
    assert [(one.z, one.index) for one in found] == [(0, 0), (0, 1)]
    for one, (x0, y0, x1, y1) in zip(found, boxes.astype(int), strict=True):
        assert one.low_res_logits.shape == (4 * one.crop.height, 4 * one.crop.width)
        assert one.patch.box().tolist() == [x0, y0, x1, y1]
        assert one.patch is one.patch  # drawn once


def test_one_call_at_a_time_enters_the_network(fake_network, monkeypatch, waited):
    """All calls but the first, before which there is nothing to decode, wait for another thread."""
    inside = threading.Lock()

    def entering(call):
        def called(*arguments):
            if not fake_network.encoded:
                return call(*arguments)
            with alone(inside, waited):
                return call(*arguments)

        return called

    for name in ("encode", "decode"):
        monkeypatch.setattr(fake_network, name, entering(getattr(fake_network, name)))
    boxes = random_boxes(3, 8)
    segment_slices(
        fake_network, random_volume(8), boxes[:, [0, 1, 3, 4]], fixed_visits(boxes, range(3))
    )
    assert len(fake_network.encoded) > 3
    assert waited.is_set()


def test_what_goes_wrong_in_the_encoder_is_raised(fake_network, monkeypatch):
    def fail(image):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(fake_network, "encode", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        segment_slices(
            fake_network, random_volume(3), [[1, 1, 9, 9]], [Visit(0, (0,)), Visit(1, (0,))]
        )


def test_equal_boxes_are_decoded_once(fake_network):
    boxes = np.float32([[10, 10, 60, 50], [70, 20, 90, 90], [10, 10, 60, 50], [10, 10, 60, 50]])
    found = list(decode_slices(fake_network, random_volume(1), boxes, image_visits(range(4))))
    assert sum(len(batch) for batch in fake_network.decoded) == 2
    assert sorted(one.index for one in found) == [0, 1, 2, 3]
    masks = {one.index: one.patch for one in found}
    for index in (2, 3):
        np.testing.assert_array_equal(masks[index].mask, masks[0].mask)
        assert (masks[index].top, masks[index].left) == (masks[0].top, masks[0].left)
