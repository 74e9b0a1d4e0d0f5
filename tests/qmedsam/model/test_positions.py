"""The decoder with an open pixel axis, held to the one that ships."""

from __future__ import annotations

import numpy as np
import pytest

from qmedsam.core.contract import BOXES_NAME, CROPS_NAME, DECODER_FILE
from qmedsam.core.crops import Crop, crop_pixels
from qmedsam.errors import ModelError
from qmedsam.model.positions import POSITION_NAMES, open_pixels, resampled
from qmedsam.model.runtime import openvino, ops
from qmedsam.model.variant import default_model_dir

pytestmark = pytest.mark.model

BOXES = np.array([[10, 20, 100, 120], [150, 130, 230, 250]], dtype=np.float32)


def waves(height: int, width: int) -> np.ndarray:
    """Return (1, h * w, 4): sines and cosines of places from border to border."""
    y, x = ((np.arange(side) + 0.5) / side for side in (height, width))
    angles = np.stack([9 * x[None] + 2 * y[:, None], 5 * y[:, None] - 11 * x[None]], axis=-1)
    values = np.concatenate([np.sin(angles), np.cos(angles)], axis=-1)
    return values.reshape(1, height * width, 4).astype(np.float32)


@pytest.mark.parametrize("embedding_hw", [(16, 64), (32, 32), (48, 16)])
def test_positions_of_a_grid_go_from_border_to_border(embedding_hw):
    found = resampled(waves(64, 64), embedding_hw)
    np.testing.assert_allclose(found, waves(*embedding_hw), atol=1e-5)


def test_positions_of_the_square_stay_as_they_are():
    np.testing.assert_allclose(resampled(waves(64, 64), (64, 64)), waves(64, 64), atol=1e-6)


@pytest.mark.parametrize("variant", ["float", "int8"])
def test_an_open_decoder_computes_what_the_one_that_ships_does(variant):
    core = openvino.Core()
    path = default_model_dir(variant) / DECODER_FILE
    opened = core.read_model(path)
    positions = open_pixels(opened)
    assert sorted(positions) == sorted(POSITION_NAMES)
    generator = np.random.default_rng(0)
    inputs = {
        name: generator.normal(size=(1, 64 * 64, channels)).astype(np.float32)
        for name, channels in {"pixels": 256, "keys": 128, "values": 128, "queries": 128}.items()
    }
    inputs[BOXES_NAME] = BOXES
    inputs[CROPS_NAME] = crop_pixels([Crop(5, 6, 16, 24), Crop(40, 30, 16, 24)], 64)
    config = {"INFERENCE_PRECISION_HINT": "f32"}
    (expected,) = core.compile_model(path, "CPU", config)(inputs).values()
    (found,) = core.compile_model(opened, "CPU", config)(inputs | positions).values()
    assert expected.std() > 1
    np.testing.assert_allclose(found, expected, atol=1e-4)


def pixels_without(target):
    """A graph that brings an embedding's pixels to another shape, and has no positions."""
    pixels = ops.parameter([1, 64 * 64, 8], np.float32, name="pixels")
    pixels.output(0).set_names({"pixels"})
    reshaped = ops.reshape(pixels, ops.constant(np.array(target), name="target"), False)
    return openvino.Model([reshaped], [pixels], "decoder")


def test_a_decoder_without_positions_is_refused():
    with pytest.raises(ModelError, match=r"Decoder must have .* to open, has \[\]"):
        open_pixels(pixels_without([-1, 8]))


def test_a_decoder_with_the_number_of_pixels_elsewhere_is_refused():
    with pytest.raises(ModelError, match="cannot be opened: target is not understood"):
        open_pixels(pixels_without([4096, 8]))
