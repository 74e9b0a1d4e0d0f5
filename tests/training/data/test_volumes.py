"""Reading single slices, with and without memory of the volume."""

from __future__ import annotations

import pickle
import tracemalloc

import numpy as np
import pytest

from qmedsam.batch.case_file import CaseFile
from training.data.volumes import DataError, VolumeCache

pytestmark = pytest.mark.training

SHAPE = (3, 2, 4)
VOLUME_BYTES = 2 * 24  # pixels and labels of one byte each
BOX = [[0, 0, 0, 1, 1, 2]]


def write(path, **changes):
    pixels = np.arange(24, dtype=np.uint8).reshape(SHAPE)
    members = {"imgs": pixels, "gts": pixels % 3, "boxes": np.array(BOX), **changes}
    np.savez_compressed(path, **{k: v for k, v in members.items() if v is not None})
    return path


def write_image(path):
    image = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    labels, boxes = np.array([[0, 1, 2, 0]] * 2), np.array([[1, 0, 1, 1]])
    return write(path, imgs=image, gts=labels, boxes=boxes)


@pytest.fixture
def decoded(monkeypatch):
    """Keys of the members that are read whole, but the boxes."""
    keys = []

    def array(self, key):
        if key != "boxes":
            keys.append(key)
        return original(self, key)

    original = CaseFile.array
    monkeypatch.setattr(CaseFile, "array", array)
    return keys


@pytest.mark.parametrize("capacity", [0, VOLUME_BYTES - 1, VOLUME_BYTES])
def test_a_slice_is_the_same_streamed_or_loaded(tmp_path, decoded, capacity):
    path = write(tmp_path / "a.npz")
    cache = VolumeCache(capacity)
    for z in (2, 0, 1):
        data = cache.read_slice(path, z)
        np.testing.assert_array_equal(data.image, np.arange(8 * z, 8 * z + 8).reshape(2, 4))
        np.testing.assert_array_equal(data.labels, data.image % 3)
        np.testing.assert_array_equal(data.boxes, BOX)
        assert data.boxes.dtype == np.float32
        assert not data.image.flags.writeable
    assert decoded == (["imgs", "gts"] if capacity == VOLUME_BYTES else [])


@pytest.mark.parametrize("capacity", [0, 1000])
def test_a_volume_in_fortran_order_is_loaded(tmp_path, capacity):
    pixels = np.asfortranarray(np.arange(24, dtype=np.uint8).reshape(SHAPE))
    path = write(tmp_path / "a.npz", imgs=pixels)
    image = VolumeCache(capacity).read_slice(path, 1).image
    assert image.tolist() == [[8, 9, 10, 11], [12, 13, 14, 15]]
    assert image.flags.c_contiguous


def test_labels_of_several_bytes_are_streamed(tmp_path):
    labels = np.arange(24, dtype=">u4").reshape(SHAPE) * 1000
    path = write(tmp_path / "a.npz", gts=labels)
    np.testing.assert_array_equal(VolumeCache(0).read_slice(path, 1).labels, labels[1])


def test_streaming_never_holds_the_volume(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (64, 256, 256), dtype=np.uint8)
    path = write(tmp_path / "a.npz", imgs=pixels, gts=pixels)
    cache = VolumeCache(pixels.nbytes)
    tracemalloc.start()
    try:
        image = cache.read_slice(path, 63).image
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(image, pixels[63])
    assert peak_bytes < pixels.nbytes // 2


def test_the_volume_used_last_stays_longest(tmp_path, decoded):
    a, b, c = (write(tmp_path / f"{name}.npz") for name in "abc")
    cache = VolumeCache(2 * VOLUME_BYTES)
    for path in (a, b, a, c):
        cache.read_slice(path, 0)
    assert len(decoded) == 2 * 3
    cache.read_slice(a, 1)
    assert len(decoded) == 2 * 3
    cache.read_slice(b, 1)
    assert len(decoded) == 2 * 4


