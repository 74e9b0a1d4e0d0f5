"""Random changes of a training slice, as pure functions with a generator.

Geometry acts on image, labels and boxes in pixels of the original image, before preprocessing;
appearance on the uint8 image alone. A coordinate names a pixel: a flip maps x to W - 1 - x.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Annotated, Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator

from qmedsam.core.geometry import Boxes, clip_boxes
from qmedsam.core.preprocess import without_alpha
from training.settings import CheckedSettings, Probability, Range

Image = NDArray[np.uint8]

UNCHANGED, FREE = "none", "free"
# Strong enough to move a histogram, too weak to hide an object.
GAMMA_RANGE = (0.7, 1.4)
CONTRAST_RANGE = (0.75, 1.25)
BRIGHTNESS_RANGE = (-0.15, 0.15)  # of the image's own range of values
BLUR_PROBABILITY, BLUR_RANGE_PX = 0.2, (0.3, 1.2)
NOISE_PROBABILITY, NOISE_RANGE = 0.2, (0.0, 0.04)  # of the image's own range of values


def _above_zero(factors: tuple[float, float]) -> tuple[float, float]:
    if factors[0] <= 0:
        raise ValueError("must lie above 0")
    return factors


class Augmentation(CheckedSettings):
    """What may happen to a slice.

    Attributes:
        flip_horizontal: probability that left and right are swapped.
        flip_vertical: probability that top and bottom are swapped.
        box_shift_px: range by which each side of a mask's box moves outwards, in pixels of the
            model frame; inwards below 0.
        own_box: probability that an object is prompted by the file's box, in a volume that of the
            whole object, instead of the moved box of its mask on the slice.
        zoom: probability that the image is cropped or padded.
        zoom_range: how much larger the objects appear then.
        photometric: probability that gamma, contrast and brightness change, and that the image may
            be blurred and get noise.
        grey: probability that a colour image loses its colour.
    """

    flip_horizontal: Probability = 0.5
    flip_vertical: Probability = 0.5
    box_shift_px: Range = (0.0, 5.0)
    own_box: Probability = 0.5
    zoom: Probability = 0.0
    zoom_range: Annotated[Range, AfterValidator(_above_zero)] = (0.6, 1.6)
    photometric: Probability = 0.0
    grey: Probability = 0.0


@dataclass(frozen=True)
class Scene:
    """A slice and the objects of it that were chosen, in pixels of the original image.

    Attributes:
        image: (H, W) or (H, W, 3).
        labels: (H, W), all objects.
        file_boxes: (N, 4), of the chosen objects as the file has them.
        mask_boxes: (N, 4), of their masks on this slice.
    """

    image: Image
    labels: NDArray[np.integer[Any]]
    file_boxes: Boxes
    mask_boxes: Boxes

    @property
    def hw(self) -> tuple[int, int]:
        """Size of the image."""
        return self.labels.shape[0], self.labels.shape[1]


def change_geometry(
    scene: Scene, settings: Augmentation, generator: np.random.Generator
) -> tuple[Scene, str]:
    """Zoom and flip at random.

    Returns:
        The scene, and what was done: `none`, `h`, `v`, `hv` for flips, else `free`.
    """
    geometry = ""
    is_zoomed = generator.random() < settings.zoom
    if is_zoomed:
        scene = zoom(scene, generator.uniform(*settings.zoom_range), generator)
    if generator.random() < settings.flip_horizontal:
        scene, geometry = flip_horizontally(scene), "h"
    if generator.random() < settings.flip_vertical:
        scene, geometry = flip_vertically(scene), geometry + "v"
    return scene, FREE if is_zoomed else geometry or UNCHANGED


def flip_horizontally(scene: Scene) -> Scene:
    """Swap left and right."""
    return _flipped(scene, axis=1)


def flip_vertically(scene: Scene) -> Scene:
    """Swap top and bottom."""
    return _flipped(scene, axis=0)


def zoom(scene: Scene, factor: float, generator: np.random.Generator) -> Scene:
    """Make objects appear `factor` times larger: crop the image above 1, pad it below."""
    if factor > 1:
        return crop_randomly(scene, factor, generator)
    return pad_randomly(scene, factor, generator)


def crop_randomly(scene: Scene, factor: float, generator: np.random.Generator) -> Scene:
    """Cut out a part that is 1 / factor as long on each side, or as long as the boxes need."""
    height, width = scene.hw
    boxes = clip_boxes(np.concatenate([scene.file_boxes, scene.mask_boxes]), scene.hw)
    left, top = np.floor(boxes[:, :2].min(axis=0)).astype(int)
    right, bottom = np.ceil(boxes[:, 2:].max(axis=0)).astype(int)
    rows = _random_part(height, (top, bottom), factor, generator)
    columns = _random_part(width, (left, right), factor, generator)
    return _moved(
        scene.image[rows, columns],
        scene.labels[rows, columns],
        scene,
        by=(-columns.start, -rows.start),
    )


def pad_randomly(scene: Scene, factor: float, generator: np.random.Generator) -> Scene:
    """Add pixels of the image's lowest value until each side is 1 / factor as long."""
    height, width = scene.hw
    rows = _random_padding(height, factor, generator)
    columns = _random_padding(width, factor, generator)
    channels = [(0, 0)] * (scene.image.ndim - 2)
    lowest = int(scene.image.min())
    image = np.pad(scene.image, [rows, columns, *channels], constant_values=lowest)
    labels = np.pad(scene.labels, [rows, columns])
    return _moved(image, labels, scene, by=(columns[0], rows[0]))


