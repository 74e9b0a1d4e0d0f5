"""Pictures of results: the image, its boxes, and the outline and number of each object.

They are RGB and sized for a screen; label maps are for measuring.
"""

from __future__ import annotations

import colorsys

import cv2
import numpy as np
from numpy.typing import NDArray

from .geometry import Boxes, mask_to_box
from .postprocess import LabelMap
from .preprocess import as_rgb
from .volume import boxes_2d, slice_range

Picture = NDArray[np.uint8]

LONGEST_SIDE_PX = 1280  # a picture is for a screen; larger images are reduced
SHORTEST_SIDE_PX = 512  # smaller ones are enlarged, so that numbers can be read
THIN_LINES_PX = 640  # pictures up to this side have lines of one pixel
TILE_PX = 320
SLICES_PER_OBJECT = 3
MOST_TILES = 24
MOST_NUMBERS = 40  # more numbers than this hide what they name
GOLDEN_RATIO = 0.618034
FIRST_HUE = 0.25  # green: rare in tissue
BOX_SHADE = 0.65


def draw_image_overlay(pixels: NDArray[np.uint8], boxes: Boxes, label_map: LabelMap) -> Picture:
    """Draw boxes and outlines on an image.

    Args:
        pixels: (H, W), (H, W, 1), (H, W, 3) or (H, W, 4).
        boxes: (N, 4), xyxy, pixels of the image.
        label_map: (H, W).

    Returns:
        (h, w, 3) RGB, enlarged or reduced to a size for a screen.
    """
    height, width = label_map.shape
    scale = min(LONGEST_SIDE_PX / max(height, width), max(1, SHORTEST_SIDE_PX / min(height, width)))
    picture = _resize(as_rgb(pixels), scale, cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    labels = _resize(label_map, scale, cv2.INTER_NEAREST)
    for index, box in enumerate(boxes):
        _draw_object(picture, labels == index + 1, index, box * np.float32(scale))
    if len(boxes) <= MOST_NUMBERS:
        for index, box in enumerate(boxes):
            _write(picture, str(index + 1), box[:2] * np.float32(scale), object_color(index))
    return picture


def draw_volume_montage(volume: NDArray[np.uint8], boxes: Boxes, label_map: LabelMap) -> Picture:
    """Draw a grid of slices: some through each object, up to `MOST_TILES` in all.

    Args:
        volume: (D, H, W).
        boxes: (N, 6), xyzxyz, z inclusive.
        label_map: (D, H, W).

    Returns:
        (h, w, 3) RGB; one middle slice when there are no boxes.
    """
    tiles = [
        _draw_tile(volume[z], boxes, label_map[z], z) for z in montage_slices(boxes, len(volume))
    ]
    columns = int(np.ceil(np.sqrt(len(tiles))))
    blank = np.zeros_like(tiles[0])
    tiles += [blank] * (-len(tiles) % columns)
    rows = [np.concatenate(tiles[i : i + columns], axis=1) for i in range(0, len(tiles), columns)]
    return np.concatenate(rows, axis=0)


def montage_slices(boxes: Boxes, depth: int) -> list[int]:
    """Choose the slices of a montage, ascending: a quarter, half and three quarters of each box."""
    if len(boxes) == 0:
        return [depth // 2]
    chosen: set[int] = set()
    for box in boxes:
        slices = slice_range(box)
        steps = range(1, SLICES_PER_OBJECT + 1)
        chosen.update(slices[len(slices) * step // (SLICES_PER_OBJECT + 1)] for step in steps)
    ordered = sorted(chosen)
    picks = np.linspace(0, len(ordered) - 1, min(len(ordered), MOST_TILES))
    return [ordered[int(pick)] for pick in picks]


def object_color(index: int) -> tuple[int, int, int]:
    """Return the RGB color of an object; neighbours in number are far apart in hue."""
    red, green, blue = colorsys.hsv_to_rgb((FIRST_HUE + index * GOLDEN_RATIO) % 1.0, 0.85, 1.0)
    return int(255 * red), int(255 * green), int(255 * blue)


def encode_png(picture: Picture) -> bytes:
    """Encode (h, w, 3) RGB as PNG."""
    encoded, buffer = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    if not encoded:
        raise ValueError(f"Picture of shape {picture.shape} cannot be encoded")
    return buffer.tobytes()


def _draw_tile(image: NDArray[np.uint8], boxes: Boxes, labels: LabelMap, z: int) -> Picture:
    covering = np.flatnonzero((boxes[:, 2] <= z) & (z <= boxes[:, 5]))
    scale = TILE_PX / max(image.shape)
    picture = _resize(as_rgb(image), scale, cv2.INTER_LINEAR)
    shown = _resize(labels, scale, cv2.INTER_NEAREST)
    flat = boxes_2d(boxes) * np.float32(scale)
    for index in covering:
        _draw_object(picture, shown == index + 1, int(index), flat[index])
    if len(boxes) <= MOST_NUMBERS:
        for index in covering:
            _write(picture, str(index + 1), flat[index, :2], object_color(int(index)))
    tile = np.zeros((TILE_PX, TILE_PX, 3), dtype=np.uint8)
    tile[: picture.shape[0], : picture.shape[1]] = picture
    _write(tile, f"z {z}", np.array([4, TILE_PX - 4]), (255, 255, 255))
    return tile


def _resize(image: NDArray[np.uint8] | LabelMap, scale: float, interpolation: int) -> Picture:
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    resized = cv2.resize(image, (width, height), interpolation=interpolation)
    return np.ascontiguousarray(resized)


def _draw_object(picture: Picture, mask: NDArray[np.bool_], index: int, box: Boxes) -> None:
    color = object_color(index)
    shade = tuple(int(channel * BOX_SHADE) for channel in color)
    x0, y0, x1, y1 = (round(float(value)) for value in box)
    thickness = 2 if max(picture.shape) > THIN_LINES_PX else 1
    cv2.rectangle(picture, (x0, y0), (x1, y1), shade, thickness, cv2.LINE_AA)
    extent = mask_to_box(mask)
    if extent is None:
        return
    left, top, right, bottom = (int(value) for value in extent)
    window = mask[top : bottom + 1, left : right + 1].astype(np.uint8)
    contours, _ = cv2.findContours(window, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(picture, contours, -1, color, thickness, cv2.LINE_AA, offset=(left, top))


def _write(
    picture: Picture, text: str, corner: NDArray[np.generic], color: tuple[int, int, int]
) -> None:
    x, y = (int(value) for value in corner)
    origin = (max(0, min(x + 2, picture.shape[1] - 10 * len(text))), max(12, y - 3))
    for ink, thickness in (((0, 0, 0), 3), (color, 1)):
        cv2.putText(
            picture, text, origin, cv2.FONT_HERSHEY_SIMPLEX, 0.45, ink, thickness, cv2.LINE_AA
        )
