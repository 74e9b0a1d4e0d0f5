"""The folder command on a fake network: folders, exit status, report, pictures."""

from __future__ import annotations

import errno
import io
import json
import logging
import os
import shutil
import signal
import threading
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from qmedsam import ModelError, Settings, __version__, segmenter
from qmedsam.batch import case_run, outputs, summary
from qmedsam.batch import run as batch
from qmedsam.batch.archive import archive_of
from qmedsam.batch.cases import archive_with_info, case_of, read_case
from qmedsam.cli import main
from qmedsam.commands import run as run_command
from qmedsam.core.contract import MANIFEST_FILE
from qmedsam.core.planning import Planner
from qmedsam.core.work import decoder_gmacs, encoder_gmacs
from qmedsam.exit_status import DONE, NOTHING_RAN, SOME_FAILED
from qmedsam.model.compiling import precision_of
from qmedsam.model.manifest import Manifest
from qmedsam.system import memory
from tests.conftest import HANGS_AFTER_S, ROOT, send_itself
from tests.qmedsam.conftest import FakeCompiledNetwork, write_case

pytestmark = pytest.mark.usefixtures("fake_model")


def run(folders, *options: str) -> int:
    return main(["-i", str(folders[0]), "-o", str(folders[1]), *options])


def segs(folders, name: str) -> np.ndarray:
    with np.load(folders[1] / name) as archive:
        return archive["segs"]


SHAPES = [
    pytest.param((40, 60), [[1, 2, 30, 20]], (40, 60), id="grey"),
    pytest.param((40, 60, 1), [[1, 2, 30, 20]], (40, 60), id="one-channel"),
    pytest.param((40, 60, 3), [[1, 2, 30, 20]], (40, 60), id="rgb"),
    pytest.param((40, 60, 4), [[1, 2, 30, 20]], (40, 60), id="rgba"),
    pytest.param((5, 40, 60), [[1, 2, 1, 30, 20, 3]], (5, 40, 60), id="volume"),
    pytest.param((1, 40, 60), [[1, 2, 0, 30, 20, 0]], (1, 40, 60), id="one-slice"),
    pytest.param((4, 1000, 3), [[0, 0, 900, 3]], (4, 1000), id="thin"),
    pytest.param((40, 60, 3), np.zeros((0, 4)), (40, 60), id="no-boxes"),
    pytest.param((5, 40, 60), np.zeros((0, 6)), (5, 40, 60), id="volume-without-boxes"),
]


@pytest.mark.parametrize(("shape", "boxes", "expected"), SHAPES)
@pytest.mark.parametrize("rule", ["fixed", "propagate"])
def test_every_input_shape_gives_a_label_map_of_its_extent(folders, shape, boxes, expected, rule):
    write_case(folders[0] / "case.npz", shape, boxes)
    assert run(folders, "--volume-prompt", rule) == DONE
    label_map = segs(folders, "case.npz")
    assert label_map.shape == expected
    assert label_map.dtype == np.uint8
    assert label_map.max() == len(boxes)