def test_an_image_is_slice_0_and_never_displaces_a_volume(tmp_path, decoded):
    volume, image = write(tmp_path / "a.npz"), write_image(tmp_path / "b.npz")
    cache = VolumeCache(VOLUME_BYTES)
    cache.read_slice(volume, 0)
    for _ in range(2):
        data = cache.read_slice(image, 0)
        assert data.image.shape == (2, 4, 3)
        assert data.labels.tolist() == [[0, 1, 2, 0]] * 2
        assert data.boxes.shape == (1, 4)
    assert len(decoded) == 2 * 3
    cache.read_slice(volume, 1)
    assert len(decoded) == 2 * 3


def test_an_image_is_kept_where_there_is_room(tmp_path, decoded):
    image = write_image(tmp_path / "b.npz")
    cache = VolumeCache(1000)
    for _ in range(2):
        cache.read_slice(image, 0)
    assert decoded == ["imgs", "gts"]


def test_a_copy_for_another_process_is_empty(tmp_path, decoded):
    path = write(tmp_path / "a.npz")
    cache = VolumeCache(1000)
    cache.read_slice(path, 0)
    copy = pickle.loads(pickle.dumps(cache))
    copy.read_slice(path, 0)
    assert decoded == ["imgs", "gts"] * 2


def test_boxes_are_ordered_and_may_be_none_or_one(tmp_path):
    def read(boxes):
        return VolumeCache(0).read_slice(write(tmp_path / "a.npz", boxes=boxes), 0).boxes.tolist()

    assert read(np.array([3, 0, 2, 1, 1, 0])) == [[1, 0, 0, 3, 1, 2]]
    assert VolumeCache(0).read_slice(write(tmp_path / "b.npz", boxes=np.zeros(0)), 0).boxes.shape
    assert read(np.zeros((0, 6))) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"gts": None}, "must have a member 'gts', got imgs, boxes", id="missing"),
        pytest.param({"boxes": np.zeros((2, 5))}, r"\(N, 4\) or \(N, 6\), got \(2, 5\)", id="box"),
        pytest.param({"boxes": np.full((1, 6), np.nan)}, "must be finite numbers", id="nan"),
        pytest.param({"boxes": np.zeros((1, 4))}, r"2 axes with boxes \(N, 4\)", id="columns"),
        pytest.param({"imgs": np.zeros(SHAPE)}, "must be uint8, got float64", id="pixels"),
        pytest.param({"gts": np.zeros(SHAPE)}, "must be integers, got float64", id="labels"),
        pytest.param({"imgs": np.zeros((2, 2, 4), np.uint8)}, "must fit 'gts'", id="shape"),
    ],
)
@pytest.mark.parametrize("capacity", [0, 1000])
def test_what_is_no_case_is_named_and_explained(tmp_path, capacity, changes, message):
    path = write(tmp_path / "a.npz", **changes)
    with pytest.raises(DataError, match=rf"a\.npz: .*{message}"):
        VolumeCache(capacity).read_slice(path, 0)


@pytest.mark.parametrize("capacity", [0, 1000])
def test_broken_files_and_missing_slices_are_explained(tmp_path, capacity):
    path = write(tmp_path / "a.npz")
    cache = VolumeCache(capacity)
    for z in (-1, 3):
        with pytest.raises(DataError, match=f"Slice must be 0 to 2, got {z}"):
            cache.read_slice(path, z)
    (tmp_path / "b.npz").write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match=r"b\.npz: File must be a \.npz archive"):
        cache.read_slice(tmp_path / "b.npz", 0)
    with pytest.raises(DataError, match=r"c\.npz: "):
        cache.read_slice(tmp_path / "c.npz", 0)


def test_a_volume_in_memory_has_no_more_slices_either(tmp_path):
    path = write(tmp_path / "a.npz")
    cache = VolumeCache(1000)
    cache.read_slice(path, 0)
    with pytest.raises(DataError, match=r"a\.npz: Slice must be 0 to 2, got -1"):
        cache.read_slice(path, -1)


def test_a_capacity_below_0_is_refused():
    with pytest.raises(ValueError, match="0 bytes or more, got -1"):
        VolumeCache(-1)
