"""What tells a label map of these inputs, this model and these settings from others."""

from __future__ import annotations

import numpy as np
import pytest

from qmedsam import InvalidCaseError, Settings
from qmedsam.batch import results
from qmedsam.batch.cases import write_label_map
from qmedsam.batch.results import is_label_map, is_result, maker_of, mark_of
from qmedsam.model.manifest import Manifest

MANIFEST = Manifest("fake", "f32", 256, {"encoder.xml": "ab", "decoder.xml": "cd"})
LABEL_MAP = np.eye(4, dtype=np.uint8)


def write(path, **changes):
    members = {"imgs": np.zeros((4, 4), np.uint8), "boxes": np.array([[0, 0, 2, 2]])}
    np.savez_compressed(path, **members | changes)
    return path


@pytest.mark.parametrize(
    ("manifest", "settings", "is_same"),
    [
        (MANIFEST, Settings(threads=3, box_batch_size=2), True),
        (MANIFEST, Settings(precision="f32", variant="float"), True),
        (MANIFEST, Settings(volume_prompt="hybrid"), False),
        (MANIFEST, Settings(regions="whole"), False),
        (
            Manifest("fake", "f32", 256, {"encoder.xml": "ab", "decoder.xml": "xy"}),
            Settings(),
            False,
        ),
    ],
    ids=["threads", "asked", "prompt", "regions", "model"],
)
def test_model_and_settings_count_but_how_they_are_run_does_not(manifest, settings, is_same):
    before = maker_of(MANIFEST, "f32", Settings())
    assert (maker_of(manifest, "f32", settings) == before) == is_same


def test_the_precision_that_runs_counts_whatever_was_asked_for():
    auto, said = Settings(), Settings(precision="bf16")
    assert maker_of(MANIFEST, "bf16", auto) == maker_of(MANIFEST, "bf16", said)
    assert maker_of(MANIFEST, "f32", auto) != maker_of(MANIFEST, "bf16", auto)


@pytest.mark.parametrize(("precision", "is_same"), [("int8", False), ("f32", True)])
def test_processors_count_where_sums_of_int8_overflow(monkeypatch, precision, is_same):
    manifest = Manifest("fake", precision, 256, MANIFEST.sha256)
    makers = []
    for vnni in (True, False):
        monkeypatch.setattr(results, "has_vnni", lambda vnni=vnni: vnni)
        makers.append(maker_of(manifest, "f32", Settings()))
    assert (makers[0] == makers[1]) == is_same


@pytest.mark.parametrize(
    ("changes", "is_same"),
    [
        ({"gts": np.ones((4, 4), np.uint8)}, True),
        ({"imgs": np.zeros((4, 4), np.float32)}, False),
        ({"imgs": np.ones((4, 4), np.uint8)}, False),
        ({"boxes": np.array([[0, 0, 2, 3]])}, False),
        ({"boxes": np.zeros((0, 4))}, False),
    ],
    ids=["truth", "type", "pixels", "boxes", "no-boxes"],
)
def test_pixels_and_boxes_count_and_other_members_do_not(tmp_path, changes, is_same):
    before = mark_of(write(tmp_path / "case.npz"), "maker")
    assert (mark_of(write(tmp_path / "case.npz", **changes), "maker") == before) == is_same
    assert mark_of(tmp_path / "case.npz", "another") != before


def test_a_case_that_cannot_be_read_has_no_mark(tmp_path):
    (tmp_path / "case.npz").write_bytes(b"PK")
    with pytest.raises(InvalidCaseError, match="got none or a part of one"):
        mark_of(tmp_path / "case.npz", "maker")


def test_a_result_is_whole_and_has_the_mark(tmp_path):
    path = tmp_path / "a.npz"
    assert not is_result(path, b"mark")
    write_label_map(path, LABEL_MAP, b"mark")
    assert is_result(path, b"mark")
    assert not is_result(path, b"another")
    path.write_bytes(path.read_bytes().replace(b"segs", b"sags"))
    assert not is_result(path, b"mark")


def test_label_maps_are_told_from_other_files(tmp_path):
    write_label_map(tmp_path / "a.npz", LABEL_MAP)
    assert is_label_map(tmp_path / "a.npz")
    content = (tmp_path / "a.npz").read_bytes()
    for length in (0, 50, len(content) - 1):
        (tmp_path / "part.npz").write_bytes(content[:length])
        assert is_label_map(tmp_path / "part.npz")
    assert not is_label_map(write(tmp_path / "case.npz"))
    (tmp_path / "part.npz").write_bytes((tmp_path / "case.npz").read_bytes()[:-1])
    assert not is_label_map(tmp_path / "part.npz")
    assert not is_label_map(tmp_path)
    (tmp_path / "notes.npz").write_text("notes")
    assert not is_label_map(tmp_path / "notes.npz")
    assert not is_label_map(tmp_path / "none.npz")