def prompt_boxes(
    scene: Scene,
    settings: Augmentation,
    scales: float | NDArray[np.floating[Any]],
    generator: np.random.Generator,
) -> Boxes:
    """Choose for each object the file's box or the moved box of its mask.

    Args:
        scene: after all changes of geometry.
        settings: `own_box` and `box_shift_px`.
        scales: pixels of the model frame for one of the image, of all boxes or (N, 1).
        generator: decides.

    Returns:
        (N, 4), pixels of the original image, inside of it.
    """
    shifts_px = generator.uniform(*settings.box_shift_px, size=scene.mask_boxes.shape)
    moved = move_sides(scene.mask_boxes, (shifts_px / scales).astype(np.float32))
    is_own = generator.random((len(moved), 1)) < settings.own_box
    return clip_boxes(np.where(is_own, scene.file_boxes, moved), scene.hw)


def move_sides(boxes: Boxes, shifts: NDArray[np.float32]) -> Boxes:
    """Move each side of (N, 4) boxes outwards, or inwards below 0 but not past the middle."""
    middle = (boxes[:, :2] + boxes[:, 2:]) / np.float32(2)
    low = np.minimum(boxes[:, :2] - shifts[:, :2], middle)
    high = np.maximum(boxes[:, 2:] + shifts[:, 2:], middle)
    return np.concatenate([low, high], axis=1)


def change_appearance(
    image: Image, settings: Augmentation, generator: np.random.Generator
) -> Image:
    """Change values at random; where nothing happens the very same array comes back."""
    if generator.random() < settings.grey:
        image = remove_colour(image)
    if generator.random() < settings.photometric:
        image = change_values(image, generator)
        if generator.random() < BLUR_PROBABILITY:
            image = blur(image, generator.uniform(*BLUR_RANGE_PX))
        if generator.random() < NOISE_PROBABILITY:
            image = add_noise(image, generator.uniform(*NOISE_RANGE), generator)
    return image


def remove_colour(image: Image) -> Image:
    """Return (H, W) of a colour image; a grey one comes back as it is."""
    pixels = without_alpha(image)
    if pixels.ndim == 2:
        return image
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), dtype=np.uint8)


def change_values(image: Image, generator: np.random.Generator) -> Image:
    """Change gamma, contrast and brightness at random, within the image's own range of values."""
    gamma = generator.uniform(*GAMMA_RANGE)
    contrast = generator.uniform(*CONTRAST_RANGE)
    brightness = generator.uniform(*BRIGHTNESS_RANGE)
    low, high = int(image.min()), int(image.max())
    extent = max(high - low, 1)
    level = np.clip((np.arange(256) - low) / extent, 0, 1) ** gamma
    level = np.clip((level - 0.5) * contrast + 0.5 + brightness, 0, 1)
    table = np.rint(low + level * (high - low)).astype(np.uint8)
    return table[image]


def blur(image: Image, sigma_px: float) -> Image:
    """Blur with a Gaussian."""
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma_px), dtype=np.uint8)


def add_noise(image: Image, strength: float, generator: np.random.Generator) -> Image:
    """Add Gaussian noise; its deviation is `strength` of the image's own range of values."""
    deviation = np.float32(strength) * np.float32(int(image.max()) - int(image.min()))
    noise = generator.standard_normal(image.shape, dtype=np.float32) * deviation
    return np.clip(np.rint(image + noise), 0, np.iinfo(np.uint8).max).astype(np.uint8)


def _flipped(scene: Scene, axis: int) -> Scene:
    low = 1 - axis  # the column of y0 or x0
    last = np.float32(scene.hw[axis] - 1)

    def flip_boxes(boxes: Boxes) -> Boxes:
        flipped = boxes.copy()
        flipped[:, low], flipped[:, low + 2] = last - boxes[:, low + 2], last - boxes[:, low]
        return flipped

    return dataclasses.replace(
        scene,
        image=np.ascontiguousarray(np.flip(scene.image, axis)),
        labels=np.ascontiguousarray(np.flip(scene.labels, axis)),
        file_boxes=flip_boxes(scene.file_boxes),
        mask_boxes=flip_boxes(scene.mask_boxes),
    )


def _moved(
    image: Image, labels: NDArray[np.integer[Any]], scene: Scene, *, by: tuple[int, int]
) -> Scene:
    """Return other pixels with the boxes of a scene, moved by (x, y)."""
    offset = np.array([*by, *by], dtype=np.float32)
    return Scene(
        np.ascontiguousarray(image),
        np.ascontiguousarray(labels),
        scene.file_boxes + offset,
        scene.mask_boxes + offset,
    )


def _random_part(
    length: int, kept: tuple[int, int], factor: float, generator: np.random.Generator
) -> slice:
    """Choose a part of an axis that holds the pixels from the first to the last of `kept`."""
    first, last = kept
    size = max(round(length / factor), last - first + 1)
    start = int(generator.integers(max(0, last + 1 - size), min(first, length - size) + 1))
    return slice(start, start + size)


def _random_padding(length: int, factor: float, generator: np.random.Generator) -> tuple[int, int]:
    """Choose how many pixels go before and behind an axis."""
    total = max(0, round(length / factor) - length)
    before = int(generator.integers(0, total + 1))
    return before, total - before
