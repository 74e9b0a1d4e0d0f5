"""Random changes: what moves together, and what must never be lost."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest

pytest.importorskip("pydantic", reason="training/requirements.txt is not installed")

from pydantic import ValidationError

from qmedsam.core.geometry import mask_to_box
from tests.conftest import mask_of
from training.data.augment import (
    Augmentation,
    Scene,
    add_noise,
    blur,
    change_appearance,
    change_geometry,
    change_values,
    crop_randomly,
    flip_horizontally,
    flip_vertically,
    move_sides,
    pad_randomly,
    prompt_boxes,
    remove_colour,
    zoom,
)
from training.settings import explain

pytestmark = pytest.mark.training

MASK = mask_of(["......", ".##...", ".#....", "......"])
UNCHANGED = Augmentation(flip_horizontal=0, flip_vertical=0)


def make_scene(mask=MASK, file_box=(0, 1, 3, 2), image=None) -> Scene:
    if image is None:
        image = np.where(mask, 90, 10).astype(np.uint8)
    boxes = np.array([file_box], dtype=np.float32)
    return Scene(image, mask.astype(np.uint8), boxes, mask_to_box(mask)[None])


def is_consistent(scene: Scene) -> bool:
    """Whether image, labels and the box of the mask still say the same."""
    mask = scene.labels == 1
    np.testing.assert_array_equal(scene.image == 90, mask)
    return scene.mask_boxes[0].tolist() == mask_to_box(mask).tolist()


@pytest.fixture
def generator():
    return np.random.default_rng(0)


def test_a_horizontal_flip_mirrors_image_labels_and_boxes():
    flipped = flip_horizontally(make_scene())
    np.testing.assert_array_equal(
        flipped.labels == 1, mask_of(["......", "...##.", "....#.", "......"])
    )
    assert flipped.mask_boxes.tolist() == [[3, 1, 4, 2]]
    assert flipped.file_boxes.tolist() == [[2, 1, 5, 2]]
    assert is_consistent(flipped)


def test_a_vertical_flip_mirrors_image_labels_and_boxes():
    flipped = flip_vertically(make_scene(file_box=(0, 0, 3, 2)))
    np.testing.assert_array_equal(
        flipped.labels == 1, mask_of(["......", ".#....", ".##...", "......"])
    )
    assert flipped.mask_boxes.tolist() == [[1, 1, 2, 2]]
    assert flipped.file_boxes.tolist() == [[0, 1, 3, 3]]
    assert is_consistent(flipped)


@pytest.mark.parametrize("flip", [flip_horizontally, flip_vertically])
def test_flipping_twice_changes_nothing_and_never_the_argument(flip):
    image = np.arange(72, dtype=np.uint8).reshape(4, 6, 3)
    scene = make_scene(image=image)
    twice = flip(flip(scene))
    np.testing.assert_array_equal(twice.image, np.arange(72).reshape(4, 6, 3))
    assert twice.file_boxes.tolist() == scene.file_boxes.tolist() == [[0, 1, 3, 2]]


@pytest.mark.parametrize(
    ("horizontal", "vertical", "geometry"),
    [(0, 0, "none"), (1, 0, "h"), (0, 1, "v"), (1, 1, "hv")],
)
def test_flips_have_names(generator, horizontal, vertical, geometry):
    settings = Augmentation(flip_horizontal=horizontal, flip_vertical=vertical)
    scene, done = change_geometry(make_scene(), settings, generator)
    assert done == geometry
    assert is_consistent(scene)


def test_a_zoom_is_free_whether_flipped_or_not(generator):
    settings = Augmentation(zoom=1)
    assert {change_geometry(make_scene(), settings, generator)[1] for _ in range(9)} == {"free"}


def test_nothing_asked_for_changes_nothing(generator):
    scene = make_scene()
    assert change_geometry(scene, UNCHANGED, generator)[0] is scene


@pytest.mark.parametrize("factor", [1.0, 1.3, 1.6, 5.0])
def test_a_crop_keeps_objects_and_boxes_whole(generator, factor):
    seen = set()
    for _ in range(50):
        scene = crop_randomly(make_scene(), factor, generator)
        assert is_consistent(scene)
        assert scene.labels.sum() == 3
        height, width = scene.hw
        assert (scene.file_boxes >= 0).all()
        assert (scene.file_boxes <= [width - 1, height - 1] * 2).all()
        # Rows and columns asked for, but no fewer than the file's box has: 2 and 4.
        assert scene.hw == (max(2, round(4 / factor)), max(4, round(6 / factor)))
        seen.add(tuple(scene.mask_boxes[0].tolist()))
    assert len(seen) == (2 if factor == 1.3 else 1)  # rows 0 to 2 or 1 to 3


@pytest.mark.parametrize("file_box", [(0, 0, 6, 4), (-9, -9, 99, 99), (0.5, 1.2, 2.1, 2)])
def test_boxes_beyond_the_border_or_between_pixels_can_be_cropped(generator, file_box):
    for _ in range(20):
        assert is_consistent(crop_randomly(make_scene(file_box=file_box), 5.0, generator))


def test_padding_has_the_lowest_value_and_no_label(generator):
    places = set()
    for _ in range(50):
        scene = pad_randomly(make_scene(), 0.5, generator)
        assert scene.hw == (8, 12)
        assert is_consistent(scene)
        assert scene.labels.sum() == 3
        assert np.unique(scene.image).tolist() == [10, 90]
        assert scene.file_boxes.tolist() == [
            (scene.mask_boxes[0] + np.array([-1, 0, 1, 0])).tolist()
        ]
        places.add(tuple(scene.mask_boxes[0].tolist()))
    assert len(places) > 10


def test_a_colour_image_is_padded_too(generator):
    image = np.full((4, 6, 3), (7, 8, 9), dtype=np.uint8)
    padded = pad_randomly(make_scene(image=image), 0.5, generator).image
    assert padded.shape == (8, 12, 3)
    assert (padded == 7).all(axis=2).sum() == 8 * 12 - 4 * 6


@pytest.mark.parametrize(("factor", "hw"), [(0.5, (8, 12)), (1.0, (4, 6)), (1.5, (3, 4))])
def test_zoom_pads_below_1_and_crops_above(generator, factor, hw):
    assert zoom(make_scene(), factor, generator).hw == hw


def test_one_pixel_can_be_zoomed(generator):
    scene = make_scene(np.ones((1, 1), dtype=bool), (0, 0, 0, 0))
    assert zoom(scene, 3.0, generator).hw == (1, 1)
    assert zoom(scene, 0.2, generator).hw == (5, 5)


def test_sides_move_outwards_or_inwards_but_not_past_the_middle():
    boxes = np.array([[10, 20, 30, 30]], dtype=np.float32)
    outwards = np.array([[1, 2, 3, 4]], dtype=np.float32)
    assert move_sides(boxes, outwards).tolist() == [[9, 18, 33, 34]]
    assert move_sides(boxes, -outwards).tolist() == [[11, 22, 27, 26]]
    assert move_sides(boxes, -9 * outwards).tolist() == [[19, 25, 20, 25]]


def test_the_shift_is_in_pixels_of_the_model_frame(generator):
    mask = np.zeros((100, 200), dtype=bool)
    mask[40:60, 80:120] = True
    settings = Augmentation(box_shift_px=(4, 4), own_box=0)
    boxes = prompt_boxes(make_scene(mask), settings, 0.5, generator)
    assert boxes.tolist() == [[72, 32, 127, 67]]
    assert boxes.dtype == np.float32


def test_each_box_may_have_a_scale_of_its_own(generator):
    scene = make_scene()
    two = dataclasses.replace(
        scene,
        file_boxes=np.repeat(scene.file_boxes, 2, axis=0),
        mask_boxes=np.float32([[40, 40, 60, 60]] * 2),
        labels=np.zeros((100, 100), dtype=np.uint8),
    )
    settings = Augmentation(box_shift_px=(4, 4), own_box=0)
    boxes = prompt_boxes(two, settings, np.array([[1.0], [2.0]]), generator)
    assert boxes.tolist() == [[36, 36, 64, 64], [38, 38, 62, 62]]


def test_the_files_box_is_not_shifted_and_both_are_clipped(generator):
    own = Augmentation(own_box=1, box_shift_px=(5, 5))
    assert prompt_boxes(make_scene(), own, 1.0, generator).tolist() == [[0, 1, 3, 2]]
    scene = make_scene(file_box=(-3, 1, 99, 2))
    assert prompt_boxes(scene, own, 1.0, generator).tolist() == [[0, 1, 5, 2]]
    moved = Augmentation(own_box=0, box_shift_px=(50, 50))
    assert prompt_boxes(scene, moved, 1.0, generator).tolist() == [[0, 0, 5, 3]]


def test_each_object_chooses_its_own_box(generator):
    boxes = np.tile(np.array([[0, 0, 1, 1]], dtype=np.float32), (400, 1))
    scene = Scene(np.zeros((9, 9), np.uint8), np.zeros((9, 9), np.uint8), boxes + 4, boxes)
    settings = Augmentation(box_shift_px=(0, 0), own_box=0.25)
    chosen = prompt_boxes(scene, settings, 1.0, generator)
    assert 60 < (chosen[:, 0] == 4).sum() < 140


def test_an_image_without_a_change_of_appearance_is_the_same_array(generator):
    image = np.zeros((2, 2, 3), dtype=np.uint8)
    assert change_appearance(image, Augmentation(), generator) is image


def test_colour_is_lost_by_its_luminance(generator):
    red = np.full((2, 3, 3), (100, 0, 0), dtype=np.uint8)
    grey = change_appearance(red, Augmentation(grey=1), generator)
    assert grey.tolist() == [[30, 30, 30]] * 2
    assert remove_colour(grey) is grey


@pytest.mark.parametrize("shape", [(8, 9), (8, 9, 3)], ids=["grey", "colour"])
def test_a_changed_image_keeps_its_shape_and_its_argument(generator, shape):
    image = np.arange(np.prod(shape)).reshape(shape).astype(np.uint8)
    image.flags.writeable = False
    for _ in range(30):
        changed = change_appearance(image, Augmentation(photometric=1), generator)
        assert (changed.shape, changed.dtype) == (shape, np.uint8)
        assert not np.array_equal(changed, image)
        assert changed.min() < changed.max()


def test_values_keep_their_order_and_range(generator):
    image = np.arange(100, 201, dtype=np.uint8)[None]
    for _ in range(30):
        changed = change_values(image, generator).astype(int)
        assert (np.diff(changed) >= 0).all()
        assert changed.min() >= 100
        assert changed.max() <= 200


@pytest.mark.parametrize("value", [0, 7, 255])
def test_a_constant_image_stays_as_it_is(generator, value):
    image = np.full((3, 3), value, dtype=np.uint8)
    assert (change_values(image, generator) == value).all()
    assert (add_noise(image, 0.5, generator) == value).all()
    assert (blur(image, 1.0) == value).all()


@pytest.mark.parametrize(
    "options",
    [
        {"flip_horizontal": 1.1},
        {"grey": -0.1},
        {"photometric": 2},
        {"box_shift_px": (5, 0)},
        {"box_shift_px": (1, 2, 3)},
        {"zoom_range": (2.0, 1.0)},
        {"zoom_range": (0.0, 1.0)},
    ],
    ids=str,
)
def test_impossible_settings_are_named(options):
    with pytest.raises(ValidationError) as raised:
        Augmentation(**options)
    (name,) = options
    assert re.match(rf"{name}[.\d]* must .*, got", explain(raised.value, Augmentation))
