"""The graphs that inference runs, held to what they are made of."""

from __future__ import annotations

import numpy as np
import openvino
import pytest

pytest.importorskip("torch", reason="training/requirements.txt is not installed")

from openvino import opset13 as ops

from qmedsam.core.contract import BOXES_NAME, CROPS_NAME, LOW_RES_LOGITS_NAME
from qmedsam.core.crops import WHOLE, Crop, crop_pixels
from tests.conftest import cut
from training.graphs.inference_graphs import with_crops

pytestmark = [pytest.mark.training, pytest.mark.model]


@pytest.fixture
def decoder() -> openvino.Model:
    """Adds to a picture (1, 256, 256) the first number of each box."""
    picture = ops.parameter([1, 256, 256], np.float32)
    boxes = ops.parameter([-1, 4], np.float32)
    first = ops.slice(boxes, [0], [1], [1], [1])
    logits = ops.add(picture, ops.unsqueeze(first, 2))
    for node, name in ((picture, "picture"), (boxes, BOXES_NAME), (logits, LOW_RES_LOGITS_NAME)):
        node.output(0).set_names({name})
    return openvino.Model([logits], [picture, boxes], "decoder")


@pytest.mark.parametrize(
    "crops",
    [[WHOLE], [Crop(3, 40, 16, 16), Crop(48, 0, 16, 16)], [Crop(0, 0, 24, 32)] * 3],
    ids=["whole", "two", "three alike"],
)
def test_a_plain_decoder_gives_the_logits_of_windows(decoder, crops):
    generator = np.random.default_rng(0)
    picture = generator.random((1, 256, 256), dtype=np.float32)
    boxes = generator.random((len(crops), 4), dtype=np.float32)
    compiled = openvino.Core().compile_model(with_crops(decoder), "CPU")
    pixels = crop_pixels(crops, 64)
    outputs = compiled({"picture": picture, BOXES_NAME: boxes, CROPS_NAME: pixels})
    expected = cut(picture + boxes[:, :1, None], crops)
    np.testing.assert_allclose(outputs[LOW_RES_LOGITS_NAME], expected, rtol=1e-2)
