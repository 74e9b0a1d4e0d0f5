from __future__ import annotations

import numpy as np

from qmedsam.batch.overlay import (
    MOST_TILES,
    draw_image_overlay,
    draw_overlay,
    draw_volume_montage,
    montage_slices,
    object_color,
)


def test_the_outline_is_drawn_in_the_color_of_the_object():
    label_map = np.zeros((600, 600), dtype=np.uint8)
    label_map[200:400, 200:400] = 1
    boxes = np.array([[100, 100, 500, 500]], dtype=np.float32)
    picture = draw_image_overlay(np.zeros((600, 600), np.uint8), boxes, label_map, objects=[0])
    outline = picture[200, 300] / picture[200, 300].max()  # smoothed, so a little darker
    np.testing.assert_allclose(outline, np.divide(object_color(0), 255), atol=0.02)
    assert not picture[300, 300].any()
    assert picture[100, 300].any()


def test_neighbours_in_number_have_different_colors():
    assert len({object_color(i) for i in range(64)}) == 64


def test_a_large_image_is_reduced_and_a_small_one_enlarged():
    boxes = np.zeros((0, 4), dtype=np.float32)
    large = draw_image_overlay(
        np.zeros((3000, 1500), np.uint8), boxes, np.zeros((3000, 1500), np.uint8), objects=[]
    )
    small = draw_image_overlay(
        np.zeros((20, 40), np.uint8), boxes, np.zeros((20, 40), np.uint8), objects=[]
    )
    assert large.shape == (1280, 640, 3)
    assert small.shape == (512, 1024, 3)


def test_a_thin_image_stays_a_picture():
    picture = draw_image_overlay(
        np.zeros((1, 1000), np.uint8),
        np.zeros((0, 4), np.float32),
        np.zeros((1, 1000), np.uint8),
        objects=[],
    )
    assert picture.shape == (1, 1280, 3)


def test_the_montage_shows_slices_through_each_object():
    boxes = np.array([[0, 0, 0, 9, 9, 7], [0, 0, 10, 9, 9, 10]], dtype=np.float32)
    assert montage_slices(boxes, 20) == [2, 4, 6, 10]


def test_the_montage_is_limited_and_still_shows_every_object():
    deep = [[0, 0, z, 9, 9, z + 60] for z in range(100)]
    short = [[0, 0, z, 9, 9, z] for z in (0, 150, 199)]
    boxes = np.array(deep + short, dtype=np.float32)
    chosen = montage_slices(boxes, 200)
    assert len(chosen) == MOST_TILES
    assert chosen == sorted(chosen)
    assert all(any(box[2] <= z <= box[5] for z in chosen) for box in boxes)


def test_a_hundred_objects_that_share_no_slice_get_a_hundred_small_tiles():
    boxes = np.array([[0, 0, z, 9, 9, z] for z in range(100)], dtype=np.float32)
    assert montage_slices(boxes, 100) == list(range(100))
    volume = np.zeros((100, 16, 16), np.uint8)
    assert draw_volume_montage(volume, boxes, volume, objects=range(100)).shape == (2560, 2560, 3)


def test_a_volume_without_boxes_shows_its_middle():
    none = np.zeros((0, 6), dtype=np.float32)
    assert montage_slices(none, 9) == [4]
    montage = draw_volume_montage(
        np.zeros((9, 8, 8), np.uint8), none, np.zeros((9, 8, 8), np.uint8), objects=[]
    )
    assert montage.shape == (320, 320, 3)


def test_an_object_that_is_left_out_is_not_drawn():
    volume = np.zeros((8, 32, 32), np.uint8)
    boxes = np.array([[2, 2, 1, 20, 20, 3], [2, 2, 7, 20, 20, 7]], dtype=np.float32)
    both = draw_volume_montage(volume, boxes, volume, objects=[0, 1])
    first = draw_volume_montage(volume, boxes, volume, objects=[0])
    alone = draw_volume_montage(volume, boxes[:1], volume, objects=[0])
    np.testing.assert_array_equal(first, alone)
    assert both.any(axis=2).sum() > first.any(axis=2).sum()


def test_the_boxes_say_whether_a_volume_is_drawn():
    volume = np.zeros((4, 32, 32), np.uint8)
    boxes = np.array([[2, 2, 1, 20, 20, 3]], dtype=np.float32)
    np.testing.assert_array_equal(
        draw_overlay(volume, boxes, volume, objects=[0]),
        draw_volume_montage(volume, boxes, volume, objects=[0]),
    )
    image, flat = volume[0], boxes[:, [0, 1, 3, 4]]
    np.testing.assert_array_equal(
        draw_overlay(image, flat, image, objects=[0]),
        draw_image_overlay(image, flat, image, objects=[0]),
    )
