"""Graphs rewritten for grids, held to arithmetic by hand and to what must not be understood."""

from __future__ import annotations

import numpy as np
import pytest

from qmedsam.errors import ModelError
from qmedsam.model.grids import encoder_on_grid
from qmedsam.model.positions import resampled
from qmedsam.model.runtime import openvino, ops

pytestmark = pytest.mark.model

CHANNELS, WINDOW = 2, 14
PADDED = 70  # the next multiple of the window after 64
POSITIONS = np.random.default_rng(0).random((1, 64 * 64, CHANNELS), dtype=np.float32)
IN_WINDOW = np.random.default_rng(1).random((1, WINDOW**2, 1), dtype=np.float32)


def parameter(shape=(1, CHANNELS, 64, 64)):
    """The embedding of a square of 256 pixels, as all graphs here begin."""
    return ops.parameter(list(shape), np.float32, name="image")


def reshaped(source, *shape):
    return ops.reshape(source, ops.constant(np.array(shape)), False)


def turned(source, *order):
    return ops.transpose(source, ops.constant(np.array(order)))


def pixels_of(image):
    return turned(reshaped(image, 1, CHANNELS, 64 * 64), 0, 2, 1)


def square_of(image):
    return reshaped(pixels_of(image), 1, 64, 64, CHANNELS)


def padded(square, amount=PADDED - 64):
    ends = ops.constant(np.array([0, amount, amount, 0]))
    return ops.pad(square, ops.constant(np.zeros(4, np.int64)), ends, "constant")


def in_windows(square):
    count = PADDED // WINDOW
    split = reshaped(square, 1, count, WINDOW, count, WINDOW, CHANNELS)
    return reshaped(turned(split, 0, 1, 3, 2, 4, 5), count**2, WINDOW**2, CHANNELS)


def joined(windows):
    count = PADDED // WINDOW
    split = reshaped(windows, 1, count, count, WINDOW, WINDOW, CHANNELS)
    return reshaped(turned(split, 0, 1, 3, 2, 4, 5), 1, PADDED, PADDED, CHANNELS)


def part(square, start, stop):
    ends = (ops.constant(np.array([value, value])) for value in (start, stop, 1))
    return ops.slice(square, *ends, ops.constant(np.array([1, 2])))


def whole_graph():
    """Windows whose pixels are weighted by where they lie in the window, and positions added."""
    image = parameter()
    weighted = ops.multiply(in_windows(padded(square_of(image))), ops.constant(IN_WINDOW))
    inside = reshaped(part(joined(weighted), 0, 64), 1, 64 * 64, CHANNELS)
    return openvino.Model([ops.add(inside, ops.constant(POSITIONS))], [image], "whole")


def run(graph, image):
    config = {"INFERENCE_PRECISION_HINT": "f32"}
    (found,) = openvino.Core().compile_model(graph, "CPU", config)([image]).values()
    return found


@pytest.mark.parametrize(
    "grid_hw", [(64, 64), (64, 256), (192, 128), (128, 192), (256, 256)], ids=str
)
def test_windows_and_positions_are_those_of_the_grid(grid_hw):
    height, width = (side // 4 for side in grid_hw)
    graph = whole_graph()
    encoder_on_grid(graph, grid_hw)
    image = np.random.default_rng(2).random((1, CHANNELS, height, width), dtype=np.float32)
    places = resampled(POSITIONS, (height, width))
    expected = np.empty((1, height * width, CHANNELS), dtype=np.float32)
    for y in range(height):
        for x in range(width):
            weight = IN_WINDOW[0, y % WINDOW * WINDOW + x % WINDOW]
            place = width * y + x
            expected[0, place] = image[0, :, y, x] * weight + places[0, place]
    np.testing.assert_allclose(run(graph, image), expected, rtol=1e-6)


def sizes_elsewhere(image):
    ones = ops.broadcast(ops.constant(np.float32(1)), ops.constant(np.array([1, 64 * 64, 1])))
    return ops.add(pixels_of(image), ones)


STRANGE = {
    "a part that is not the corner": (lambda image: part(square_of(image), 1, 64), "Slice"),
    "a part of another size": (lambda image: part(square_of(image), 0, 48), "Slice"),
    "padding without windows": (lambda image: part(padded(square_of(image)), 0, 64), "Pad"),
    "padding of another amount": (
        lambda image: in_windows(part(padded(square_of(image), 20), 0, PADDED)),
        "Pad",
    ),
    "pixels of no square": (
        lambda image: reshaped(pixels_of(image), 1, 32, 128, CHANNELS),
        "Reshape",
    ),
    "windows that were not split": (
        lambda image: reshaped(image, CHANNELS * 16, 1, 4, 4, 4, 4),
        "Reshape",
    ),
    "sizes that something else holds": (sizes_elsewhere, "Broadcast"),
    "values of pixels that are no positions": (
        lambda image: ops.multiply(pixels_of(image), ops.constant(POSITIONS)),
        "Multiply",
    ),
    "outputs that are not of pixels": (
        lambda image: reshaped(image, 1, CHANNELS * 64 * 64),
        "Result",
    ),
}


@pytest.mark.parametrize(("build", "kind"), STRANGE.values(), ids=STRANGE)
def test_what_is_not_understood_is_refused_and_named(build, kind):
    image = parameter()
    graph = openvino.Model([build(image)], [image], "strange")
    with pytest.raises(ModelError, match=rf"another grid: {kind} \S+ is not understood"):
        encoder_on_grid(graph, (64, 128))


def test_an_image_of_another_square_is_refused():
    image = parameter((1, CHANNELS, 96, 96))
    graph = openvino.Model([ops.relu(image)], [image], "other")
    with pytest.raises(ModelError, match="Parameter image is not understood"):
        encoder_on_grid(graph, (64, 128))
