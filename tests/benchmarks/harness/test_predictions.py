"""Cases of a folder, and predictions that are made once."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.harness.predictions import Method, case_paths, predict_cases


@pytest.fixture
def root(tmp_path):
    for name, columns, shape in (("CT/v", 6, (2, 4, 4)), ("US/i", 4, (4, 4, 3))):
        path = tmp_path / "data" / f"{name}.npz"
        path.parent.mkdir(parents=True)
        np.savez(path, imgs=np.zeros(shape, np.uint8), boxes=np.zeros((1, columns)))
    return tmp_path / "data"


@pytest.mark.parametrize(
    ("kind", "names"), [("2D", ["i.npz"]), ("3D", ["v.npz"]), ("all", ["v.npz", "i.npz"])]
)
def test_cases_are_chosen_by_the_shape_of_their_boxes(root, kind, names):
    assert [path.name for path in case_paths(root, kind)] == names


def test_a_folder_without_cases_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="must hold <Modality>/"):
        case_paths(tmp_path)


def test_predictions_are_made_once_and_resumed(root, tmp_path):
    loaded, predicted = [], []

    def load():
        loaded.append(True)

        def predict(case):
            predicted.append(case.pixels.shape)
            return np.ones((1, 1), dtype=np.uint8)

        return predict

    weights = tmp_path / "weights"
    weights.write_text("one")
    method = Method("key", "title", weights, load)
    work_dir = tmp_path / "work"
    paths = case_paths(root)
    assert predict_cases(method, paths[:1], work_dir) == work_dir / "key"
    predict_cases(method, paths, work_dir)
    predict_cases(method, paths, work_dir)
    assert predicted == [(2, 4, 4), (4, 4, 3)]
    assert len(loaded) == 2  # not the third time, when nothing was missing
    assert (work_dir / "key" / "US" / "i.npz").is_file()
    (work_dir / "key" / "weights.sha256").unlink()
    with pytest.raises(FileExistsError, match="of other weights"):  # of whatever weights
        predict_cases(method, paths, work_dir)
    weights.write_text("another")
    with pytest.raises(FileExistsError, match="label maps of other weights; delete it"):
        predict_cases(method, paths, work_dir)
