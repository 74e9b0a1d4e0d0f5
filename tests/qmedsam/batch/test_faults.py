"""Hostile and broken input, through the command with a fake network: a message each, no crash.

docs/robustness.md names these tests.
"""

from __future__ import annotations

import io
import os
import re
import struct
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest

from qmedsam import Segmenter, Settings
from qmedsam.batch import case_run
from qmedsam.batch.cases import read_label_map_shape
from qmedsam.cli import main
from qmedsam.commands import run as run_command
from qmedsam.exit_status import DONE, SOME_FAILED
from qmedsam.system import memory

IMAGE = np.arange(40 * 60, dtype=np.uint8).reshape(40, 60)
BOXES = np.array([[5, 5, 30, 20]])
NOISE = np.random.default_rng(0).integers(0, 256, (90, 90), dtype=np.uint8)


@pytest.fixture
def run(tmp_path, caplog, fake_model):
    """Run the command on the cases in `run.inputs`."""
    inputs, outputs = tmp_path / "in", tmp_path / "out"
    inputs.mkdir()

    def call(*options: str) -> int:
        return main(["-i", str(inputs), "-o", str(outputs), *options])

    def written() -> dict[str, np.ndarray]:
        return {path.name: np.load(path)["segs"] for path in outputs.iterdir()}

    return SimpleNamespace(inputs=inputs, call=call, written=written, log=caplog)


def npz(**members) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **members)
    return buffer.getvalue()


def npy(header: bytes, version: tuple[int, int] = (1, 0)) -> bytes:
    return b"\x93NUMPY" + bytes(version) + len(header).to_bytes(2, "little") + header


