"""What tells a label map of these inputs, this model and these settings from others."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest

from qmedsam import Settings
from qmedsam.batch import results
from qmedsam.batch.case_file import open_case
from qmedsam.batch.cases import write_case, write_label_map
from qmedsam.batch.results import (
    PREFIX,
    is_own_case,
    is_own_label_map,
    is_result,
    maker_of,
    mark_of,
)
from qmedsam.formats.label_notes import LabelNotes
from qmedsam.model.manifest import Manifest

MANIFEST = Manifest("fake", "f32", 256, {"encoder.xml": "ab", "decoder.xml": "cd"})
LABEL_MAP = np.eye(4, dtype=np.uint8)


def mark(path, maker="maker") -> bytes:
    with open_case(path) as opened:
        return mark_of(opened, maker)


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
        ({"info": np.array('{"names": ["liver"]}')}, False),
    ],
    ids=["truth", "type", "pixels", "boxes", "no-boxes", "names"],
)
def test_what_is_segmented_or_copied_counts_and_other_members_do_not(tmp_path, changes, is_same):
    before = mark(write(tmp_path / "case.npz"))
    assert (mark(write(tmp_path / "case.npz", **changes)) == before) == is_same
    assert mark(tmp_path / "case.npz", "another") != before


def test_a_result_is_whole_and_has_the_mark(tmp_path):
    path = tmp_path / "a.npz"
    assert not is_result(path, b"mark")
    write_label_map(path, LABEL_MAP, b"mark")
    assert is_result(path, b"mark")
    assert not is_result(path, b"another")
    path.write_bytes(path.read_bytes().replace(b"segs", b"sags"))
    assert not is_result(path, b"mark")


def test_own_label_maps_are_told_from_other_files(tmp_path):
    path, part = tmp_path / "a.npz", tmp_path / "part.npz"
    write_label_map(path, LABEL_MAP, PREFIX + b"of this")
    assert is_own_label_map(path)
    content = path.read_bytes()
    for length in (0, 50, len(content) - 1):  # as a power cut leaves it
        part.write_bytes(content[:length])
        assert is_own_label_map(part)
    assert not is_own_label_map(write(tmp_path / "case.npz"))
    part.write_bytes((tmp_path / "case.npz").read_bytes()[:-1])
    assert not is_own_label_map(part)
    assert not is_own_label_map(tmp_path)
    (tmp_path / "notes.npz").write_text("notes")
    assert not is_own_label_map(tmp_path / "notes.npz")
    assert not is_own_label_map(tmp_path / "none.npz")


def test_label_maps_that_other_programs_wrote_or_edited_are_not_own(tmp_path):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, segs=LABEL_MAP)
    assert not is_own_label_map(path)
    path.write_bytes(path.read_bytes()[:-1])  # still being copied
    assert not is_own_label_map(path)
    info = np.array(LabelNotes("lung").as_json())
    write_label_map(path, LABEL_MAP, PREFIX + b"of this", info)
    assert is_own_label_map(path)
    with np.load(path) as archive:
        members = dict(archive)
    np.savez_compressed(path, **members)
    assert not is_own_label_map(path)
    write_label_map(path, LABEL_MAP, PREFIX + b"of this")
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("segs.npy", b"another one")
    assert not is_own_label_map(path)


def test_what_stands_for_a_case_that_failed_is_own_and_loses_no_work(tmp_path):
    write_label_map(tmp_path / "a.npz", np.zeros((4, 4), np.uint8))
    assert is_own_label_map(tmp_path / "a.npz")
    write_label_map(tmp_path / "a.npz", LABEL_MAP)
    assert not is_own_label_map(tmp_path / "a.npz")
    np.savez_compressed(tmp_path / "a.npz", segs=np.zeros((4, 4), np.uint8))
    assert not is_own_label_map(tmp_path / "a.npz")


def test_a_case_that_convert_made_is_no_label_map(tmp_path):
    path = tmp_path / "a.npz"
    write_case(path, np.zeros((4, 4), np.uint8), np.array([[0, 0, 2, 2]]), "info")
    assert is_own_case(path)
    assert not is_own_label_map(path)
    assert not is_own_case(write(path))