def test_300_boxes_need_16_bits(folders):
    boxes = [[i % 20 * 10, i // 20 * 10, i % 20 * 10 + 9, i // 20 * 10 + 9] for i in range(300)]
    write_case(folders[0] / "case.npz", (200, 200, 3), boxes)
    assert run(folders) == DONE
    label_map = segs(folders, "case.npz")
    assert label_map.dtype == np.uint16
    np.testing.assert_array_equal(np.unique(label_map), np.arange(301))


def test_the_slice_range_is_inclusive_on_disk(folders):
    write_case(folders[0] / "case.npz", (5, 40, 60), [[1, 2, 1, 30, 20, 3]])
    run(folders)
    drawn = segs(folders, "case.npz").any(axis=(1, 2))
    np.testing.assert_array_equal(drawn, [False, True, True, True, False])


def test_a_bad_case_is_named_and_the_others_go_on(folders, caplog):
    write_case(folders[0] / "a.npz", (40, 60, 3), [[1, 2, 30, 20]])
    (folders[0] / "b.npz").write_bytes(b"broken")
    write_case(folders[0] / "c.npz", (40, 60, 3), [[1, 2, 30, np.nan]])
    write_case(folders[0] / "d.npz", (40, 60, 3), [[1, 2, 30, 20]])
    assert run(folders) == SOME_FAILED
    assert sorted(path.name for path in folders[1].iterdir()) == ["a.npz", "d.npz"]
    assert "b.npz: File must be a .npz archive" in caplog.text
    assert "c.npz: Boxes must be finite, got box 1" in caplog.text


def test_an_unexpected_failure_counts_as_one_case(folders, monkeypatch):
    write_case(folders[0] / "a.npz", (40, 60, 3), [[1, 2, 30, 20]])
    write_case(folders[0] / "b.npz", (41, 60, 3), [[1, 2, 30, 20]])
    encode = FakeCompiledNetwork.encode

    def fail_once(self, image):
        monkeypatch.setattr(FakeCompiledNetwork, "encode", encode)
        raise MemoryError("none left")

    monkeypatch.setattr(FakeCompiledNetwork, "encode", fail_once)
    assert run(folders) == SOME_FAILED
    assert [path.name for path in folders[1].iterdir()] == ["b.npz"]


def test_nothing_but_results_is_in_the_output_folder(folders, tmp_path):
    write_case(folders[0] / "case.npz", (40, 60, 3), [[1, 2, 30, 20]])
    report, overlays = tmp_path / "report.json", tmp_path / "overlays"
    assert run(folders, "--report", str(report), "--overlay-dir", str(overlays)) == DONE
    assert [path.name for path in folders[1].iterdir()] == ["case.npz"]
    assert [path.name for path in overlays.iterdir()] == ["case.png"]


def test_overlays_are_pictures_of_images_and_of_volumes(folders, tmp_path):
    write_case(folders[0] / "image.npz", (40, 60, 3), [[1, 2, 30, 20]])
    write_case(folders[0] / "volume.npz", (9, 40, 60), [[1, 2, 1, 30, 20, 7]])
    run(folders, "--overlay-dir", str(tmp_path))
    assert cv2.imread(str(tmp_path / "image.png")).shape == (512, 768, 3)
    # Three slices in a grid of two by two tiles.
    assert cv2.imread(str(tmp_path / "volume.png")).shape == (640, 640, 3)


def test_the_report_tells_what_happened(folders, tmp_path):
    write_case(folders[0] / "good.npz", (5, 40, 60), [[1, 2, 1, 30, 20, 3], [5, 5, 2, 9, 9, 4]])
    (folders[0] / "bad.npz").write_bytes(b"")
    report = tmp_path / "reports" / "report.json"
    run(folders, "--report", str(report))
    document = json.loads(report.read_text())
    assert (document["cases_done"], document["cases_failed"]) == (1, 1)
    assert document["versions"]["qmedsam"] == __version__
    assert (document["model"]["precision"], document["model"]["regions"]) == ("f32", "auto")
    bad, good = document["cases"]
    assert bad["name"] == "bad.npz"
    assert ".npz archive" in bad["error"]
    assert good["error"] is None
    assert (good["boxes"], good["slices"], good["shape"]) == (2, 4, [5, 40, 60])
    assert (good["regions"], good["grids"]) == (4, {"256x256": 4})
    square = (256, 256)  # of the larger box 48 x 48 pixels of the embedding are decoded
    expected = 4 * encoder_gmacs(square) + 3 * decoder_gmacs(square)
    expected += 3 * decoder_gmacs(square, 48 * 48)
    assert good["gmacs"] == pytest.approx(expected, abs=0.005)
    assert (bad["regions"], bad["grids"], bad["gmacs"]) == (0, {}, 0.0)
    steps = {"read", "preprocess", "encode", "decode", "postprocess", "write"}
    assert set(good["seconds"]) == steps
    assert 0 < max(good["seconds"].values()) <= good["total_s"]  # steps overlap
    assert document["peak_memory_bytes"] >= good["peak_memory_bytes"] > 0
    assert document["peak_memory_bytes"] >= document["start_peak_memory_bytes"] > 0


@pytest.mark.usefixtures("all_grids")
def test_the_report_tells_on_which_grids_regions_were_encoded(folders, tmp_path):
    boxes = [[10, 10, 29, 49], [700, 500, 719, 539]]  # far apart
    write_case(folders[0] / "case.npz", (600, 800), boxes)
    found = []
    for regions in ("auto", "whole"):
        report = tmp_path / f"{regions}.json"
        assert run(folders, "--regions", regions, "--report", str(report)) == DONE
        document = json.loads(report.read_text())
        (case,) = document["cases"]
        assert document["model"]["regions"] == regions
        found.append((case["slices"], case["regions"], case["grids"], case["gmacs"]))
    auto, whole = found
    assert auto[:3] == (1, 2, {"128x128": 2})
    assert whole[:3] == (1, 1, {"256x256": 1})
    assert round(auto[3], 2) == auto[3]


@pytest.mark.usefixtures("all_grids")
def test_grids_of_the_first_case_are_made_ready_before_it_is_read(folders, monkeypatch):
    write_case(folders[0] / "case.npz", (600, 800), [[10, 10, 29, 49]])
    is_made = threading.Event()
    made_with = []

    class Told(FakeCompiledNetwork):
        def __init__(self, model_dir, settings, *, grids):
            super().__init__(model_dir, settings)
            made_with.append(list(grids))
            is_made.set()

    def read_late(opened):
        assert is_made.wait(HANGS_AFTER_S)
        return case_of(opened)

    monkeypatch.setattr(segmenter, "CompiledNetwork", Told)
    monkeypatch.setattr(case_run, "case_of", read_late)
    monkeypatch.setattr(run_command, "planner_of", lambda *_: Planner())
    assert run(folders) == DONE
    assert made_with == [[(128, 128)]]


def test_a_first_case_whose_outline_cannot_be_read_is_run_all_the_same(folders, monkeypatch):
    """A file system may fail for a moment, when only the boxes are looked at."""

    def fail(path):
        raise OSError(errno.EIO, "flaky")

    write_case(folders[0] / "a.npz", (40, 60, 3), [[1, 2, 30, 20]])
    monkeypatch.setattr(batch, "read_outline", fail)
    assert run(folders) == DONE


def test_a_corrected_box_is_noted(folders, tmp_path, caplog):
    write_case(folders[0] / "case.npz", (40, 60, 3), [[30, 20, 1, 2]])
    report = tmp_path / "report.json"
    assert run(folders, "--report", str(report)) == DONE
    assert json.loads(report.read_text())["cases"][0]["notes"] == [
        "Box 1 (30, 20, 1, 2) was put in order, minimum first"
    ]
    assert "case.npz: Box 1 (30, 20, 1, 2) was put in order" in caplog.text


SMALL, LARGE, FAR = [20, 10, 22, 12], [10, 5, 30, 20], [40, 25, 42, 27]
ONE_SLICE = [[x0, y0, 1, x1, y1, 1] for x0, y0, x1, y1 in (LARGE, FAR)]
FOUND_NOTHING = "left no label, as nothing was found there"


@pytest.mark.parametrize(
    ("shape", "boxes", "notes", "is_empty"),
    [
        pytest.param((40, 60), [LARGE], [], False, id="found"),
        pytest.param((40, 60), np.zeros((0, 4)), [], True, id="no-boxes"),
        pytest.param(
            (40, 60), [FAR], [f"Box 1 (40, 25, 42, 27) {FOUND_NOTHING}"], True, id="nothing-found"
        ),
        pytest.param(
            (40, 60),
            [LARGE, FAR, SMALL],
            [f"Boxes 2 (40, 25, 42, 27) and 3 (20, 10, 22, 12) {FOUND_NOTHING}"],
            False,
            id="one-of-three-found",
        ),
        pytest.param(
            (5, 40, 60),
            ONE_SLICE,
            [f"Box 2 (40, 25, 1, 42, 27, 1) {FOUND_NOTHING}"],
            False,
            id="volume",
        ),
        pytest.param(
            (40, 60),
            [[90, 90, 99, 99]],
            ["Box 1 (90, 90, 99, 99) lay outside the image of 60 x 40 pixels and left no label"],
            True,
            id="outside",
        ),
    ],
)
@pytest.mark.usefixtures("blind_to_small_boxes")
def test_a_label_that_is_missing_is_warned_of_and_noted(
    folders, tmp_path, caplog, shape, boxes, notes, is_empty
):
    write_case(folders[0] / "case.npz", shape, boxes)
    report = tmp_path / "report.json"
    assert run(folders, "--report", str(report)) == DONE
    record = json.loads(report.read_text())["cases"][0]
    assert (record["notes"], record["is_empty"]) == (notes, is_empty)
    assert record["error"] is None
    warnings = [entry.getMessage() for entry in caplog.records if entry.levelname == "WARNING"]
    assert warnings == [f"{folders[0] / 'case.npz'}: {note}" for note in notes]
    assert segs(folders, "case.npz").any() == (not is_empty)


def test_a_label_under_a_later_one_is_warned_of_and_noted(folders, tmp_path, caplog):
    write_case(folders[0] / "case.npz", (40, 60), [SMALL, LARGE])
    report = tmp_path / "report.json"
    assert run(folders, "--report", str(report)) == DONE
    note = "Box 1 (20, 10, 22, 12) left no label, as later boxes cover all that was found there"
    record = json.loads(report.read_text())["cases"][0]
    assert (record["notes"], record["is_empty"]) == ([note], False)
    assert f"case.npz: {note}" in caplog.text
    np.testing.assert_array_equal(np.unique(segs(folders, "case.npz")), [0, 2])


def test_a_label_map_that_is_not_written_is_not_empty(folders, tmp_path, monkeypatch):
    def fail(path, label_map, mark=b"", info=None):
        raise OSError("no space left")

    write_case(folders[0] / "case.npz", (40, 60), np.zeros((0, 4)))
    monkeypatch.setattr(outputs, "write_label_map", fail)
    report = tmp_path / "report.json"
    assert run(folders, "--report", str(report)) == SOME_FAILED
    record = json.loads(report.read_text())["cases"][0]
    assert "no space left" in record["error"]
    assert not record["is_empty"]


def test_a_missing_input_folder_means_nothing_ran(tmp_path, caplog):
    assert run((tmp_path / "none", tmp_path / "out")) == NOTHING_RAN
    assert "does not exist" in caplog.text


def test_an_input_that_is_a_file_is_said_to_be_one(folders, tmp_path, caplog):
    write_case(tmp_path / "case.npz", (40, 60, 3), [[1, 2, 30, 20]])
    assert run((tmp_path / "case.npz", tmp_path / "out")) == NOTHING_RAN
    assert "case.npz must be a folder of cases (.npz), got a file" in caplog.text
    assert "does not exist" not in caplog.text


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_an_unreadable_input_folder_means_nothing_ran(folders, caplog):
    folders[0].chmod(0)
    assert run(folders) == NOTHING_RAN
    assert "cannot be read" in caplog.text


def test_an_input_folder_that_fails_means_nothing_ran(folders, monkeypatch, caplog):
    def refuse(folder):
        raise PermissionError(f"Permission denied: {folder}")

    monkeypatch.setattr(run_command, "list_cases", refuse)
    assert run(folders) == NOTHING_RAN
    assert "cannot be read: Permission denied" in caplog.text


def test_a_refused_case_has_its_shape_in_the_report_where_it_can_be_read(folders, tmp_path):
    write_case(folders[0] / "a_good.npz", (40, 60, 3), [[5, 5, 20, 30]])
    write_case(folders[0] / "b_boxes.npz", (40, 60), [[5, 5, 1, 20, 30, 2]])
    np.savez_compressed(folders[0] / "c_none.npz", imgs=np.zeros((8, 30, 50), np.uint8))
    np.savez_compressed(folders[0] / "d_pixels.npz", boxes=np.zeros((1, 4)))
    (folders[0] / "e_text.npz").write_text("no archive")
    report = tmp_path / "report.json"
    assert run(folders, "--report", str(report)) == SOME_FAILED
    good, *refused = json.loads(report.read_text())["cases"]
    assert (good["error"], good["shape"]) == (None, [40, 60, 3])
    assert [case["shape"] for case in refused] == [[40, 60], [8, 30, 50], None, None]
    for case in refused:
        assert list(case) == list(good)
        assert case["error"]
    assert run(folders, "--resume", "--report", str(report)) == SOME_FAILED
    kept = json.loads(report.read_text())["cases"][0]
    assert (kept["is_kept"], kept["shape"]) == (True, None)


def test_a_report_that_is_a_folder_is_refused_before_the_work(folders, tmp_path, caplog):
    write_case(folders[0] / "case.npz", (40, 60, 3), [[1, 2, 30, 20]])
    assert run(folders, "--report", str(tmp_path)) == NOTHING_RAN
    assert "must be a file" in caplog.text


def test_an_output_folder_that_cannot_be_asked_for_is_what_is_named(folders, tmp_path, caplog):
    write_case(folders[0] / "case.npz", (40, 60, 3), [[1, 2, 30, 20]])
    for option, name in (("-o", "o" * 300), ("--overlay-dir", "p" * 300)):
        caplog.clear()
        assert run(folders, option, str(tmp_path / name)) == NOTHING_RAN
        assert f"{name} cannot be written" in caplog.text
        assert "Input folder" not in caplog.text


@pytest.mark.parametrize("option", ["--overlay-dir", "--cache-dir"])
@pytest.mark.parametrize("which", [0, 1], ids=["input", "output"])
def test_the_folders_of_cases_and_label_maps_take_nothing_else(folders, option, which, caplog):
    write_case(folders[0] / "case.npz", (40, 60, 3), [[1, 2, 30, 20]])
    assert run(folders, option, str(folders[which])) == NOTHING_RAN
    assert run(folders, "--report", str(folders[which] / "case.npz")) == NOTHING_RAN
    assert "kept for cases or label maps alone" in caplog.text
    assert read_case(folders[0] / "case.npz").pixels.shape == (40, 60, 3)


@pytest.mark.parametrize(
    ("options", "warns", "tells"),
    [([], True, False), (["--quiet"], False, False), (["--verbose"], True, True)],
    ids=["default", "quiet", "verbose"],
)
def test_how_much_is_said(folders, monkeypatch, options, warns, tells):
    monkeypatch.setattr(logging.root, "handlers", [])
    monkeypatch.setattr("sys.stderr", stream := io.StringIO())
    write_case(folders[0] / "case.npz", (40, 60, 3), [[30, 20, 1, 2]])
    assert run(folders, *options) == DONE
    assert ("WARNING" in stream.getvalue()) is warns
    assert ("INFO" in stream.getvalue()) is tells


FORGED = "x\nERROR: forged\u2028\x1b[2J"


def test_no_name_and_no_text_of_others_forges_a_message(folders, tmp_path, monkeypatch):
    def refuse(*arguments, **options):
        raise ValueError(FORGED)

    monkeypatch.setattr(logging.root, "handlers", [])
    monkeypatch.setattr("sys.stderr", stream := io.StringIO())
    manifest = Manifest(FORGED, "f32", 256, {})
    monkeypatch.setattr(FakeCompiledNetwork, "manifest", manifest)
    write_case(folders[0] / "a.npz", (40, 60, 3), [[1, 2, 30, 20]])
    pictures = tmp_path / FORGED
    pictures.mkdir()
    (pictures / "a.png").write_bytes(b"somebody's")
    options = ["--verbose", "--overlay-dir", str(pictures)]
    assert run(folders, *options) == SOME_FAILED  # the picture is somebody else's
    assert run(folders, *options, "--report", str(folders[0] / FORGED)) == NOTHING_RAN
    monkeypatch.setattr(case_run, "draw_overlay", refuse)
    assert run(folders, *options) == SOME_FAILED  # with a traceback
    said = stream.getvalue()
    assert said.count("forged") >= 4
    assert "Traceback" in said
    for line in said.split("\n"):
        assert line.isprintable()
        assert not line.startswith("ERROR: forged")


def test_a_report_that_fails_at_the_end_keeps_the_label_maps(
    folders, tmp_path, monkeypatch, caplog
):
    def refuse(path, content):
        raise OSError("No space left on device")

    write_case(folders[0] / "case.npz", (40, 60, 3), [[1, 2, 30, 20]])
    monkeypatch.setattr(summary, "write_bytes", refuse)
    assert run(folders, "--report", str(tmp_path / "report.json")) == SOME_FAILED
    assert (folders[1] / "case.npz").is_file()
    assert "cannot be written: No space left" in caplog.text


def test_a_picture_that_fails_keeps_its_label_map(folders, tmp_path, monkeypatch):
    def refuse(*arguments, **options):
        raise ValueError("no ink")

    write_case(folders[0] / "case.npz", (40, 60, 3), [[1, 2, 30, 20]])
    monkeypatch.setattr(case_run, "draw_overlay", refuse)
    report = tmp_path / "report.json"
    options = ["--overlay-dir", str(tmp_path / "overlays"), "--report", str(report)]
    assert run(folders, *options) == SOME_FAILED
    assert (folders[1] / "case.npz").is_file()
    record = json.loads(report.read_text())["cases"][0]
    assert record["error"] == "Picture failed: ValueError: no ink"
    assert record["boxes"] == 1


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_quiet_shows_no_progress_on_a_terminal(folders, monkeypatch):
    write_case(folders[0] / "case.npz", (40, 60, 3), [[1, 2, 30, 20]])
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    assert run(folders, "--quiet") == DONE
    assert terminal.getvalue() == ""
    assert run(folders) == DONE
    assert "1/1" in terminal.getvalue()


def test_a_file_name_that_is_not_utf_8_goes_through(folders, tmp_path):
    name = os.fsdecode(b"b\xff d.npz")
    write_case(folders[0] / name, (40, 60, 3), [[1, 2, 30, 20]])
    report = tmp_path / "report.json"
    assert run(folders, "--report", str(report)) == DONE
    assert (folders[1] / name).is_file()
    assert json.loads(report.read_text())["cases"][0]["name"] == name


def test_an_outside_box_has_an_empty_label_and_the_others_their_masks(folders):
    boxes = [[1, 2, 30, 20], [100, 100, 110, 110], [40, 20, 50, 30]]
    write_case(folders[0] / "case.npz", (40, 60, 3), boxes)
    assert run(folders) == DONE
    np.testing.assert_array_equal(np.unique(segs(folders, "case.npz")), [0, 1, 3])


def test_an_empty_input_folder_means_nothing_ran(folders, caplog):
    assert run(folders) == NOTHING_RAN
    assert "has no .npz files" in caplog.text


def test_the_input_folder_is_refused_as_output(folders, caplog):
    write_case(folders[0] / "case.npz", (40, 60, 3), [[1, 2, 30, 20]])
    before = (folders[0] / "case.npz").read_bytes()
    assert run((folders[0], folders[0])) == NOTHING_RAN
    assert (folders[0] / "case.npz").read_bytes() == before
    assert "is the input folder" in caplog.text


def test_an_output_folder_that_cannot_be_made_means_nothing_ran(folders, tmp_path, caplog):
    write_case(folders[0] / "case.npz", (40, 60, 3), [[1, 2, 30, 20]])
    (tmp_path / "file").write_text("")
    assert run((folders[0], tmp_path / "file" / "out")) == NOTHING_RAN
    assert "cannot be written" in caplog.text


def test_a_model_that_fails_while_cases_run_ends_the_run(folders, monkeypatch, caplog):
    class Failing(FakeCompiledNetwork):
        def decode(self, encoded, boxes, crops):
            raise ModelError("Model file decoder.xml cannot be compiled")

    for name in "ab":
        write_case(folders[0] / f"{name}.npz", (40, 60, 3), [[1, 2, 30, 20]])
    monkeypatch.setattr(segmenter, "CompiledNetwork", Failing)
    assert run(folders) == NOTHING_RAN
    assert caplog.text.count("decoder.xml cannot be compiled") == 1


@pytest.mark.parametrize(
    ("variable", "options", "names"),
    [
        (None, [], ["good.npz"]),
        ("", [], ["good.npz"]),
        ("skip", [], ["good.npz"]),
        ("empty", [], ["bad.npz", "good.npz"]),
        ("empty", ["--on-error", "skip"], ["good.npz"]),
    ],
)
def test_what_a_failed_case_leaves_comes_from_the_option_or_the_environment(
    folders, tmp_path, monkeypatch, variable, options, names
):
    if variable is not None:
        monkeypatch.setenv("QMEDSAM_ON_ERROR", variable)
    write_case(folders[0] / "bad.npz", (40, 60, 3), [[1, 2, 30, np.nan]])
    write_case(folders[0] / "good.npz", (40, 60, 3), [[1, 2, 30, 20]])
    report = tmp_path / "report.json"
    assert run(folders, "--report", str(report), *options) == SOME_FAILED
    assert sorted(path.name for path in folders[1].iterdir()) == names
    bad, good = json.loads(report.read_text())["cases"]
    assert "finite" in bad["error"]
    assert bad["is_empty"] == ("bad.npz" in names)
    assert not good["is_empty"]


def test_an_environment_that_says_neither_is_refused(folders, monkeypatch, caplog):
    write_case(folders[0] / "case.npz", (40, 60, 3), [[1, 2, 30, 20]])
    monkeypatch.setenv("QMEDSAM_ON_ERROR", "ignore")
    assert run(folders) == NOTHING_RAN
    assert "$QMEDSAM_ON_ERROR must be one of" in caplog.text
    assert not folders[1].exists()
    assert run(folders, "--on-error", "skip") == DONE


def test_an_empty_label_map_that_cannot_be_written_is_said(folders, monkeypatch, caplog):
    write_case(folders[0] / "bad.npz", (40, 60, 3), [[1, 2, 30, np.nan]])

    def fail(path, label_map, mark=b"", info=None):
        raise OSError("no space left")

    monkeypatch.setattr(outputs, "write_label_map", fail)
    assert run(folders, "--on-error", "empty") == SOME_FAILED
    assert (
        "bad.npz: no empty label map either: Label map cannot be written: no space left"
        in caplog.text
    )


def put_in_place_of(path: Path, **members) -> None:
    """Write other arrays into an archive, whose comment stays."""
    with zipfile.ZipFile(path) as archive:
        comment = archive.comment
    path.write_bytes(archive_of(members, comment))


def kept_cases(folders, tmp_path, *options) -> list[str]:
    """Run with --resume; return the names of the cases whose label maps were kept."""
    report = tmp_path / "report.json"
    assert run(folders, "--resume", "--report", str(report), *options) in (DONE, SOME_FAILED)
    return [case["name"] for case in json.loads(report.read_text())["cases"] if case["is_kept"]]


@pytest.fixture
def done(folders):
    """Three cases, and the label maps of an earlier run."""
    for name in "abc":
        write_case(folders[0] / f"{name}.npz", (40, 60, 3), [[1, 2, 30, 20]])
    assert run(folders) == DONE
    return folders


def test_label_maps_of_the_same_inputs_model_and_settings_are_kept(done, tmp_path):
    before = {path.name: path.read_bytes() for path in done[1].iterdir()}
    assert kept_cases(done, tmp_path) == ["a.npz", "b.npz", "c.npz"]
    for same in (["--threads", "1"], ["--precision", precision_of(Settings())]):
        assert kept_cases(done, tmp_path, *same) == ["a.npz", "b.npz", "c.npz"]
    assert {path.name: path.read_bytes() for path in done[1].iterdir()} == before
    assert kept_cases(done, tmp_path, "--volume-prompt", "hybrid") == []
    assert kept_cases(done, tmp_path) == []  # which are those of hybrid now


def test_label_maps_of_a_processor_of_another_precision_are_not_kept(done, tmp_path, monkeypatch):
    other = {"f32": "bf16", "bf16": "f32"}[precision_of(Settings())]
    monkeypatch.setattr(run_command, "precision_of", lambda settings: other)
    assert kept_cases(done, tmp_path) == []
    assert kept_cases(done, tmp_path) == ["a.npz", "b.npz", "c.npz"]


def test_label_maps_of_other_inputs_are_not_kept(done, tmp_path):
    write_case(done[0] / "a.npz", (40, 60, 3), [[1, 2, 30, 20], [5, 5, 9, 9], [7, 30, 9, 35]])
    write_case(done[0] / "b.npz", (40, 60), [[1, 2, 30, 20]])
    assert kept_cases(done, tmp_path) == ["c.npz"]
    assert segs(done, "a.npz").max() == 3


def test_a_label_map_with_earlier_names_and_window_is_not_kept(folders, tmp_path):
    def convert(name):
        members = {"imgs": np.zeros((40, 60), np.uint8), "boxes": np.array([[1, 2, 30, 20]])}
        content = archive_with_info(members, json.dumps({"names": [name]}))
        (folders[0] / "a.npz").write_bytes(content)

    for name, is_kept in (("liver", False), ("liver", True), ("spleen", False)):
        convert(name)
        assert kept_cases(folders, tmp_path) == ["a.npz"] * is_kept
        with np.load(folders[1] / "a.npz") as label_map:
            assert json.loads(str(label_map["info"])) == {"names": [name]}


def test_a_case_that_is_replaced_while_it_is_read_has_the_mark_of_what_was_read(
    folders, tmp_path, monkeypatch
):
    """By a file of the same name, as a program that exports cases does."""
    boxes, path = [[1, 2, 30, 20]], folders[0] / "a.npz"
    write_case(path, (40, 60), boxes)

    def read_replaced(opened):
        write_case(tmp_path / "new.npz", (40, 60), [[10, 12, 30, 20], [3, 4, 8, 9]])
        (tmp_path / "new.npz").rename(path)
        return case_of(opened)

    with monkeypatch.context() as patch:
        patch.setattr(case_run, "case_of", read_replaced)
        assert run(folders) == DONE
    assert segs(folders, "a.npz").max() == 1
    assert kept_cases(folders, tmp_path) == []
    assert segs(folders, "a.npz").max() == 2


def test_label_maps_that_are_not_whole_are_not_kept(done, tmp_path):
    found = segs(done, "a.npz")
    put_in_place_of(done[1] / "a.npz", segs=found.astype(np.float32))
    (done[1] / "b.npz").write_bytes((done[1] / "b.npz").read_bytes()[:-1])
    assert kept_cases(done, tmp_path) == ["c.npz"]
    assert [segs(done, f"{name}.npz").max() for name in "abc"] == [1, 1, 1]


@pytest.mark.parametrize("options", [[], ["--resume"], ["--on-error", "empty"]], ids=str)
def test_label_maps_that_others_wrote_or_edited_stay(done, caplog, options):
    np.savez_compressed(done[1] / "a.npz", segs=np.full((40, 60), 200, np.uint8), who="expert")
    with np.load(done[1] / "b.npz") as archive:
        edited = {"segs": archive["segs"] * np.uint8(3)}
    np.savez_compressed(done[1] / "b.npz", **edited)
    np.savez_compressed(done[1] / "c.npz", **edited)
    (done[0] / "c.npz").write_bytes(b"PK")  # of which nothing is left, and no empty one made
    before = {path.name: path.read_bytes() for path in done[1].iterdir()}
    assert run(done, *options) == SOME_FAILED
    assert {path.name: path.read_bytes() for path in done[1].iterdir()} == before
    assert "b.npz must be a label map of an earlier run to be replaced" in caplog.text
    assert run(done, "--overwrite", *options) == SOME_FAILED
    assert [segs(done, f"{name}.npz").max() for name in "ab"] == [1, 1]


def test_a_label_map_in_which_nothing_was_found_is_kept(folders, tmp_path, blind_to_small_boxes):
    write_case(folders[0] / "a.npz", (400, 600, 3), [[1, 2, 9, 9]])
    write_case(folders[0] / "bad.npz", (40, 60, 3), [[np.nan, 2, 9, 9]])
    assert run(folders, "--on-error", "empty") == SOME_FAILED
    assert kept_cases(folders, tmp_path, "--on-error", "empty") == ["a.npz"]


@pytest.mark.parametrize("options", [[], ["--resume"], ["--on-error", "empty"]], ids=str)
def test_a_case_that_fails_leaves_no_label_map_of_before(done, caplog, options):
    write_case(done[0] / "a.npz", (40, 60, 3), [[1, np.nan, 30, 20]])
    (done[0] / "b.npz").write_bytes(b"PK")
    assert run(done, *options) == SOME_FAILED
    left = {"a.npz", "c.npz"} if "empty" in options else {"c.npz"}
    assert {path.name for path in done[1].iterdir()} == left
    assert "b.npz: its label map of an earlier run is removed" in caplog.text
    if "empty" in options:
        assert not segs(done, "a.npz").any()


def test_what_is_no_label_map_is_replaced_only_if_that_is_asked_for(done, caplog):
    (done[1] / "a.npz").write_bytes((done[0] / "a.npz").read_bytes())  # a copy of the case
    (done[1] / "b.npz").write_text("notes")
    assert run(done) == SOME_FAILED
    assert "a.npz must be a label map of an earlier run to be replaced" in caplog.text
    assert (done[1] / "a.npz").read_bytes() == (done[0] / "a.npz").read_bytes()
    assert (done[1] / "b.npz").read_text() == "notes"
    assert run(done, "--overwrite") == DONE
    assert segs(done, "a.npz").max() == segs(done, "b.npz").max() == 1


def test_a_label_map_without_its_picture_is_made_again(done, tmp_path):
    pictures = ("--overlay-dir", str(tmp_path / "pictures"))
    assert kept_cases(done, tmp_path, *pictures) == []
    assert kept_cases(done, tmp_path, *pictures) == ["a.npz", "b.npz", "c.npz"]
    (tmp_path / "pictures" / "a.png").unlink()
    assert kept_cases(done, tmp_path, *pictures) == ["b.npz", "c.npz"]


def test_a_picture_of_earlier_inputs_is_not_kept(done, tmp_path):
    """As where the label map of a later run was made without its picture."""
    folder = tmp_path / "pictures"
    pictures = ("--overlay-dir", str(folder))
    assert run(done, *pictures) == DONE
    before = (folder / "a.png").read_bytes()
    write_case(done[0] / "a.npz", (40, 60, 3), [[1, 2, 50, 35]])
    assert run(done) == DONE
    (folder / "b.png").unlink()
    (folder / "b.png").mkdir()
    (folder / "c.png").write_bytes((folder / "c.png").read_bytes()[:-9])
    assert kept_cases(done, tmp_path, *pictures) == []
    assert (folder / "a.png").read_bytes() != before
    (folder / "b.png").rmdir()
    assert kept_cases(done, tmp_path, *pictures) == ["a.npz", "c.npz"]


@pytest.mark.parametrize("options", [[], ["--on-error", "empty"]], ids=["skip", "empty"])
def test_a_case_that_fails_leaves_no_picture_of_before(done, tmp_path, caplog, options):
    folder = tmp_path / "pictures"
    pictures = ("--overlay-dir", str(folder))
    assert run(done, *pictures) == DONE
    write_case(done[0] / "a.npz", (40, 60, 3), [[1, np.nan, 30, 20]])
    (done[0] / "b.npz").write_bytes(b"PK")
    (folder / "b.png").write_bytes(b"somebody's")
    assert run(done, *pictures, *options) == SOME_FAILED
    assert sorted(path.name for path in folder.iterdir()) == ["b.png", "c.png"]
    assert "a.npz: its picture of an earlier run is removed" in caplog.text


def test_a_picture_that_fails_leaves_none_of_before(done, tmp_path, monkeypatch, caplog):
    def refuse(path, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    folder = tmp_path / "pictures"
    assert run(done, "--overlay-dir", str(folder)) == DONE
    write_case(done[0] / "a.npz", (40, 60, 3), [[1, 2, 50, 35]])
    monkeypatch.setattr(outputs, "write_bytes", refuse)
    assert run(done, "--overlay-dir", str(folder)) == SOME_FAILED
    assert list(folder.iterdir()) == []
    assert segs(done, "a.npz").sum() > 1000
    assert "not its picture: It cannot be written: [Errno 28] No space left" in caplog.text
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize("overwrite", [[], ["--overwrite"]], ids=["keep", "overwrite"])
def test_pipes_in_the_places_of_outputs_are_not_waited_for(done, tmp_path, caplog, overwrite):
    folder, report = tmp_path / "pictures", tmp_path / "report.json"
    folder.mkdir()
    for path in (folder / "a.png", report):
        os.mkfifo(path)
    pictures = ("--overlay-dir", str(folder), "--resume", *overwrite)
    assert run(done, *pictures) == (DONE if overwrite else SOME_FAILED)
    assert ("a.png is no picture of an earlier run" in caplog.text) != bool(overwrite)
    assert run(done, "--report", str(report), *overwrite) == (DONE if overwrite else NOTHING_RAN)
    assert report.is_file() == bool(overwrite)


def test_cases_whose_names_differ_in_their_endings_have_a_picture_each(folders, tmp_path):
    names = ["A.npz", "A.NPZ", "A.NPZ.npz", f"{'b' * 251}.npz"]
    for name in names:
        write_case(folders[0] / "case.npz", (40, 60, 3), [[1, 2, 30, 20]])
        (folders[0] / "case.npz").rename(folders[0] / name)
    assert run(folders, "--overlay-dir", str(tmp_path / "pictures")) == DONE
    drawn = {path.name for path in (tmp_path / "pictures").iterdir()}
    assert drawn == {"A.png", "A.PNG", "A.NPZ.png", f"{'b' * 251}.png"}


def test_a_file_that_cannot_be_asked_for_fails_alone(folders, monkeypatch, caplog):
    for name in ("a", "b"):
        write_case(folders[0] / f"{name}.npz", (40, 60, 3), [[1, 2, 30, 20]])
    is_file = Path.is_file

    def fail(self):
        if self.name == "a.npz":
            raise OSError(116, "Stale file handle")
        return is_file(self)

    monkeypatch.setattr(Path, "is_file", fail)
    assert run(folders, "--resume") == SOME_FAILED
    assert "a.npz: File must be a readable .npz archive, got: [Errno 116]" in caplog.text
    assert [path.name for path in folders[1].iterdir()] == ["b.npz"]


def test_a_signal_after_the_last_case_changes_nothing(folders, tmp_path, monkeypatch):
    write_case(folders[0] / "a.npz", (40, 60, 3), [[1, 2, 30, 20]])

    def signal_itself(self):
        send_itself(signal.SIGTERM)

    monkeypatch.setattr(FakeCompiledNetwork, "wait", signal_itself)
    report = tmp_path / "report.json"
    before = signal.getsignal(signal.SIGTERM)
    assert run(folders, "--report", str(report)) == DONE
    assert json.loads(report.read_text())["stopped_by"] is None
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_report_of_a_name_that_no_file_can_have_is_said_before_the_work(
    folders, tmp_path, caplog
):
    write_case(folders[0] / "a.npz", (40, 60), [[1, 2, 30, 20]])
    assert run(folders, "--report", str(tmp_path / ("x" * 300))) == NOTHING_RAN
    assert "cannot be written" in caplog.text
    assert not folders[1].exists()


def test_without_resume_label_maps_are_made_anew(folders):
    write_case(folders[0] / "a.npz", (40, 60, 3), [[1, 2, 30, 20]])
    assert run(folders) == DONE
    put_in_place_of(folders[1] / "a.npz", segs=np.full((40, 60), 9, dtype=np.uint8))
    assert run(folders) == DONE
    assert segs(folders, "a.npz").max() == 1


def test_links_that_lead_to_themselves_are_said_before_the_work(folders, tmp_path, caplog):
    write_case(folders[0] / "a.npz", (40, 60, 3), [[1, 2, 30, 20]])
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    loop = tmp_path / "loop" / "in"
    for options in (
        ["--overlay-dir", str(loop)],
        ["--report", str(loop / "report.json")],
        ["--report", str(tmp_path / "loop")],
    ):
        caplog.clear()
        assert run(folders, *options) == NOTHING_RAN
        assert "loop" in caplog.text
    assert run((folders[0], loop)) == NOTHING_RAN
    assert run(folders, "--cache-dir", str(loop)) == NOTHING_RAN


def test_a_folder_that_would_be_a_case_of_the_next_run_is_refused(folders, caplog):
    write_case(folders[0] / "a.npz", (40, 60, 3), [[1, 2, 30, 20]])
    assert run((folders[0], folders[0] / "out.npz")) == NOTHING_RAN
    assert run(folders, "--overlay-dir", str(folders[0] / "out.NPZ")) == NOTHING_RAN
    for options in (
        ["--overlay-dir", str(folders[0] / "b.npz" / "pictures")],
        ["--report", str(folders[0] / "c.npz" / "r.json")],
        ["--report", str(folders[0] / "reports" / "r.npz")],
        ["--cache-dir", str(folders[0] / "d.npz")],
    ):
        assert run(folders, *options) == NOTHING_RAN
    (folders[0].parent / "link").symlink_to(folders[0])
    assert run((folders[0], folders[0].parent / "link" / "e.npz" / "out")) == NOTHING_RAN
    assert caplog.text.count("would be taken for a case, or is in one; name it otherwise") == 7
    assert [path.name for path in folders[0].iterdir()] == ["a.npz"]
    assert run((folders[0], folders[0] / "out")) == DONE


def test_a_report_takes_the_place_of_no_picture_and_of_nothing_that_is_read(done, tmp_path, caplog):
    pictures, model = tmp_path / "pictures", tmp_path / "model"
    shutil.copytree(ROOT / "models" / "float", model)
    (model / "link.json").symlink_to(model / MANIFEST_FILE)
    (tmp_path / "elsewhere.npz").write_bytes((done[0] / "a.npz").read_bytes())
    (done[0] / "d.npz").symlink_to(tmp_path / "elsewhere.npz")
    before = {path: path.read_bytes() for path in (*model.iterdir(), *done[0].iterdir())}
    for options, message in (
        (["--report", str(pictures / "a.png")], "would take the place of a picture"),
        (["--report", str(model / MANIFEST_FILE)], "over what is read or written here"),
        (["--report", str(model / "link.json")], "over what is read or written here"),
        (["--report", str(model / "encoder.bin")], "over what is read or written here"),
        (["--report", str(tmp_path / "elsewhere.npz")], "over what is read or written here"),
    ):
        caplog.clear()
        words = ["--overlay-dir", str(pictures), "--model-dir", str(model), "--overwrite"]
        assert run(done, *words, *options) == NOTHING_RAN
        assert message in caplog.text
    assert {path: path.read_bytes() for path in before} == before
    assert not pictures.exists()
    for _ in range(2):
        for folder in (pictures, model):
            assert run(done, "--report", str(folder / "report.json"), *words[:4]) == DONE


def test_a_limit_that_leaves_nothing_for_cases_means_nothing_ran(folders, monkeypatch, caplog):
    write_case(folders[0] / "a.npz", (40, 60, 3), [[1, 2, 30, 20]])
    monkeypatch.setattr(memory, "memory_limit_bytes", lambda: 390 << 20)
    assert run(folders) == NOTHING_RAN
    assert "The model takes 500 MB of memory and cases need more beside it, the limit is 390" in (
        caplog.text
    )


def test_files_of_the_user_are_not_replaced_by_pictures_and_reports(done, tmp_path, caplog):
    pictures, report = tmp_path / "pictures", tmp_path / "report.json"
    options = ["--overlay-dir", str(pictures), "--report", str(report)]
    for _ in range(2):  # the second time over the results of the first
        assert run(done, *options) == DONE
    photograph = cv2.imencode(".png", np.zeros((4, 4, 3), np.uint8))[1].tobytes()
    (pictures / "a.png").write_bytes(photograph)
    assert run(done, *options) == SOME_FAILED
    assert "the label map is written, not its picture" in caplog.text
    assert (pictures / "a.png").read_bytes() == photograph
    report.write_text('{"mine": 1}')
    assert run(done, *options) == NOTHING_RAN
    assert "report.json is no report of an earlier run; --overwrite replaces it" in caplog.text
    assert report.read_text() == '{"mine": 1}'
    assert run(done, *options, "--overwrite") == DONE
    assert (pictures / "a.png").read_bytes() != photograph
    assert json.loads(report.read_text())["cases_done"] == 3


def test_a_picture_says_what_made_it_and_is_read_all_the_same(done, tmp_path):
    assert run(done, "--overlay-dir", str(tmp_path)) == DONE
    content = (tmp_path / "a.png").read_bytes()
    assert b"tEXtSoftware\0QMedSAM" in content
    assert cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR) is not None
    with Image.open(tmp_path / "a.png") as picture:  # which checks the checksums of chunks
        assert picture.info["Software"] == "QMedSAM"