def archive(method: int = zipfile.ZIP_DEFLATED, **members: bytes) -> bytes:
    """Return an archive of raw members, beside boxes that are right."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as opened:
        boxes = io.BytesIO()
        np.save(boxes, BOXES)
        for name, content in {"boxes": boxes.getvalue(), **members}.items():
            opened.writestr(f"{name}.npy", content)
    return buffer.getvalue()


def array_bytes(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def encrypted(content: bytes) -> bytes:
    """Set the flag of encryption of all members in the directory."""
    changed = bytearray(content)
    place = content.find(b"PK\1\2")
    while place >= 0:
        changed[place + 8] |= 1
        place = content.find(b"PK\1\2", place + 1)
    return bytes(changed)


def with_directory_of(content: bytes, size: int) -> bytes:
    """Change the size that an archive gives its directory."""
    end = content.rindex(b"PK\5\6")
    return content[: end + 12] + size.to_bytes(4, "little") + content[end + 16 :]


def with_larger_end(content: bytes, size: int) -> bytes:
    """Put the larger fields of zip64 before the end of an archive, with a size of the directory."""
    end = content.rindex(b"PK\5\6")
    start = content.index(b"PK\1\2")
    fields = [44, 45, 45, 0, 0, 2, 2, size, start]
    record = b"PK\6\6" + struct.pack("<Q2H2L4Q", *fields)
    locator = b"PK\6\7" + struct.pack("<LQL", 0, end, 1)
    return content[:end] + record + locator + content[end:]


def with_size(content: bytes, member: bytes, size: int) -> bytes:
    """Change the size that the directory gives a member."""
    changed = bytearray(content)
    entry = content.rindex(b"PK\1\2", 0, content.rindex(member))
    changed[entry + 24 : entry + 28] = size.to_bytes(4, "little")
    return bytes(changed)


def with_sizes(content: bytes, member: bytes, *, packed: int, size: int) -> bytes:
    """Change both sizes that the directory gives a member."""
    changed = bytearray(with_size(content, member, size))
    entry = content.rindex(b"PK\1\2", 0, content.rindex(member))
    changed[entry + 20 : entry + 24] = packed.to_bytes(4, "little")
    return bytes(changed)


GOOD = npz(imgs=IMAGE, boxes=BOXES)
HEADER = b"{'descr': '|u1', 'fortran_order': False, 'shape': (%s), }\n"
OF_NOTHING = b"{'descr': '%s', 'fortran_order': False, 'shape': (60000, 60000), }\n"
HUGE = archive(imgs=npy(HEADER % b"60000, 60000"))
# Content of a file by what is wrong with it, and what the message says.
BROKEN = {
    "empty": (b"", "must be a .npz archive"),
    "no-archive": (b"text", "must be a .npz archive"),
    "truncated": (GOOD[: len(GOOD) // 2], "must be a .npz archive"),
    "only-an-end": (b"PK\5\6" + bytes(18), "must have a member 'boxes', got nothing"),
    "bytes-lost-inside": (GOOD[:40] + GOOD[60:], "readable .npz|cannot be read"),
    "bomb": (
        with_size(npz(imgs=np.zeros(1 << 26, np.uint8), boxes=BOXES), b"imgs.npy", 70_000),
        "CRC",
    ),
    "bzip2": (archive(zipfile.ZIP_BZIP2, imgs=array_bytes(IMAGE)), "stored or deflated"),
    "lzma": (archive(zipfile.ZIP_LZMA, imgs=array_bytes(IMAGE)), "stored or deflated"),
    "encrypted": (encrypted(GOOD), "cannot be read.*encrypted"),
    "large-directory": (
        with_directory_of(GOOD, 1 << 30),
        "directory must be 1048576 bytes at most",
    ),
    "large-directory-of-zip64": (with_larger_end(GOOD, 1 << 40), "directory must be 1048576"),
    "larger-packed": (with_size(npz(imgs=NOISE, boxes=BOXES), b"imgs.npy", 1), "are too many"),
    "pickle": (npz(imgs=np.array([{}], object), boxes=BOXES), "could run code"),
    "pickled-boxes": (npz(imgs=IMAGE, boxes=np.array([None])), "could run code"),
    "no-pixels": (npz(image=IMAGE, boxes=BOXES), "must have a member 'imgs', got image, boxes"),
    "no-boxes": (npz(imgs=IMAGE), "must have a member 'boxes', got imgs"),
    "no-array": (archive(imgs=b"text"), "'imgs' cannot be read"),
    "no-header": (archive(imgs=npy(b"text\n")), "header is malformed"),
    "code-for-a-header": (archive(imgs=npy(b"__import__('os').abort()\n")), "header is malformed"),
    "deep-header": (archive(imgs=npy(b"[" * 9999 + b"\n")), "header is malformed"),
    "later-format": (archive(imgs=npy(HEADER % b"1,", (9, 0))), "version 1.0 to 3.0, got 9.0"),
    "fewer-values": (archive(imgs=npy(HEADER % b"40, 60") + b"1"), "cannot be read"),
    "endless-shape": (archive(imgs=npy(HEADER % (b"%d, 9" % (1 << 62)))), "cannot be read"),
    "negative-shape": (archive(imgs=npy(HEADER % b"-1, 3") + bytes(9)), "not be negative"),
    "shape-of-booleans": (archive(imgs=npy(HEADER % b"True, True") + b"1"), "of whole numbers"),
    "boxes-of-booleans": (
        archive(imgs=array_bytes(IMAGE), boxes=npy(HEADER % b"True, 4") + b"1234"),
        "'boxes' cannot be read: Its shape must be of whole numbers",
    ),
    "shape-of-fractions": (archive(imgs=npy(HEADER % b"1.0, 1")), "header is malformed"),
    "no-side-and-an-endless-one": (archive(imgs=npy(HEADER % (b"0, %d" % (1 << 70)))), "imgs"),
    "sides-beyond-printing": (archive(imgs=npy(HEADER % (b"-1" + b"0" * 4298))), "cannot be read"),
    "many-axes": (archive(imgs=npy(HEADER % (b"1," * 70)) + b"1"), "cannot be read"),
    "values-of-no-size": (archive(imgs=npy(OF_NOTHING % b"|S0")), "must take room"),
    "text-of-no-size": (archive(imgs=npy(OF_NOTHING % b"<U0")), "must take room"),
    "values-of-two": (
        archive(imgs=npy(HEADER.replace(b"|u1", b"2u1") % b"2, 2") + b"12345678"),
        "imgs",
    ),
    "sizes-that-are-not-there": (
        with_sizes(HUGE, b"imgs.npy", packed=3_600_000, size=3_600_000_128),
        "inflates to 3600000128|Bad CRC",
    ),
    "float-0-1": (npz(imgs=IMAGE / 255, boxes=BOXES), "float64 from 0 to 1: multiply by 255"),
    "float-0-255": (npz(imgs=IMAGE.astype(np.float32), boxes=BOXES), "astype.np.uint8"),
    "float-0-65535": (npz(imgs=IMAGE * 257.0, boxes=BOXES), "from 0 to 65535: clip to the 0.5th"),
    "float-with-nan": (npz(imgs=np.full((4, 5), np.nan), boxes=BOXES), "are not finite"),
    "uint16": (npz(imgs=IMAGE * np.uint16(9), boxes=BOXES), "uint16 from 0 to 2295: clip"),
    "ct-int16": (npz(imgs=IMAGE.astype(np.int16) - 1000, boxes=BOXES), "-160 to 240 HU"),
    "bool": (npz(imgs=IMAGE > 9, boxes=BOXES), "got bool: multiply by 255"),
    "text-for-pixels": (npz(imgs=np.array(["a"]), boxes=BOXES), "must be uint8"),
    "four-axes": (npz(imgs=np.zeros((2, 3, 4, 3), np.uint8), boxes=BOXES), "or a volume"),
    "normalised-boxes": (
        npz(imgs=IMAGE, boxes=[[0.1, 0.2, 0.5, 0.9]]),
        "original image, 60 x 40, got x and y from 0.1 to 0.9",
    ),
    "no-pixel": (npz(imgs=np.zeros((0, 4, 3), np.uint8), boxes=BOXES), "or a volume"),
    "nan-box": (npz(imgs=IMAGE, boxes=[[1, 2, np.nan, 4]]), "finite, got box 1"),
    "infinite-box": (npz(imgs=IMAGE, boxes=[[1, 2, np.inf, 4]]), "finite, got box 1"),
    "boxes-of-five": (npz(imgs=IMAGE, boxes=[[1, 2, 3, 4, 5]]), r"shape \(N, 4\)"),
    "text-for-boxes": (npz(imgs=IMAGE, boxes=["1,2,3,4"]), "integers or floats"),
    "complex-boxes": (npz(imgs=IMAGE, boxes=[[1j, 2, 3, 4]]), "integers or floats"),
    "boxes-of-a-volume": (npz(imgs=IMAGE, boxes=[[1, 2, 3, 4, 5, 6]]), "need a volume"),
    "boxes-of-an-image": (
        npz(imgs=np.zeros((9, 40, 60), np.uint8), boxes=BOXES),
        r"a volume needs boxes \(N, 6\)",
    ),
    "endless-boxes": (npz(imgs=IMAGE, boxes=np.zeros((1 << 23, 4), np.uint8)), "33554560 bytes"),
    "endless-side": (npz(imgs=np.zeros((1, 65536), np.uint8), boxes=BOXES), "65535 at most"),
    "names-that-steer": (npz(**{"x\x1b[2J\nERROR": IMAGE}), r"got 'x.x1b.2J.nERROR'"),
    "many-members": (npz(**{f"m{i}": IMAGE for i in range(30)}), "m9 and 20 more"),
    "too-many-boxes": (npz(imgs=IMAGE, boxes=np.ones((65536, 4))), "At most 65535 boxes"),
}


@pytest.mark.parametrize("on_error", ["skip", "empty"])
@pytest.mark.parametrize(("content", "message"), BROKEN.values(), ids=BROKEN)
def test_broken_content_is_named_and_the_other_cases_go_on(run, content, message, on_error):
    (run.inputs / "a bad one.npz").write_bytes(content)
    (run.inputs / "good.npz").write_bytes(GOOD)
    assert run.call("--on-error", on_error) == SOME_FAILED
    errors = [entry.getMessage() for entry in run.log.records if entry.levelname == "ERROR"]
    assert len(errors) == 2
    assert "a bad one.npz: " in errors[0]
    assert "unexpectedly" not in errors[0]
    assert re.search(message, errors[0]), errors[0]
    written = run.written()
    assert written.pop("good.npz").any()
    shape = read_label_map_shape(run.inputs / "a bad one.npz")
    expected = {"a bad one.npz"} if on_error == "empty" and shape else set()
    assert written.keys() == expected
    for label_map in written.values():
        assert label_map.shape == shape
        assert label_map.dtype == np.uint8
        assert not label_map.any()


@pytest.mark.parametrize(
    ("case", "shape"),
    [
        ("float-0-1", (40, 60)),
        ("nan-box", (40, 60)),
        ("pickled-boxes", (40, 60)),
        ("no-boxes", (40, 60)),
        ("boxes-of-an-image", (9, 40, 60)),
        ("fewer-values", None),
        ("pickle", None),
        ("truncated", None),
        ("endless-shape", None),
        ("four-axes", None),
        ("no-pixel", None),
        ("shape-of-booleans", None),
        ("values-of-no-size", None),
        ("sizes-that-are-not-there", None),
    ],
)
def test_the_shape_of_an_empty_label_map_comes_from_the_headers(tmp_path, case, shape):
    (tmp_path / "case.npz").write_bytes(BROKEN[case][0])
    assert read_label_map_shape(tmp_path / "case.npz") == shape


VOLUME = np.zeros((3, 40, 60), np.uint8)
MOST_DECODED = 260  # by the real model: more than 8 bits can count, in several calls
# Members of a case that is odd, what is warned of, and the labels of its label map.
ODD = {
    "swapped-corners": (IMAGE, [[30, 20, 5, 5]], "Box 1 (30, 20, 5, 5) was put in order", {1}),
    "beyond-the-border": (IMAGE, [[-9, -9, 99, 99]], "was clipped", {1}),
    "outside": (IMAGE, [[100, 100, 120, 120], [5, 5, 30, 20]], "lay outside", {2}),
    "no-area": (IMAGE, [[7, 7, 7, 7]], "", {1}),
    "no-boxes": (IMAGE, np.zeros((0, 4)), "", set()),
    "a-thousand-boxes": (
        IMAGE,
        [[x % 50, 2, x % 50 + 3, 9] for x in range(1000)],
        "later boxes cover",
        {1000},
    ),
    "boxes-beyond-float32": (IMAGE, [[0, 0, 1e300, 1e300]], "was clipped", {1}),
    "thin": (np.ones((1, 1000), np.uint8), [[5, 0, 30, 1]], "nothing was found there", set()),
    "one-pixel": (np.ones((1, 1), np.uint8), [[0, 0, 0, 0]], "", {1}),
    "one-colour": (np.full((40, 60, 3), 9, np.uint8), [[5, 5, 30, 20]], "", {1}),
    "transparent": (np.zeros((40, 60, 4), np.uint8), [[5, 5, 30, 20]], "", {1}),
    "one-slice": (VOLUME[:1], [[5, 5, 0, 30, 20, 0]], "", {1}),
    "slices-outside": (VOLUME, [[5, 5, 7, 30, 20, 9]], "lay outside", set()),
    "slices-swapped": (VOLUME, [[5, 5, 2, 30, 20, 0]], "was put in order", {1}),
    "covered": (IMAGE, [[9, 9, 20, 15], [5, 5, 30, 20]], "Box 1 (9, 9, 20, 15) left", {2}),
    "column-by-column": (np.asfortranarray(IMAGE), [[5, 5, 30, 20]], "", {1}),
    "not-a-native-order": (IMAGE, np.array([[5, 5, 30, 20]], ">f8"), "", {1}),
}


@pytest.mark.parametrize(("pixels", "boxes", "note", "labels"), ODD.values(), ids=ODD)
def test_odd_content_is_segmented_and_corrections_are_noted(run, pixels, boxes, note, labels):
    np.savez(run.inputs / "odd.npz", imgs=pixels, boxes=np.asarray(boxes))
    assert run.call() == DONE
    warnings = [entry.getMessage() for entry in run.log.records if entry.levelname == "WARNING"]
    assert len(warnings) == bool(note)
    assert all(note in warning for warning in warnings)
    (label_map,) = run.written().values()
    columns = np.asarray(boxes).shape[1]
    assert label_map.shape == (pixels.shape if columns == 6 else pixels.shape[:2])
    assert labels <= set(np.unique(label_map).tolist())
    assert label_map.any() == bool(labels)


@pytest.mark.model
def test_odd_content_is_segmented_by_the_model_that_ships():
    segmenter = Segmenter(settings=Settings(precision="f32"))
    for name, (pixels, all_boxes, _, _) in ODD.items():
        boxes = np.asarray(all_boxes)[:MOST_DECODED]
        label_map = segmenter.segment(pixels, boxes)
        expected = pixels.shape if boxes.shape[1] == 6 else pixels.shape[:2]
        assert label_map.shape == expected, name
        assert label_map.max(initial=0) <= len(boxes), name


def test_an_archive_that_promises_more_than_memory_is_refused_unread(run, monkeypatch):
    monkeypatch.setattr(memory, "memory_limit_bytes", lambda: 1 << 30)
    (run.inputs / "a.npz").write_bytes(with_size(GOOD, b"imgs.npy", (1 << 32) - 2))
    (run.inputs / "b.npz").write_bytes(GOOD)
    assert run.call() == SOME_FAILED
    assert "inflates to 4294967294 bytes" in run.log.text
    assert run.written().keys() == {"b.npz"}


def test_an_enormous_image_is_refused_under_a_small_memory_limit(run, monkeypatch):
    monkeypatch.setattr(memory, "memory_limit_bytes", lambda: 1 << 30)
    np.savez_compressed(run.inputs / "a.npz", imgs=np.zeros((12000, 12000), np.uint8), boxes=BOXES)
    (run.inputs / "b.npz").write_bytes(GOOD)
    assert run.call("--on-error", "empty") == SOME_FAILED
    assert "inflates to 144000128 bytes" in run.log.text
    assert run.written().keys() == {"b.npz"}  # nor is there background of what is not segmented


@pytest.mark.parametrize("option", [[], ["--shard", "0/1"]], ids=["folder", "shard"])
def test_a_header_of_booleans_in_the_first_case_ends_no_run(run, option):
    (run.inputs / "a.npz").write_bytes(BROKEN["shape-of-booleans"][0])
    (run.inputs / "b.npz").write_bytes(GOOD)
    assert run.call("--on-error", "empty", *option) == SOME_FAILED
    assert run.written().keys() == {"b.npz"}


def test_what_an_empty_label_map_meets_is_of_its_case_alone(run, monkeypatch):
    def fail(path):
        raise TypeError("not foreseen")

    monkeypatch.setattr(case_run, "read_label_map_shape", fail)
    (run.inputs / "a.npz").write_bytes(b"")
    (run.inputs / "b.npz").write_bytes(GOOD)
    assert run.call("--on-error", "empty") == SOME_FAILED
    assert "a.npz: its empty label map failed unexpectedly" in run.log.text
    assert run.written().keys() == {"b.npz"}


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED], ids=str)
def test_background_is_as_large_as_what_could_be_in_the_file_and_no_larger(
    tmp_path, monkeypatch, method
):
    monkeypatch.setattr(memory, "memory_limit_bytes", lambda: 64 << 30)
    path, header = tmp_path / "case.npz", npy(HEADER % b"60000, 60000")
    path.write_bytes(archive(method, imgs=header + bytes(3_600_000)))
    assert read_label_map_shape(path) is None
    for packed in (100, 3_600_000, 4_000_000_000):  # in 357 bytes
        content = archive(method, imgs=header)
        size = 3_600_000_000 + len(header)
        path.write_bytes(with_sizes(content, b"imgs.npy", packed=packed, size=size))
        assert read_label_map_shape(path) is None


NAMES = [
    "a b.npz",
    "line\nbreak.npz",
    "größe 影像.npz",
    "-o.npz",
    "$(touch x);'\".npz",
    "UPPER.NPZ",
]


@pytest.mark.parametrize("name", NAMES)
def test_any_name_goes_through(run, name):
    (run.inputs / name).write_bytes(GOOD)
    assert run.call() == DONE
    assert run.written().keys() == {name}


def test_a_name_is_escaped_in_messages(run):
    (run.inputs / "line\nbreak\x1b[2J.npz").write_bytes(b"")
    assert run.call() == SOME_FAILED
    error = run.log.records[0].getMessage()
    assert error.isprintable()
    assert "line\\nbreak\\x1b[2J.npz" in error


def test_members_with_paths_for_names_are_not_unpacked(run, tmp_path):
    with zipfile.ZipFile(run.inputs / "case.npz", "w") as opened:
        opened.writestr("../escaped.npy", "x")
        opened.writestr(f"{tmp_path}/absolute.npy", "x")
        opened.writestr("imgs.npy", array_bytes(IMAGE))
        opened.writestr("boxes.npy", array_bytes(BOXES))
    assert run.call() == DONE
    assert {path.name for path in tmp_path.iterdir()} == {"in", "out"}


def test_other_members_are_never_inflated(run):
    whole = npz(imgs=IMAGE, boxes=BOXES, gts=np.zeros(1 << 20, np.uint8))
    broken = bytearray(whole)
    place = whole.index(b"gts.npy") + 40
    broken[place : place + 20] = bytes(20)
    (run.inputs / "case.npz").write_bytes(broken)
    assert run.call() == DONE


def test_a_symbolic_link_is_followed_for_a_case_and_replaced_for_a_label_map(run, tmp_path):
    (tmp_path / "elsewhere.npz").write_bytes(GOOD)
    (run.inputs / "case.npz").symlink_to(tmp_path / "elsewhere.npz")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "case.npz").symlink_to(tmp_path / "precious")
    (tmp_path / "precious").write_text("stays")
    assert run.call() == DONE
    assert (tmp_path / "precious").read_text() == "stays"
    assert not (tmp_path / "out" / "case.npz").is_symlink()


def make_folder(path):
    path.mkdir()


def make_pipe(path):
    os.mkfifo(path)


def make_dangling_link(path):
    path.symlink_to("nowhere")


def make_loop(path):
    path.symlink_to(path.name)


@pytest.mark.parametrize("make", [make_folder, make_pipe, make_dangling_link, make_loop])
def test_what_is_no_file_is_named_and_not_waited_for(run, make):
    make(run.inputs / "bad.npz")
    (run.inputs / "good.npz").write_bytes(GOOD)
    assert run.call("--on-error", "empty") == SOME_FAILED
    assert "bad.npz: File must be a regular file" in run.log.text
    assert run.written().keys() == {"good.npz"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_that_may_not_be_read_is_named(run):
    (run.inputs / "bad.npz").write_bytes(GOOD)
    (run.inputs / "bad.npz").chmod(0)
    assert run.call() == SOME_FAILED
    assert "bad.npz: File must be a readable .npz archive, got: [Errno 13]" in run.log.text


def test_a_file_that_vanishes_is_named(run, monkeypatch):
    (run.inputs / "a.npz").write_bytes(GOOD)
    (run.inputs / "b.npz").write_bytes(GOOD)
    listed = run_command.list_cases

    def list_and_remove(folder):
        paths = listed(folder)
        paths[1].unlink()
        return paths

    monkeypatch.setattr(run_command, "list_cases", list_and_remove)
    assert run.call("--on-error", "empty") == SOME_FAILED
    assert "b.npz: File must be a regular file, got nothing" in run.log.text
    assert run.written().keys() == {"a.npz"}


def test_a_file_that_is_still_growing_is_refused_and_read_when_whole(run):
    (run.inputs / "case.npz").write_bytes(GOOD[:-30])
    assert run.call() == SOME_FAILED
    (run.inputs / "case.npz").write_bytes(GOOD)
    assert run.call() == DONE
