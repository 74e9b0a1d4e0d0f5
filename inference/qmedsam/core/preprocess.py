"""An image as it came to the tensor that the encoder takes; training uses the same functions.

The order and the interpolation are part of the contract with the exported model.
"""

from __future__ import annotations

from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from .contract import (
    AVERAGE_INTERPOLATION,
    ENLARGE_INTERPOLATION,
    LARGEST_SHRINK,
    SHRINK_INTERPOLATION,
    Grid,
)
from .geometry import ModelFrame

Pixel = TypeVar("Pixel", np.uint8, np.float32)
MIN_RANGE = 1e-8  # a constant image becomes all zeros instead of a division by zero


def without_alpha(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return (H, W) of a grey (H, W) or (H, W, 1), (H, W, 3) of an RGB or an RGBA image."""
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        return pixels[..., 0]
    return pixels if pixels.ndim == 2 else pixels[..., :3]


def as_rgb(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return (H, W, 3) of any image that `without_alpha` takes; grey becomes three channels."""
    image = without_alpha(pixels)
    return np.repeat(image[..., None], 3, axis=2) if image.ndim == 2 else image


def resize_to_frame(
    image: NDArray[np.uint8], frame: ModelFrame, interpolation: int
) -> NDArray[np.uint8]:
    """Resize (H, W) or (H, W, 3) to its size in a frame; `interpolation` is OpenCV's code."""
    height, width = frame.resized_hw
    if image.shape[:2] == (height, width):
        return image
    resized = cv2.resize(image, (width, height), interpolation=interpolation)
    return np.asarray(resized, dtype=np.uint8)


def resize_to_model(image: NDArray[np.uint8], frame: ModelFrame) -> NDArray[np.uint8]:
    """Resize (H, W) or (H, W, 3) to the model frame as the contract says."""
    if frame.scale >= 1:
        return resize_to_frame(image, frame, ENLARGE_INTERPOLATION)
    height, width = frame.grid_hw
    averaged = ModelFrame(frame.original_hw, (LARGEST_SHRINK * height, LARGEST_SHRINK * width))
    if averaged.scale < 1:
        image = resize_to_frame(image, averaged, AVERAGE_INTERPOLATION)
    return resize_to_frame(image, frame, SHRINK_INTERPOLATION)


def normalize_min_max(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Map the smallest value of the whole image to 0 and the largest to 1."""
    low = np.float32(image.min())
    extent = np.float32(image.max()) - low
    return (image.astype(np.float32) - low) / max(extent, np.float32(MIN_RANGE))


def pad_to_grid(image: NDArray[Pixel], grid_hw: Grid) -> NDArray[Pixel]:
    """Add zeros below and to the right of (H, W, 3) until it has the grid's size."""
    below, right = (side - own for side, own in zip(grid_hw, image.shape[:2], strict=True))
    return np.pad(image, ((0, below), (0, right), (0, 0)))


def to_tensor(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Turn (H, W, 3) into (1, 3, H, W)."""
    return np.ascontiguousarray(image.transpose(2, 0, 1)[None])


def preprocess_image(pixels: NDArray[np.uint8], image_size: int) -> NDArray[np.float32]:
    """Prepare one image for the encoder, to be seen whole.

    Args:
        pixels: (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), 0 to 255.
        image_size: S, side of the model frame.

    Returns:
        (1, 3, S, S) float32, values 0 to 1, padding 0.
    """
    frame = ModelFrame.square((pixels.shape[0], pixels.shape[1]), image_size)
    return preprocess_to_frame(pixels, frame)


def preprocess_to_frame(pixels: NDArray[np.uint8], frame: ModelFrame) -> NDArray[np.float32]:
    """Prepare an image, or the part of it that is a region, for the encoder.

    Args:
        pixels: (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), 0 to 255, of the frame's original size.
        frame: where they go.

    Returns:
        (1, 3, h, w) float32 of the frame's grid, values 0 to 1, padding 0.
    """
    resized = as_rgb(resize_to_model(without_alpha(pixels), frame))
    return to_tensor(pad_to_grid(normalize_min_max(resized), frame.grid_hw))
