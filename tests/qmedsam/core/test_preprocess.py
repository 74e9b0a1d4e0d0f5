from __future__ import annotations

import numpy as np
import pytest

from qmedsam.core.geometry import ModelFrame
from qmedsam.core.preprocess import (
    as_rgb,
    normalize_min_max,
    pad_to_grid,
    preprocess_image,
    resize_to_model,
)


@pytest.mark.parametrize("shape", [(4, 6), (4, 6, 1)], ids=["two-axes", "one-channel"])
def test_grey_becomes_three_equal_channels(shape):
    grey = np.arange(24, dtype=np.uint8).reshape(shape)
    rgb = as_rgb(grey)
    assert rgb.shape == (4, 6, 3)
    assert (rgb == grey.reshape(4, 6, 1)).all()


def test_alpha_is_dropped():
    rgba = np.arange(96, dtype=np.uint8).reshape(4, 6, 4)
    np.testing.assert_array_equal(as_rgb(rgba), rgba[..., :3])


def test_normalization_spans_zero_to_one_over_all_channels():
    image = np.array([[[10, 20, 30]], [[60, 110, 20]]], dtype=np.uint8)
    np.testing.assert_allclose(
        normalize_min_max(image), [[[0, 0.1, 0.2]], [[0.5, 1, 0.1]]], atol=1e-7
    )


def test_a_constant_image_becomes_zeros():
    assert (normalize_min_max(np.full((2, 2, 3), 77, dtype=np.uint8)) == 0).all()


def test_padding_lies_below_and_to_the_right():
    padded = pad_to_grid(np.ones((1, 2, 3), dtype=np.float32), (3, 3))
    np.testing.assert_array_equal(padded[..., 0], [[1, 1, 0], [0, 0, 0], [0, 0, 0]])


@pytest.mark.parametrize(
    "shape",
    [(300, 200, 3), (200, 300), (1, 1000), (1, 1), (50, 40, 4), (256, 256, 1)],
    ids=["tall", "wide-grey", "thin", "one-pixel", "rgba", "model-size"],
)
def test_every_image_becomes_one_square_tensor(shape):
    pixels = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    tensor = preprocess_image(pixels, 256)
    assert tensor.shape == (1, 3, 256, 256)
    assert tensor.dtype == np.float32
    assert tensor.min() >= 0
    assert tensor.max() <= 1


def test_a_large_image_is_averaged_before_it_is_sampled():
    """Columns of 0 and 255 in turn: sampling would show either, the average is grey."""
    stripes = np.zeros((16, 4096, 3), dtype=np.uint8)
    stripes[:, ::2] = 255
    frame = ModelFrame.square((16, 4096), 256)
    assert np.ptp(resize_to_model(stripes, frame)) <= 1
    assert resize_to_model(stripes, frame).shape == (1, 256, 3)


def test_the_image_is_not_written_to():
    pixels = np.random.default_rng(0).integers(0, 256, (256, 256, 3)).astype(np.uint8)
    before = pixels.copy()
    preprocess_image(pixels, 256)
    np.testing.assert_array_equal(pixels, before)
