"""The decoder with an open pixel axis, held to the one that ships."""

from __future__ import annotations

import numpy as np
import pytest

from qmedsam.core.contract import BOXES_NAME, CROPS_NAME, DECODER_FILE
from qmedsam.core.crops import Crop, crop_pixels
from qmedsam.errors import ModelError
from qmedsam.model.positions import POSITION_NAMES, open_pixels, top_left
from qmedsam.model.runtime import openvino, ops
from qmedsam.model.variant import default_model_dir

pytestmark = pytest.mark.model

BOXES = np.array([[10, 20, 100, 120], [150, 130, 230, 250]], dtype=np.float32)


def test_positions_of_a_grid_are_those_at_the_top_left():
    rows_and_columns = np.stack(np.mgrid[:64, :64], axis=-1).reshape(1, 64 * 64, 2)
    found = top_left(rows_and_columns.astype(np.float32), (2, 3))
    assert found.tolist() == [[[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2]]]
    np.testing.assert_array_equal(top_left(rows_and_columns, (64, 64)), rows_and_columns)


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
