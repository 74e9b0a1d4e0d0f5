"""Contact sheets of training data."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from training.data import __main__ as sheets

pytestmark = pytest.mark.training


def save(path, labels, boxes):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.full(labels.shape, 60, dtype=np.uint8)
    np.savez_compressed(path, imgs=image, gts=labels, boxes=np.array(boxes))


def test_each_modality_gets_a_picture_with_a_row_for_each_data_set(tmp_path, capsys):
    labels = np.zeros((50, 100), dtype=np.uint8)
    labels[10:30, 20:60] = 1
    for name in ("A/a", "A/b", "B/c"):
        save(tmp_path / "data" / "US" / f"{name}.npz", labels, [[20, 10, 59, 29]])
    volume = np.zeros((3, 50, 100), dtype=np.uint8)
    volume[1] = labels
    save(tmp_path / "data" / "CT" / "d.npz", volume, [[20, 10, 1, 59, 29, 1]])
    arguments = ["--data", str(tmp_path / "data"), "--output-dir", str(tmp_path / "sheets")]
    assert sheets.main(arguments) == 0
    found = {path.name: cv2.imread(str(path)) for path in (tmp_path / "sheets").iterdir()}
    row, width = sheets.TILE_PX + sheets.TITLE_PX, sheets.COLUMNS * sheets.TILE_PX
    assert {name: picture.shape for name, picture in found.items()} == {
        "US.png": (2 * row, width, 3),
        "CT.png": (row, width, 3),
    }
    tile = found["US.png"][sheets.TITLE_PX : row, : sheets.TILE_PX]
    scale = sheets.TILE_PX / 100
    colourful = np.ptp(tile.astype(int), axis=2) > 40
    rows, columns = np.nonzero(colourful)
    assert rows.max() == pytest.approx(30 * scale, abs=3)
    assert columns.max() == pytest.approx(60 * scale, abs=3)


def test_a_folder_without_cases_is_refused(tmp_path, caplog):
    arguments = ["--data", str(tmp_path), "--output-dir", str(tmp_path / "sheets")]
    assert sheets.main(arguments) == 2
    assert "must hold <Modality>" in caplog.text
