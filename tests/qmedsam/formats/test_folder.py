"""Which files there are in a folder, and how they are read."""

from __future__ import annotations

import os

import pytest

from qmedsam.formats.folder import open_file, read_file, visible_files
from qmedsam.formats.scan import FormatError


def made(folder, *names):
    """Return a folder with files of these names."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    return folder


def names_in(folder) -> list[str]:
    return [str(path.relative_to(folder)) for path in visible_files(folder)]


def test_files_of_a_folder_come_before_those_of_folders_in_it_and_hidden_ones_do_not(tmp_path):
    made(tmp_path, "b/c/3", "b/2", "a/1", "z", ".hidden", ".git/4")
    assert names_in(tmp_path) == ["z", "a/1", "b/2", "b/c/3"]


def test_what_cannot_be_opened_is_there(tmp_path):
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
    (tmp_path / "itself").symlink_to(tmp_path / "itself")
    os.mkfifo(tmp_path / "pipe")
    assert names_in(tmp_path) == ["dangling", "itself", "pipe"]
    for path in visible_files(tmp_path):
        with pytest.raises(OSError, match=path.name):
            open_file(path)


def test_linked_folders_are_followed(tmp_path):
    made(tmp_path, "elsewhere/2", "elsewhere/deep/3", "here/1")
    (tmp_path / "here" / "more").symlink_to(tmp_path / "elsewhere")
    assert names_in(tmp_path / "here") == ["1", "more/2", "more/deep/3"]
    (tmp_path / "link").symlink_to(tmp_path / "here")
    assert names_in(tmp_path / "link") == ["1", "more/2", "more/deep/3"]


def test_a_folder_that_is_linked_twice_is_followed_once(tmp_path):
    made(tmp_path, "elsewhere/2", "here/a/1")
    for name in ("b", "c"):
        (tmp_path / "here" / name).symlink_to(tmp_path / "elsewhere")
    (tmp_path / "here" / "d").symlink_to(tmp_path / "here" / "a")
    assert names_in(tmp_path / "here") == ["a/1", "b/2"]


def test_links_to_folders_that_they_lie_in_are_not_followed(tmp_path):
    made(tmp_path, "here/a/1", "beside/2", "elsewhere/deep/3", "elsewhere/4")
    (tmp_path / "here" / "itself").symlink_to(tmp_path / "here")
    (tmp_path / "here" / "a" / "above").symlink_to("../..")
    (tmp_path / "here" / "more").symlink_to(tmp_path / "elsewhere" / "deep")
    (tmp_path / "elsewhere" / "deep" / "up").symlink_to(tmp_path / "elsewhere")
    assert names_in(tmp_path / "here") == ["a/1", "more/3"]


def test_folders_that_link_each_other_end(tmp_path):
    made(tmp_path, "one/1", "two/2")
    (tmp_path / "one" / "x").symlink_to(tmp_path / "two")
    (tmp_path / "two" / "y").symlink_to(tmp_path / "one")
    assert names_in(tmp_path / "one") == ["1", "x/2"]


def test_a_file_larger_than_memory_is_not_read(tmp_path):
    path = made(tmp_path, "a.nii") / "a.nii"
    os.truncate(path, 1 << 40)
    with pytest.raises(FormatError, match=r"a\.nii must have \d+ bytes at most for this memory"):
        read_file(path)
