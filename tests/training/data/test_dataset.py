"""Samples from files, in one process and in several."""

from __future__ import annotations

import dataclasses
import pickle
import warnings
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest

pytest.importorskip("torch", reason="training/requirements.txt is not installed")

from qmedsam.core.geometry import ModelFrame, mask_to_box
from qmedsam.core.preprocess import preprocess_image, preprocess_to_frame
from qmedsam.core.regions import Region
from training.data.augment import Augmentation
from training.data.dataset import (
    Batches,
    SliceDataset,
    boxes_anywhere,
    low_res_masks,
    present_objects,
)
from training.data.index import build_index
from training.data.sampler import Draw, EpochSampler
from training.data.views import low_res_frame, planner_of
from training.data.volumes import DataError, SliceData

pytestmark = pytest.mark.training

SIZE = 256
INWARDS = np.float32([0.5, 0.5, -0.5, -0.5])  # from the edges of a box to its pixels
PLAIN = Augmentation(flip_horizontal=0, flip_vertical=0, box_shift_px=(0, 0), own_box=0)
RANDOM = Augmentation(zoom=0.5, photometric=0.5, grey=0.5)


def save(path, image, labels, boxes):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, imgs=image, gts=labels, boxes=np.array(boxes))


@pytest.fixture
def root(tmp_path):
    """A colour image of 128x256 with three objects and a volume of 3x64x64 with one."""
    generator = np.random.default_rng(0)
    labels = np.zeros((128, 256), dtype=np.uint16)
    labels[10:30, 20:60] = 1
    labels[50:90, 100:120] = 2
    labels[100:110, 200:250] = 4  # the third is missing
    boxes = [[20, 10, 59, 29], [100, 50, 119, 89], [0, 0, 5, 5], [199, 99, 250, 110]]
    image = generator.integers(0, 255, (128, 256, 3), dtype=np.uint8)
    save(tmp_path / "US" / "a.npz", image, labels, boxes)
    volume = np.zeros((3, 64, 64), dtype=np.uint8)
    volume[1, 16:32, 8:24] = 1
    volume[2, 16:20, 8:24] = 1
    pixels = generator.integers(0, 255, volume.shape, dtype=np.uint8)
    save(tmp_path / "CT" / "Lung" / "b.npz", pixels, volume, [[8, 16, 1, 23, 31, 2]])
    return tmp_path


def make_dataset(root, settings=PLAIN, **options) -> SliceDataset:
    chosen = {"image_size": SIZE, "objects_per_image": 2, "cache_bytes": 1 << 20, **options}
    return SliceDataset(root, build_index(root), settings=settings, seed=3, **chosen)


def assert_same(a, b):
    assert (a.key, a.modality, a.geometry) == (b.key, b.modality, b.geometry)
    for name in ("image", "teacher_image", "boxes", "masks"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)


def test_an_image_becomes_a_sample_as_inference_would_see_it(root):
    sample = make_dataset(root, objects_per_image=9)[Draw("US", 0, 0, 0)]
    assert (sample.key, sample.modality, sample.geometry) == ("US/a.npz#0", "US", "none")
    with np.load(root / "US" / "a.npz") as archive:
        np.testing.assert_array_equal(sample.image, preprocess_image(archive["imgs"], SIZE)[0])
    assert sample.teacher_image is sample.image
    first_and_last = sample.boxes + np.float32([0.5, 0.5, -0.5, -0.5])
    assert first_and_last.tolist() == [[20, 10, 59, 29], [100, 50, 119, 89], [200, 100, 249, 109]]
    assert sample.masks.shape == (3, 256, 256)
    assert [mask_to_box(mask > 0).tolist() for mask in sample.masks] == first_and_last.tolist()
    assert sample.masks.sum(axis=(1, 2)).tolist() == [800, 800, 500]
    assert {array.dtype for array in (sample.image, sample.boxes, sample.masks)} == {
        np.dtype(np.float32)
    }


