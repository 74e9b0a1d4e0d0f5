"""Label maps of two checkouts, pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import masks
from benchmarks.harness.measured import RunError
from benchmarks.harness.process import Finished
from qmedsam.batch.cases import write_label_map

TRUTH = np.array([[0, 1, 1, 0], [0, 1, 1, 0]], dtype=np.uint8)


@pytest.fixture
def data(tmp_path):
    """Two modalities of a case each."""
    for modality in ("CT", "US"):
        folder = tmp_path / "data" / modality
        folder.mkdir(parents=True)
        boxes = np.array([[1, 0, 3, 2]])
        np.savez(folder / "case.npz", imgs=np.zeros_like(TRUTH), boxes=boxes, gts=TRUTH)
    return tmp_path / "data"


def test_pixels_that_differ_are_counted_by_modality(data, tmp_path):
    changed = TRUTH.copy()
    changed[0, 1] = 0
    for name, label_maps in (("before", (TRUTH, TRUTH)), ("now", (changed, TRUTH))):
        for modality, label_map in zip(("CT", "US"), label_maps, strict=True):
            folder = tmp_path / name / modality
            folder.mkdir(parents=True)
            write_label_map(folder / "case.npz", label_map)
    folders = {name: tmp_path / name for name in ("before", "now")}
    counted, scores = masks.compare_service(folders, masks.case_paths(data))
    same = {"cases": 1, "pixels": 8, "differing": 0, "worst_share": 0.0}
    assert counted == {"CT": same | {"differing": 1, "worst_share": 1 / 8}, "US": same}
    dsc = {
        name: [document["modalities"][m]["correct"]["dsc"] for m in ("CT", "US")]
        for name, document in scores.items()
    }
    assert dsc["before"] == [1, 1]
    assert dsc["now"] == pytest.approx([6 / 7, 1])


def test_label_maps_of_two_shapes_are_not_compared(tmp_path):
    write_label_map(tmp_path / "a.npz", TRUTH)
    write_label_map(tmp_path / "b.npz", TRUTH[:1])
    with pytest.raises(ValueError, match=r"b\.npz must have shape \(2, 4\)"):
        masks.count_differences(tmp_path / "a.npz", tmp_path / "b.npz")


def test_what_is_there_is_not_made_again_and_a_failure_ends_it(data, tmp_path, monkeypatch):
    asked = []

    def fake_run(inputs, outputs, *, folder, options):
        asked.append((folder, options[options.index("--variant") + 1]))
        return Finished(1, 1.0, 1, "something is wrong")

    monkeypatch.setattr(masks, "run_predict_script", fake_run)
    with pytest.raises(RunError, match="status 1: something is wrong"):
        masks.predict(tmp_path / "old", data / "CT", outputs=tmp_path / "out", service="f32")
    assert asked == [(tmp_path / "old", "float")]
    (tmp_path / "out").mkdir()
    write_label_map(tmp_path / "out" / "case.npz", TRUTH)
    masks.predict(tmp_path / "old", data / "CT", outputs=tmp_path / "out", service="f32")
    assert len(asked) == 1


def test_label_maps_of_another_model_are_not_taken(tmp_path):
    manifest = tmp_path / "old" / "models" / "float" / "manifest.json"
    manifest.parent.mkdir(parents=True)
    manifest.write_text("one")
    folder = tmp_path / "out"
    for _ in range(2):
        masks.claim(folder, tmp_path / "old", service="f32")
    manifest.write_text("another")
    with pytest.raises(FileExistsError, match="another model"):
        masks.claim(folder, tmp_path / "old", service="f32")
