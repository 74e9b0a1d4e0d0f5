from __future__ import annotations

import io
import os
import zipfile

import numpy as np
import pytest

from qmedsam.batch.cases import list_cases, read_case, write_label_map
from qmedsam.errors import InvalidCaseError
from qmedsam.system.files import write_bytes


def archive_bytes(**members) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **members)
    return buffer.getvalue()


GOOD = archive_bytes(imgs=np.zeros((3, 4), np.uint8), boxes=np.zeros((0, 4)), gts=np.zeros((3, 4)))


def npy_bytes() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(3))
    return buffer.getvalue()


def test_a_case_is_read(tmp_path):
    path = tmp_path / "case.npz"
    path.write_bytes(GOOD)
    case = read_case(path)
    assert case.pixels.shape == (3, 4)
    assert case.boxes.shape == (0, 4)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"", "got none or a part of one", id="empty"),
        pytest.param(b"not a zip at all", "got none or a part of one", id="text"),
        pytest.param(GOOD[: len(GOOD) // 2], "got none or a part of one", id="truncated"),
        pytest.param(b"PK" + GOOD[2:40] + GOOD[100:], "readable .npz|cannot be read", id="gap"),
        pytest.param(npy_bytes(), "got none or a part of one", id="npy"),
        pytest.param(
            archive_bytes(boxes=np.zeros((0, 4))), "member 'imgs', got boxes", id="no-imgs"
        ),
        pytest.param(
            archive_bytes(imgs=np.zeros((3, 4))), "member 'boxes', got imgs", id="no-boxes"
        ),
        pytest.param(
            archive_bytes(imgs=np.array([{}], dtype=object), boxes=np.zeros((0, 4))),
            "'imgs' cannot be read: Arrays of objects",
            id="pickle",
        ),
    ],
)
def test_a_broken_file_is_refused_with_its_reason(tmp_path, content, message):
    path = tmp_path / "case.npz"
    path.write_bytes(content)
    with pytest.raises(InvalidCaseError, match=message):
        read_case(path)


def test_a_member_that_is_no_array_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "case.npz", "w") as archive:
        archive.writestr("imgs", "text")
        archive.writestr("boxes", "text")
    with pytest.raises(InvalidCaseError, match="'boxes' must be an array, got bytes"):
        read_case(tmp_path / "case.npz")


def test_a_header_that_promises_more_than_fits_is_refused(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "|u1", "fortran_order": False, "shape": (1 << 60,)}
    )
    with zipfile.ZipFile(tmp_path / "case.npz", "w") as archive:
        archive.writestr("imgs.npy", header.getvalue())
        archive.writestr("boxes.npy", npy_bytes())
    with pytest.raises(InvalidCaseError, match="'imgs' cannot be read"):
        read_case(tmp_path / "case.npz")


def test_a_folder_named_like_a_case_is_refused(tmp_path):
    (tmp_path / "case.npz").mkdir()
    with pytest.raises(InvalidCaseError, match="regular file"):
        read_case(tmp_path / "case.npz")


def test_a_pipe_named_like_a_case_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "case.npz")
    with pytest.raises(InvalidCaseError, match="regular file"):
        read_case(tmp_path / "case.npz")


def test_the_longest_name_is_written(tmp_path):
    path = tmp_path / ("n" * 251 + ".npz")
    write_label_map(path, np.zeros((1, 1), dtype=np.uint8))
    assert [written.name for written in tmp_path.iterdir()] == [path.name]


def test_only_visible_npz_files_are_cases_and_they_come_by_name(tmp_path):
    for name in ["b.npz", "a.NPZ", "c d.npz", ".hidden.npz", "readme.txt"]:
        (tmp_path / name).write_bytes(b"")
    assert [path.name for path in list_cases(tmp_path)] == ["a.NPZ", "b.npz", "c d.npz"]


def test_a_label_map_is_written_whole_and_nothing_else(tmp_path):
    label_map = np.arange(6, dtype=np.uint16).reshape(2, 3)
    write_label_map(tmp_path / "case.npz", label_map)
    assert [path.name for path in tmp_path.iterdir()] == ["case.npz"]
    with np.load(tmp_path / "case.npz") as archive:
        assert archive.files == ["segs"]
        assert archive["segs"].dtype == np.uint16
        np.testing.assert_array_equal(archive["segs"], label_map)


def test_a_failed_write_leaves_neither_file_nor_fragment(tmp_path):
    target = tmp_path / "taken.npz"
    target.mkdir()  # a file cannot be renamed onto a folder
    with pytest.raises(OSError, match="taken"):
        write_bytes(target, b"content")
    assert [path.name for path in tmp_path.iterdir()] == ["taken.npz"]