def test_a_slice_of_a_volume_is_prompted_by_its_mask_or_the_whole_object(root):
    # The index numbers slices 1 and 2, which carry the object; pixels become four times larger.
    tight = make_dataset(root)[Draw("CT", 1, 0, 0)]
    assert tight.key == "CT/Lung/b.npz#2"
    assert tight.image.shape == (3, SIZE, SIZE)
    assert tight.boxes.tolist() == [[31.5, 63.5, 95.5, 79.5]]
    assert mask_to_box(tight.masks[0] > 0).tolist() == [32, 64, 95, 79]
    own = Augmentation(flip_horizontal=0, flip_vertical=0, own_box=1)
    whole = make_dataset(root, own)[Draw("CT", 1, 0, 0)]
    assert whole.boxes.tolist() == [[31.5, 63.5, 95.5, 127.5]]


def test_a_large_model_frame_has_masks_of_the_same_size(root):
    sample = make_dataset(root, image_size=1024)[Draw("CT", 0, 0, 0)]
    assert sample.image.shape == (3, 1024, 1024)
    assert sample.masks.shape == (1, 256, 256)
    assert sample.boxes.tolist() == [[127.5, 255.5, 383.5, 511.5]]


def test_objects_are_chosen_at_random_and_at_most_so_many(root):
    dataset = make_dataset(root, objects_per_image=2)
    chosen = [dataset[Draw("US", 0, 0, position)].boxes[:, 0].tolist() for position in range(30)]
    assert {len(boxes) for boxes in chosen} == {2}
    assert {x for boxes in chosen for x in boxes} == {19.5, 99.5, 199.5}


@pytest.mark.parametrize("draw", [Draw("US", 0, 0, 0), Draw("CT", 0, 0, 0)], ids=["2D", "3D"])
@pytest.mark.parametrize(("horizontal", "vertical"), [(1, 0), (0, 1), (1, 1)])
def test_flips_mirror_the_sample(root, draw, horizontal, vertical):
    flips = Augmentation(
        flip_horizontal=horizontal, flip_vertical=vertical, box_shift_px=(0, 0), own_box=0
    )
    plain, flipped = make_dataset(root)[draw], make_dataset(root, flips)[draw]
    height = 128 if draw.modality == "US" else SIZE
    rows, columns = slice(None, None, 1 - 2 * vertical), slice(None, None, 1 - 2 * horizontal)
    for name in ("image", "masks"):
        expected = getattr(plain, name)[:, :height][:, rows, columns]
        np.testing.assert_allclose(getattr(flipped, name)[:, :height], expected, atol=1e-6)
    assert flipped.geometry == "h" * horizontal + "v" * vertical
    x0, y0, x1, y1 = plain.boxes.T
    x0, x1 = (SIZE - 1 - x1, SIZE - 1 - x0) if horizontal else (x0, x1)
    y0, y1 = (height - 1 - y1, height - 1 - y0) if vertical else (y0, y1)
    np.testing.assert_array_equal(flipped.boxes, np.stack([x0, y0, x1, y1], axis=1))


def test_the_teacher_sees_no_change_of_appearance(root):
    changed = Augmentation(flip_horizontal=0, flip_vertical=0, photometric=1, grey=1)
    plain = make_dataset(root)[Draw("US", 0, 0, 0)]
    sample = make_dataset(root, changed)[Draw("US", 0, 0, 0)]
    np.testing.assert_array_equal(sample.teacher_image, plain.image)
    np.testing.assert_array_equal(sample.image[0], sample.image[1])
    assert not np.array_equal(sample.image, sample.teacher_image)


def test_a_zoomed_sample_keeps_its_objects_whole(root):
    settings = Augmentation(zoom=1, zoom_range=(0.5, 3.0), own_box=0, box_shift_px=(0, 0))
    dataset = make_dataset(root, settings, objects_per_image=1)
    widths = []
    for position in range(20):
        sample = dataset[Draw("CT", 0, 0, position)]
        box = mask_to_box(sample.masks[0] > 0)
        assert sample.geometry == "free"
        width, height = (box[2:] - box[:2] + 1).tolist()
        assert width == pytest.approx(height, abs=2)
        expected = box + np.array([-0.5, -0.5, 0.5, 0.5])  # to the edges of its pixels
        assert sample.boxes[0] == pytest.approx(expected, abs=1.5)
        widths.append(width)
    assert min(widths) < 60 < 100 < max(widths)


