"""Reading training data is timed, and its size on disk told."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("torch", reason="training/requirements.txt is not installed")

from benchmarks.data_reading import draw_places, main, readers, unpack, volumes_only
from benchmarks.report.tables import data_section
from training.data.index import build_index

pytestmark = pytest.mark.training


@pytest.fixture
def root(tmp_path):
    """A volume of 4x8x8 with an object on two slices and an image of 8x8."""
    folder = tmp_path / "data"
    generator = np.random.default_rng(0)
    for modality, shape in (("CT", (4, 8, 8)), ("US", (8, 8))):
        labels = np.zeros(shape, dtype=np.uint8)
        labels[..., 2:5, 3:6] = 1
        if modality == "CT":
            labels[[0, 3]] = 0
        box = [3, 2, 1, 5, 4, 2] if modality == "CT" else [3, 2, 5, 4]
        pixels = generator.integers(0, 255, shape, dtype=np.uint8)
        (folder / modality).mkdir(parents=True)
        np.savez_compressed(folder / modality / "a.npz", imgs=pixels, gts=labels, boxes=[box])
    return folder


def test_every_way_to_read_gives_the_same_slice(root, tmp_path):
    index = build_index(root)
    unpack(index, root, tmp_path / "unpacked")
    ways = readers(root, tmp_path / "unpacked", 1 << 20)
    for place in [("CT/a.npz", 1), ("CT/a.npz", 2), ("US/a.npz", 0)]:
        image, labels = ways["unpacked"](place)
        floats, same_labels = ways["unpacked as the baseline does"](place)
        assert (floats.shape, floats.dtype) == ((8, 8, 3), np.float64)
        np.testing.assert_allclose(floats, np.repeat(image[..., None], 3, axis=2) / 255)
        np.testing.assert_array_equal(same_labels, labels)
        for way in ("archives, volumes kept", "archives, nothing kept"):
            data = ways[way](place)
            np.testing.assert_array_equal(data.image, image)
            np.testing.assert_array_equal(data.labels, labels)


def test_volumes_are_told_from_images(root):
    index = build_index(root)
    assert set(volumes_only(index, root)) == {"CT"}
    places = draw_places(index, 6)
    assert len(places) == 6
    assert set(places) <= {("CT/a.npz", 1), ("CT/a.npz", 2), ("US/a.npz", 0)}


def test_the_command_records_seconds_and_sizes(root, tmp_path, capsys):
    record_file = tmp_path / "record.json"
    options = ["--root", str(root), "--slices", "4", "--json", str(record_file)]
    assert main(options) == 0
    record = json.loads(record_file.read_text())
    assert record["foreground_slices"] == {"CT": 2, "US": 1}
    assert set(record["seconds"]) == {"volumes", "all modalities"}
    sizes = record["size_bytes"]
    # Three slices of 64 pixels with a byte of labels each, beside one of pixels or 24.
    assert sizes["unpacked as the baseline does"] - sizes["unpacked"] == 3 * 64 * 23
    assert "4 random slices with objects, of 3 in all" in data_section(record)[1]
    assert "unpacked" in capsys.readouterr().out


def test_a_folder_without_cases_is_said_in_a_line(tmp_path, caplog):
    (tmp_path / "empty").mkdir()
    options = ["--root", str(tmp_path / "empty"), "--json", str(tmp_path / "record.json")]
    assert main(options) == 2
    assert str(tmp_path / "empty") in caplog.text
