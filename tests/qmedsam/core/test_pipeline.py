"""A network and how it is used: which grids it gets ready for, what it counts and takes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from qmedsam.core.contract import grids_up_to
from qmedsam.core.embeddings import EmbeddingMemory
from qmedsam.core.pipeline import Pipeline
from qmedsam.core.prompts import check_prompts
from qmedsam.core.regions import Region
from qmedsam.core.timing import Stopwatch
from tests.conftest import FakeNetwork

IMAGE = np.random.default_rng(0).integers(0, 256, (400, 500), dtype=np.uint8)
BOXES = np.array([[20, 30, 39, 49], [450, 350, 469, 369], [600, 600, 700, 700]])


def pipeline_of(network, regions="auto") -> Pipeline:
    return Pipeline(network, volume_prompt="fixed", regions=regions, box_batch_size=4)


class GridsInOrder(FakeNetwork):
    """Writes down on which grid each image is encoded."""

    def __init__(self, grids):
        super().__init__(grids)
        self.order = []

    def encode(self, image):
        self.order.append(image.shape[2:])
        return super().encode(image)


def test_the_stopwatch_takes_every_step(fake_network):
    stopwatch = Stopwatch()
    pipeline_of(fake_network).segment(IMAGE, check_prompts(IMAGE, BOXES), stopwatch=stopwatch)
    took = {step for step, seconds in stopwatch.seconds.items() if seconds > 0}
    assert took == {"preprocess", "encode", "decode", "postprocess"}


def test_grids_are_prepared_before_they_are_used():
    network = FakeNetwork(grids_up_to(256))
    found = pipeline_of(network).segment(IMAGE, check_prompts(IMAGE, BOXES))
    assert set(network.prepared) == set(found.tally.encoded)
    assert len(network.prepared) == len(set(network.prepared))
    assert sum(found.tally.encoded.values()) == len(network.encoded) == 2
    assert sum(found.tally.decoded.values()) == 2  # nothing is looked for outside


def test_grids_do_not_take_turns_within_a_volume():
    """Where there is room for one encoder, each turn would load it anew."""
    network = GridsInOrder(grids_up_to(256))
    volume = np.zeros((5, 900, 900), dtype=np.uint8)
    volume += np.arange(5, dtype=np.uint8)[:, None, None]  # equal slices are encoded once
    boxes = np.float32([[20, 30, 0, 39, 49, 4], [700, 700, 0, 769, 769, 4]])
    found = pipeline_of(network).segment(volume, check_prompts(volume, boxes))
    assert len(found.tally.encoded) == 2
    assert [len(list(run)) for _, run in itertools.groupby(network.order)] == [5, 5]


@pytest.mark.parametrize("boxes", [np.zeros((0, 4)), BOXES[2:]], ids=["no-boxes", "outside"])
def test_without_boxes_inside_nothing_is_prepared_or_encoded(boxes):
    network = FakeNetwork(grids_up_to(256))
    found = pipeline_of(network).segment(IMAGE, check_prompts(IMAGE, boxes))
    assert network.prepared == network.encoded == []
    assert found.is_empty
    assert found.tally.gmacs == 0


def test_labels_of_regions_are_the_boxes():
    """Those of the whole image, which is reduced to a half, are rounded to pairs of pixels."""
    network = FakeNetwork(grids_up_to(256))
    label_map = pipeline_of(network).segment(IMAGE, check_prompts(IMAGE, BOXES)).label_map
    expected = np.zeros_like(IMAGE)
    expected[30:50, 20:40], expected[350:370, 450:470] = 1, 2
    np.testing.assert_array_equal(label_map, expected)


def test_what_is_seen_whole_is_encoded_ahead():
    network = FakeNetwork(grids_up_to(256))
    pipeline, memory = (
        pipeline_of(network, "whole"),
        EmbeddingMemory(1, Region(0, 0, IMAGE.shape, (256, 256))),
    )
    pipeline.encode([IMAGE], 0, memory)
    found = pipeline.segment(IMAGE, check_prompts(IMAGE, BOXES), memory=memory)
    assert len(network.encoded) == 1
    assert found.tally.encoded == {}
    assert sum(found.tally.decoded.values()) == 2
