"""Files that appear whole or not at all, whoever is killed or writes beside."""

from __future__ import annotations

import fcntl
import os

import pytest

from qmedsam.system import files
from qmedsam.system.files import (
    TEMPORARY_NAME,
    one_line,
    open_regular,
    remove_leftovers,
    write_bytes,
)


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_whole(tmp_path):
    write_bytes(tmp_path / "a", b"first")
    write_bytes(tmp_path / "a", b"second")
    assert (tmp_path / "a").read_bytes() == b"second"
    assert names(tmp_path) == ["a"]


def test_what_a_killed_process_left_is_removed_and_what_is_written_stays(tmp_path):
    left = tmp_path / TEMPORARY_NAME.format("0" * 16)
    written = tmp_path / TEMPORARY_NAME.format("1" * 16)
    for path in (left, written, tmp_path / ".other.tmp", tmp_path / "case.npz"):
        path.write_bytes(b"half")
    with written.open("rb") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        remove_leftovers(tmp_path)
        assert names(tmp_path) == [".other.tmp", written.name, "case.npz"]
    remove_leftovers(tmp_path)
    assert names(tmp_path) == [".other.tmp", "case.npz"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("größe 影像 'a' \\n", "größe 影像 'a' \\n"),
        ("a\nb\r\x1b[2J\u2028\x85", "a\\nb\\r\\x1b[2J\\u2028\\x85"),
        ("b\udcff", "b\\udcff"),
        ("", ""),
    ],
)
def test_a_text_becomes_one_line(text, shown):
    assert one_line(text) == shown
    assert shown.isprintable()


def test_regular_files_are_opened_and_nothing_else_is_waited_for(tmp_path):
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("file")
    for name in ("file", "link"):
        with open_regular(tmp_path / name) as stream:
            assert stream.read() == b"content"
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "folder", "none"):
        with pytest.raises(OSError, match=name), open_regular(tmp_path / name):
            pass


def test_a_file_that_is_taken_for_a_leftover_is_written_again(tmp_path, monkeypatch):
    lock, taken = files._lock, []

    def take_first(file):
        if not taken:
            taken.extend(names(tmp_path))
            remove_leftovers(tmp_path)
        lock(file)

    monkeypatch.setattr(files, "_lock", take_first)
    write_bytes(tmp_path / "a", b"content")
    assert len(taken) == 1
    assert (tmp_path / "a").read_bytes() == b"content"
    assert names(tmp_path) == ["a"]


def test_a_missing_folder_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_bytes(tmp_path / "none" / "a", b"content")


def test_a_file_system_without_locks_is_written_and_not_cleaned(tmp_path, monkeypatch):
    def refuse(file, operation):
        raise OSError("no locks here")

    monkeypatch.setattr(files.fcntl, "flock", refuse)
    (tmp_path / TEMPORARY_NAME.format("0" * 16)).write_bytes(b"half")
    write_bytes(tmp_path / "a", b"content")
    remove_leftovers(tmp_path)
    assert (tmp_path / "a").read_bytes() == b"content"
    assert len(names(tmp_path)) == 2


def test_a_failed_write_keeps_what_was_there(tmp_path, monkeypatch):
    write_bytes(tmp_path / "a", b"first")

    def fail(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="No space left"):
        write_bytes(tmp_path / "a", b"second")
    assert (tmp_path / "a").read_bytes() == b"first"
    assert names(tmp_path) == ["a"]
