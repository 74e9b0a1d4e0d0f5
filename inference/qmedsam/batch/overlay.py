"""Pictures of results: the image, its boxes, and the outline and number of each object.

They are RGB and sized for a screen; label maps are for measuring.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from ..core.geometry import Box, Boxes, mask_to_box
from ..core.postprocess import LabelMap
from ..core.preprocess import as_rgb
from ..core.prompts import VOLUME_COLUMNS
from ..core.propagation import boxes_2d, slice_range

Picture = NDArray[np.uint8]
Color = tuple[int, int, int]
Value = TypeVar("Value", bound=np.unsignedinteger[Any])

LONGEST_SIDE_PX = 1280  # a picture is for a screen; larger images are reduced
SHORTEST_SIDE_PX = 512  # smaller ones are enlarged, so that numbers can be read
THIN_LINES_PX = 640  # pictures up to this side have lines of one pixel
TILE_PX = 320
SMALLEST_TILE_PX = 128
WIDEST_MONTAGE_PX = 2560
SLICES_PER_OBJECT = 3
MOST_TILES = 24
MOST_NUMBERS = 40  # more numbers than this hide what they name
GOLDEN_RATIO = 0.618034
FIRST_HUE = 0.25  # green: rare in tissue
BOX_SHADE = 0.65


def named_by_z(place: int) -> str:
    """Return the name of a slice of a case."""
    return f"z {place}"


def draw_overlay(
    pixels: NDArray[np.uint8],
    boxes: Boxes,
    label_map: LabelMap,
    *,
    objects: Sequence[int],
    name_of: Callable[[int], str] = named_by_z,
) -> Picture:
    """Draw an image with boxes (N, 4), or a montage of a volume with boxes (N, 6).

    Args:
        pixels: as of `draw_image_overlay` or `draw_volume_montage`.
        boxes: theirs, too.
        label_map: of the extent of the pixels.
        objects: rows of the boxes to draw.
        name_of: gives the name of a slice of a volume.
    """
    if boxes.shape[1] == VOLUME_COLUMNS:
        return draw_volume_montage(pixels, boxes, label_map, objects=objects, name_of=name_of)
    return draw_image_overlay(pixels, boxes, label_map, objects=objects)


def draw_image_overlay(
    pixels: NDArray[np.uint8], boxes: Boxes, label_map: LabelMap, *, objects: Sequence[int]
) -> Picture:
    """Draw boxes and outlines on an image.

    Args:
        pixels: (H, W), (H, W, 1), (H, W, 3) or (H, W, 4).
        boxes: (N, 4), xyxy, pixels of the image.
        label_map: (H, W).
        objects: rows of the boxes to draw.

    Returns:
        (h, w, 3) RGB, enlarged or reduced to a size for a screen.
    """
    height, width = label_map.shape
    scale = min(LONGEST_SIDE_PX / max(height, width), max(1, SHORTEST_SIDE_PX / min(height, width)))
    picture = _resize(as_rgb(pixels), scale, cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    labels = _resize(label_map, scale, cv2.INTER_NEAREST)
    _draw_objects(picture, labels, _resize_boxes(boxes, scale), objects)
    return picture


def draw_volume_montage(
    volume: NDArray[np.uint8],
    boxes: Boxes,
    label_map: LabelMap,
    *,
    objects: Sequence[int],
    name_of: Callable[[int], str] = named_by_z,
) -> Picture:
    """Draw a grid of slices that shows every object.

    Args:
        volume: (D, H, W).
        boxes: (N, 6), xyzxyz, z inclusive.
        label_map: (D, H, W).
        objects: rows of the boxes to draw.
        name_of: gives the name of a slice.

    Returns:
        (h, w, 3) RGB; one middle slice when there are no objects.
    """
    chosen = montage_slices(boxes[list(objects)], len(volume))
    columns = int(np.ceil(np.sqrt(len(chosen))))
    side_px = min(TILE_PX, max(SMALLEST_TILE_PX, WIDEST_MONTAGE_PX // columns))
    tiles, flat = [], boxes_2d(boxes)
    for z in chosen:
        covering = [i for i in objects if boxes[i, 2] <= z <= boxes[i, 5]]
        tile = draw_tile(volume[z], flat, label_map[z], objects=covering, side_px=side_px)
        _write(tile, name_of(z), corner=(4, side_px - 4), color=(255, 255, 255))
        tiles.append(tile)
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % columns)
    rows = [np.concatenate(tiles[i : i + columns], axis=1) for i in range(0, len(tiles), columns)]
    return np.concatenate(rows, axis=0)


def montage_slices(boxes: Boxes, depth: int) -> list[int]:
    """Choose the slices of a montage, ascending.

    The fewest slices that meet every box are always there, and as many of those at a quarter,
    half and three quarters of each box as `MOST_TILES` leaves room for.
    """
    if len(boxes) == 0:
        return [depth // 2]
    needed: list[int] = []
    for box in sorted(boxes, key=lambda box: float(box[5])):
        if not needed or needed[-1] < box[2]:
            needed.append(slice_range(box)[-1])
    wanted: set[int] = set()
    for box in boxes:
        slices = slice_range(box)
        steps = range(1, SLICES_PER_OBJECT + 1)
        wanted.update(slices[len(slices) * step // (SLICES_PER_OBJECT + 1)] for step in steps)
    if len(wanted) <= MOST_TILES:  # each box has its own among them
        return sorted(wanted)
    ordered = sorted(wanted - set(needed))
    picks = np.linspace(0, len(ordered) - 1, max(0, min(len(ordered), MOST_TILES - len(needed))))
    return sorted({*needed, *(ordered[int(pick)] for pick in picks)})


def object_color(index: int) -> Color:
    """Return the RGB color of an object; neighbours in number are far apart in hue."""
    red, green, blue = colorsys.hsv_to_rgb((FIRST_HUE + index * GOLDEN_RATIO) % 1.0, 0.85, 1.0)
    return int(255 * red), int(255 * green), int(255 * blue)


def draw_tile(
    image: NDArray[np.uint8],
    boxes: Boxes,
    labels: LabelMap,
    *,
    objects: Sequence[int],
    side_px: int,
) -> Picture:
    """Draw an image with boxes (N, 4) and outlines of labels in a square of `side_px`."""
    scale = side_px / max(image.shape)
    picture = _resize(as_rgb(image), scale, cv2.INTER_LINEAR)
    shown = _resize(labels, scale, cv2.INTER_NEAREST)
    _draw_objects(picture, shown, _resize_boxes(boxes, scale), objects)
    tile = np.zeros((side_px, side_px, 3), dtype=np.uint8)
    tile[: picture.shape[0], : picture.shape[1]] = picture
    return tile


def _draw_objects(
    picture: Picture, label_map: LabelMap, boxes: Boxes, objects: Sequence[int]
) -> None:
    """Draw onto the picture, to whose size label map and boxes were brought."""
    for index in objects:
        _draw_object(picture, label_map == index + 1, box=boxes[index], color=object_color(index))
    for index in objects if len(boxes) <= MOST_NUMBERS else ():
        corner = (int(boxes[index, 0]), int(boxes[index, 1]))
        _write(picture, str(index + 1), corner=corner, color=object_color(index))


def _draw_object(picture: Picture, mask: NDArray[np.bool_], *, box: Box, color: Color) -> None:
    shade = tuple(int(channel * BOX_SHADE) for channel in color)
    x0, y0, x1, y1 = (round(float(value)) for value in box)
    thickness = 2 if max(picture.shape) > THIN_LINES_PX else 1
    cv2.rectangle(picture, (x0, y0), (x1, y1), shade, thickness, cv2.LINE_AA)
    extent = mask_to_box(mask)
    if extent is None:
        return
    left, top, right, bottom = (int(value) for value in extent)
    filled = mask[top : bottom + 1, left : right + 1].astype(np.uint8)
    contours, _ = cv2.findContours(filled, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(picture, contours, -1, color, thickness, cv2.LINE_AA, offset=(left, top))


def _resize_boxes(boxes: Boxes, scale: float) -> Boxes:
    """Return the first and last pixels of (N, 4) boxes in a resized picture."""
    one = np.float32(1)
    low, high = boxes[:, :2], boxes[:, 2:] + one
    return np.concatenate([low * np.float32(scale), high * np.float32(scale) - one], axis=1)


def _resize(image: NDArray[Value], scale: float, interpolation: int) -> NDArray[Value]:
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    resized = cv2.resize(image, (width, height), interpolation=interpolation)
    return np.ascontiguousarray(resized, dtype=image.dtype)


def _write(picture: Picture, text: str, *, corner: tuple[int, int], color: Color) -> None:
    x, y = corner
    origin = (max(0, min(x + 2, picture.shape[1] - 10 * len(text))), max(12, y - 3))
    for ink, thickness in (((0, 0, 0), 3), (color, 1)):
        cv2.putText(
            picture, text, origin, cv2.FONT_HERSHEY_SIMPLEX, 0.45, ink, thickness, cv2.LINE_AA
        )
