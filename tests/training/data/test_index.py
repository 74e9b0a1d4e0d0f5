"""Which slices carry an object, and what is remembered of them."""

from __future__ import annotations

import logging
import os
import zipfile

import numpy as np
import pytest

from training.data import index as index_module
from training.data.index import (
    FileEntry,
    ModalityIndex,
    build_index,
    foreground_slices,
    without,
)
from training.data.volumes import DataError

pytestmark = pytest.mark.training


def write_image(path, labels, boxes=((0, 0, 1, 1),)):
    labels = np.asarray(labels, dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.zeros((*labels.shape, 3), dtype=np.uint8)
    np.savez_compressed(path, imgs=image, gts=labels, boxes=np.array(boxes))


def write_volume(path, slices, depth=5):
    """Write a volume with label 1 on the given slices."""
    labels = np.zeros((depth, 2, 3), dtype=np.uint8)
    labels[list(slices), 0, 0] = 1
    path.parent.mkdir(parents=True, exist_ok=True)
    boxes = np.array([[0, 0, 0, 1, 1, depth - 1]])
    np.savez_compressed(path, imgs=np.zeros_like(labels), gts=labels, boxes=boxes)


@pytest.fixture
def reads(monkeypatch):
    """Names of the files that are opened."""
    names = []

    def open_training_case(path):
        names.append(path.name)
        return original(path)

    original = index_module.open_training_case
    monkeypatch.setattr(index_module, "open_training_case", open_training_case)
    return names


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "data"
    write_volume(folder / "CT" / "b.npz", [1, 2, 4])
    write_volume(folder / "CT" / "Abdomen" / "a.npz", [0])
    write_image(folder / "US" / "c.npz", [[0, 1], [0, 0]])
    return folder


def entry(path: str, *slices: int) -> FileEntry:
    return FileEntry(path, 0, 0, slices)


def test_a_number_is_located_in_its_file():
    part = ModalityIndex((entry("a", 3, 7), entry("b", 0), entry("c", 1, 2, 9)))
    assert len(part) == 6
    assert part.ends == (2, 3, 6)
    located = [(found.path, z) for found, z in map(part.locate, range(6))]
    assert located == [("a", 3), ("a", 7), ("b", 0), ("c", 1), ("c", 2), ("c", 9)]


@pytest.mark.parametrize("number", [-1, 2])
def test_a_number_outside_is_an_error(number):
    with pytest.raises(IndexError, match="0 to 1, got"):
        ModalityIndex((entry("a", 3, 7),)).locate(number)


def test_an_empty_modality_has_no_slices():
    assert len(ModalityIndex(())) == 0


def test_labels_without_a_box_are_no_objects():
    labels = np.array([[[0, 3]], [[2, 0]], [[0, 0]]])
    assert foreground_slices(labels, 2) == (1,)
    assert foreground_slices(labels, 3) == (0, 1)
    assert foreground_slices(labels[0], 3) == (0,)


def test_slices_with_an_object_are_found_in_nested_folders(root):
    index = build_index(root)
    assert list(index) == ["CT", "US"]
    assert [(e.path, e.slices) for e in index["CT"].entries] == [
        ("CT/Abdomen/a.npz", (0,)),
        ("CT/b.npz", (1, 2, 4)),
    ]
    assert [(e.path, e.slices) for e in index["US"].entries] == [("US/c.npz", (0,))]


def test_files_of_nothing_but_background_are_not_in_the_index(root):
    write_volume(root / "CT" / "empty.npz", [])
    write_image(root / "US" / "unboxed.npz", [[0, 1]], boxes=np.zeros((0, 4)))
    write_image(root / "OCT" / "empty.npz", [[0, 0]])
    index = build_index(root)
    assert {name: len(part) for name, part in index.items()} == {"CT": 4, "US": 1}


def test_hidden_files_and_files_beside_the_modalities_are_left_out(root):
    write_image(root / "US" / ".hidden.npz", [[1]])
    write_image(root / "beside.npz", [[1]])
    assert [e.path for e in build_index(root)["US"].entries] == ["US/c.npz"]


def test_a_known_file_is_read_again_only_where_it_changed(root, tmp_path, reads):
    cache = tmp_path / "cache" / "index.json"
    first = build_index(root, cache)
    assert reads == ["a.npz", "b.npz", "c.npz"]
    reads.clear()
    assert build_index(root, cache) == first
    assert reads == []
    os.utime(root / "CT" / "b.npz", ns=(1, 1))
    assert build_index(root, cache)["CT"].entries[1].mtime_ns == 1
    assert reads == ["b.npz"]
    write_volume(root / "CT" / "b.npz", [3])
    assert build_index(root, cache)["CT"].entries[1].slices == (3,)


def test_removed_files_are_forgotten(root, tmp_path):
    cache = tmp_path / "index.json"
    build_index(root, cache)
    (root / "US" / "c.npz").unlink()
    assert list(build_index(root, cache)) == ["CT"]
    assert "c.npz" not in cache.read_text()
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["index.json"]


@pytest.mark.parametrize("content", ["", "[]", '{"version":0}', '{"version":2,"files":{"a":[1]}}'])
def test_a_cache_that_is_none_is_made_anew(root, tmp_path, content):
    cache = tmp_path / "index.json"
    cache.write_text(content)
    assert build_index(root, cache) == build_index(root)
    assert build_index(root, cache) == build_index(root)


def test_broken_files_are_logged_and_left_out(root, caplog):
    (root / "US" / "broken.npz").write_bytes(b"PK")
    np.savez(root / "US" / "keys.npz", imgs=np.zeros((2, 2), np.uint8))
    with caplog.at_level(logging.WARNING):
        assert len(build_index(root)["US"]) == 1
    assert "US/broken.npz: File must be a .npz archive" in caplog.text
    assert "US/keys.npz: File must have a member 'gts', got imgs" in caplog.text


def test_a_file_whose_pixels_are_broken_is_left_out_before_training(root, caplog):
    path = root / "CT" / "broken.npz"
    write_volume(path, [1])
    with zipfile.ZipFile(path) as archive:
        place = archive.getinfo("imgs.npy").header_offset + 60
    content = bytearray(path.read_bytes())
    content[place : place + 8] = bytes(8)
    path.write_bytes(content)
    assert [entry.path for entry in build_index(root)["CT"].entries] == [
        "CT/Abdomen/a.npz",
        "CT/b.npz",
    ]
    assert "Left out: " in caplog.text
    assert "CT/broken.npz: " in caplog.text


def test_files_with_labels_that_have_no_box_are_named(root, tmp_path, caplog):
    write_image(root / "US" / "of-a-picture.npz", [[0, 255]])
    write_image(root / "US" / "three.npz", [[1, 3]])
    write_image(root / "US" / "empty.npz", [[0, 0]])
    for _ in range(2):  # also where it is known from before
        caplog.clear()
        build_index(root, tmp_path / "index.json")
        assert (
            "of-a-picture.npz: 'gts' must have label i for box i, got labels up to 255; it is l"
            in (caplog.text)
        )
        assert (
            "three.npz: 'gts' must have label i for box i, got labels up to 3; labels without"
            in (caplog.text)
        )
        assert (
            "empty.npz: 'gts' must have label i for box i, got background alone; it" in caplog.text
        )
        assert "c.npz" not in caplog.text


def test_of_many_such_files_some_are_named(root, caplog):
    for number in range(25):
        write_image(root / "US" / f"{number}.npz", [[0, 0]])
    build_index(root)
    assert caplog.text.count("background alone") == 20
    assert "5 more files have labels without boxes, or no object" in caplog.text


def test_no_usable_file_at_all_is_an_error(tmp_path):
    with pytest.raises(DataError, match="nowhere must be a folder"):
        build_index(tmp_path / "nowhere")
    write_volume(tmp_path / "CT" / "a.npz", [])
    with pytest.raises(DataError, match="with labelled objects, got 1 files without"):
        build_index(tmp_path)


def test_folders_can_be_left_out(tmp_path):
    for folder in ("CT/Aorta", "CT/Lung", "US"):
        write_image(tmp_path / folder / "a.npz", [[1, 0], [0, 0]])
    index = build_index(tmp_path)
    kept = without(index, ["CT/Aorta", "US"])
    assert [entry.path for part in kept.values() for entry in part.entries] == ["CT/Lung/a.npz"]
    assert without(index, []) == index
    with pytest.raises(DataError, match=r"some of \['CT/Aorta', 'CT/Lung', 'US'\], got \['MR'\]"):
        without(index, ["MR"])
    with pytest.raises(DataError, match="Every folder"):
        without(index, ["CT/Aorta", "CT/Lung", "US"])
