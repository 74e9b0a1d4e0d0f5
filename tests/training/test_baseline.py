"""The PyTorch baseline on a network whose masks are its boxes."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training/requirements.txt is not installed")

from tests.conftest import FakeNetwork  # noqa: E402
from training.baseline import Baseline, sampled_boxes  # noqa: E402

pytestmark = pytest.mark.training


class FakeTorchNetwork(FakeNetwork):
    def encode(self, image):
        return torch.from_numpy(self.embed(image.numpy()))

    def decode(self, image_embedding, boxes):
        return torch.from_numpy(self.draw(boxes.numpy()))


@pytest.fixture
def network() -> FakeTorchNetwork:
    return FakeTorchNetwork()


def test_boxes_are_truncated_to_integers_of_the_model_frame(network):
    image = np.zeros((512, 512, 3), dtype=np.uint8)
    Baseline(network).segment_image(image, np.array([[11, 21, 101, 103]]))
    np.testing.assert_array_equal(network.decoded[0], [[5, 10, 50, 51]])


def test_later_boxes_win(network):
    image = np.zeros((256, 256, 3), dtype=np.uint8)
    boxes = np.array([[0, 0, 20, 20], [10, 10, 30, 30]])
    label_map = Baseline(network).segment_image(image, boxes)
    assert (label_map[15, 15], label_map[5, 5], label_map[25, 25]) == (2, 1, 2)


def test_a_volume_embeds_each_slice_anew_for_each_box(network):
    volume = np.zeros((5, 256, 256), dtype=np.uint8)
    boxes = np.array([[0, 0, 0, 20, 20, 4], [0, 0, 1, 20, 20, 2]])
    label_map = Baseline(network).segment_volume(volume, boxes)
    assert len(network.encoded) == 5 + 2
    np.testing.assert_array_equal(label_map[:, 10, 10], [1, 2, 2, 1, 1])


def test_the_neighbours_mask_prompts_with_a_margin(network):
    volume = np.zeros((3, 256, 256), dtype=np.uint8)
    Baseline(network).segment_volume(volume, np.array([[100, 100, 0, 120, 130, 2]]))
    middle, above, below = network.decoded
    np.testing.assert_array_equal(middle, [[100, 100, 120, 130]])
    # The mask has the pixels between the edges, 101 to 119 and 101 to 129; the margin is 3.
    np.testing.assert_array_equal(above, [[98, 98, 122, 132]])
    np.testing.assert_array_equal(below, above)


def test_a_sample_is_taken_round_the_middle_of_each_object():
    boxes = np.array([[0, 0, 10, 9, 9, 20], [0, 0, 3, 9, 9, 4]])
    sampled = sampled_boxes(boxes, 4)
    assert sampled[:, [2, 5]].tolist() == [[14, 17], [3, 4]]
    assert boxes[0, 5] == 20
    np.testing.assert_array_equal(sampled_boxes(boxes, 100), boxes)