def test_a_draw_gives_the_same_sample_whenever_it_is_made(root):
    dataset = make_dataset(root, RANDOM)
    draws = [Draw("US", 0, 1, position) for position in range(4)]
    first = [dataset[draw] for draw in draws]
    for draw, sample in zip(reversed(draws), reversed(first), strict=True):
        assert_same(dataset[draw], sample)
    assert len({sample.boxes.tobytes() for sample in first}) > 1


def in_a_fresh_process(function, *calls):
    """Call a function with each of some arguments where no OpenVINO runs.

    The loader's handler for the end of a worker and OpenVINO's threads end a process together.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return [each.result() for each in [pool.submit(function, *call) for call in calls]]


def epoch(root, workers, start_batch=0):
    warnings.filterwarnings("ignore", "This DataLoader will create")  # on a machine of one core
    dataset = make_dataset(root, RANDOM)
    sampler = EpochSampler(build_index(root), 4, seed=1, batch_size=2)
    loader = Batches(dataset, sampler, workers)
    sampler.set_epoch(2, start_batch)
    return list(loader)


def test_workers_make_the_same_samples_also_after_a_resumption(root):
    alone = epoch(root, 0)
    shared, resumed = in_a_fresh_process(epoch, (root, 2, 0), (root, 2, 3))
    assert [len(batch) for batch in alone] == [2, 2, 2, 2]
    assert [len(batch) for batch in resumed] == [2]
    for a, b in zip(alone + alone[3:], shared + resumed, strict=True):
        for one, other in zip(a, b, strict=True):
            assert_same(one, other)


def test_a_dataset_can_be_sent_to_a_process(root):
    dataset = make_dataset(root, RANDOM)
    draw = Draw("CT", 1, 0, 5)
    assert_same(pickle.loads(pickle.dumps(dataset))[draw], dataset[draw])


def test_objects_are_labels_with_a_box():
    labels = np.array([[0, 3, 3], [1, 9, 0]])
    data = SliceData(np.zeros((2, 3), np.uint8), labels, np.zeros((4, 4), np.float32))
    assert present_objects(data).tolist() == [1, 3]


def frame_of(mask) -> ModelFrame:
    return low_res_frame(Region(0, 0, mask.shape, (SIZE, SIZE)), SIZE)


def test_a_region_is_shown_as_serving_would_see_it(tmp_path):
    labels = np.zeros((900, 1000), dtype=np.uint8)
    labels[20:60, 30:60] = 1
    labels[700:740, 800:860] = 2
    labels[710:730, 900:910] = 3
    boxes = np.array([[30, 20, 59, 59], [800, 700, 859, 739], [900, 710, 909, 729]])
    image = np.random.default_rng(0).integers(0, 255, labels.shape, dtype=np.uint8)
    save(tmp_path / "US" / "a.npz", image, labels, boxes)
    dataset = make_dataset(tmp_path, regions=1.0)
    plan = planner_of("auto", SIZE).plan_image(boxes.astype(np.float32), labels.shape)
    expected = {
        region: np.flatnonzero(np.array(plan.of_object) == place)
        for place, region in enumerate(plan.regions)
    }
    assert len(expected) > 1
    seen = set()
    for position in range(8):
        sample = dataset[Draw("US", 0, 0, position)]
        region, rows = next(
            (region, rows)
            for region, rows in expected.items()
            if sample.image.shape[1:] == region.grid_hw
            and np.array_equal(
                sample.image, preprocess_to_frame(region.cut(image), region.frame)[0]
            )
        )
        seen.add(region)
        np.testing.assert_allclose(sample.boxes, region.boxes_to_model(np.float32(boxes[rows])))
        assert sample.masks.shape == (len(rows), *region.grid_hw)
        for mask, box in zip(sample.masks, sample.boxes, strict=True):
            np.testing.assert_allclose(mask_to_box(mask > 0), box + INWARDS, atol=1)
        assert sample.geometry == "free"
    assert seen == set(expected)


def test_whole_images_and_regions_are_shown_as_often_as_asked(root):
    dataset = make_dataset(root, regions=0.5)
    sides = [dataset[Draw("US", 0, 0, position)].image.shape[1:] for position in range(40)]
    assert 10 < sides.count((SIZE, SIZE)) < 40


def test_regions_are_not_for_a_teacher_of_another_size(root):
    with pytest.raises(DataError, match="teacher of 256 px as the student, got 1024"):
        make_dataset(root, regions=0.5, teacher_size=1024)


def test_masks_shrink_by_area_and_vanished_ones_are_left_out():
    large, half, dot = np.zeros((3, 512, 256), dtype=bool)
    large[0:4, 0:4] = True
    large[0, 4] = True  # a quarter of its pixel
    half[10:12, 10] = True  # exactly half
    dot[20, 20] = True
    masks, is_kept = low_res_masks([half, large, dot], frame_of(half))
    assert is_kept.tolist() == [False, True, False]
    assert masks.shape == (1, 256, 256)
    assert mask_to_box(masks[0] > 0).tolist() == [0, 0, 1, 1]


def test_where_all_masks_vanish_the_largest_is_what_it_touches():
    half, dot = np.zeros((2, 512, 256), dtype=bool)
    half[11:13, 10] = True
    dot[20, 20] = True
    masks, is_kept = low_res_masks([dot, half], frame_of(half))
    assert is_kept.tolist() == [False, True]
    assert mask_to_box(masks[0] > 0).tolist() == [5, 5, 5, 6]


def test_masks_grow_linearly_and_keep_to_the_image():
    mask = np.ones((64, 128), dtype=bool)
    masks, _ = low_res_masks([mask], frame_of(mask))
    assert mask_to_box(masks[0] > 0).tolist() == [0, 0, 255, 127]
    assert set(np.unique(masks)) == {0, 1}


def test_boxes_of_vanished_objects_are_left_out(tmp_path):
    labels = np.zeros((1024, 1024), dtype=np.uint8)
    labels[0, 0] = 1
    labels[100:200, 100:200] = 2
    boxes = [[0, 0, 0, 0], [100, 100, 199, 199]]
    save(tmp_path / "US" / "a.npz", np.zeros_like(labels), labels, boxes)
    sample = make_dataset(tmp_path)[Draw("US", 0, 0, 0)]
    assert sample.boxes.tolist() == [[24.5, 24.5, 49.5, 49.5]]
    assert sample.masks.shape == (1, 256, 256)


def test_a_file_that_lost_its_objects_is_named(root):
    dataset = make_dataset(root)
    save(root / "US" / "a.npz", np.zeros((4, 4), np.uint8), np.zeros((4, 4), int), [[0, 0, 1, 1]])
    with pytest.raises(DataError, match=r"US/a\.npz#0 must carry an object as when it was indexed"):
        dataset[Draw("US", 0, 0, 0)]


def test_a_sample_needs_room_for_an_object(root):
    with pytest.raises(ValueError, match="1 or more, got 0"):
        make_dataset(root, objects_per_image=0)


def test_other_boxes_lie_anywhere_inside_the_image():
    hw = 96, 256
    boxes = boxes_anywhere(hw, 500, np.random.default_rng(0))
    assert (boxes.shape, boxes.dtype) == ((500, 4), np.float32)
    low, high = boxes[:, :2], boxes[:, 2:]
    assert (low >= -0.5).all()
    assert (high <= np.float32([256, 96]) - 0.5 + 1e-3).all()
    width, height = (high - low).T
    assert 13 < width.min() < 30
    assert width.max() > 150
    assert height.max() == pytest.approx(96, abs=1e-3)
    assert boxes_anywhere(hw, 0, np.random.default_rng(0)).shape == (0, 4)


def test_a_sample_has_as_many_other_boxes_as_are_asked_for(root):
    for count in (0, 3):
        made = make_dataset(root, RANDOM, other_boxes=count)[Draw("CT", 1, 0, 5)]
        assert made.other_boxes.shape == (count, 4)
    # The rest of it is the same.
    assert_same(
        dataclasses.replace(made, other_boxes=np.zeros((0, 4), dtype=np.float32)),
        make_dataset(root, RANDOM)[Draw("CT", 1, 0, 5)],
    )
