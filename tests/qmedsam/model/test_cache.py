"""Compiled models on disk."""

from __future__ import annotations

import logging
import os
import shutil
import stat

import pytest

from qmedsam.model import cache as model_cache
from qmedsam.model.cache import ModelCache, cache_key


def test_what_is_stored_is_loaded(tmp_path):
    cache = ModelCache(tmp_path / "deep" / "key")
    assert cache.load("encoder") is None
    assert cache.is_writable()
    cache.store("encoder", b"one")
    cache.store("decoder", b"")
    assert (cache.load("encoder"), cache.load("decoder")) == (b"one", b"")
    assert {path.name for path in (tmp_path / "deep" / "key").iterdir()} == {
        "encoder.blob",
        "decoder.blob",
    }


@pytest.mark.parametrize("place", [0, 3, 4, -1])
def test_a_changed_byte_is_noticed(tmp_path, caplog, place):
    cache = ModelCache(tmp_path)
    cache.store("encoder", b"some compiled model")
    content = bytearray((tmp_path / "encoder.blob").read_bytes())
    content[place] ^= 1
    (tmp_path / "encoder.blob").write_bytes(content)
    assert cache.load("encoder") is None
    assert "encoder.blob is damaged" in caplog.text


def test_a_short_file_is_noticed(tmp_path):
    (tmp_path / "encoder.blob").write_bytes(b"one")
    assert ModelCache(tmp_path).load("encoder") is None


def test_a_folder_out_of_reach_is_empty_and_not_writable(tmp_path):
    (tmp_path / "file").write_text("")
    cache = ModelCache(tmp_path / "file" / "key")
    assert cache.load("encoder") is None
    assert not cache.is_writable()


def test_where_nothing_can_be_written_nothing_is_stored(tmp_path, monkeypatch, caplog):
    def refuse(folder):
        raise PermissionError("read-only")

    monkeypatch.setattr(model_cache, "make_writable", refuse)
    caplog.set_level(logging.INFO)
    cache = ModelCache(tmp_path)
    assert not cache.is_writable()
    assert "Compiled models are not cached: read-only" in caplog.text


MODEL = {
    "runtime": "2026.4.1",
    "processor": "Xeon",
    "precision": "f32",
    "digests": {"encoder.xml": "ab", "encoder.bin": "cd"},
    "rewriting": 1,
}


def test_a_model_has_one_key_in_whatever_order_its_files_are_named():
    turned = {"encoder.bin": "cd", "encoder.xml": "ab"}
    assert cache_key(**MODEL) == cache_key(**MODEL | {"digests": turned})


@pytest.mark.parametrize(
    "change",
    [
        {"runtime": "2026.4.2"},
        {"processor": "EPYC"},
        {"precision": "bf16"},
        {"digests": {"encoder.xml": "ab", "encoder.bin": "ce"}},
        {"rewriting": 2},
    ],
    ids=lambda change: next(iter(change)),
)
def test_all_that_a_compiled_model_depends_on_is_in_its_key(change):
    assert cache_key(**MODEL | change) != cache_key(**MODEL)


def test_processors_of_one_name_and_other_instructions_have_other_keys(monkeypatch):
    keys = set()
    for flags in ({"avx2"}, {"avx2", "avx512f"}, {"avx512f", "avx2"}):
        monkeypatch.setattr(model_cache, "processor_flags", lambda flags=flags: frozenset(flags))
        keys.add(cache_key(**MODEL))
    assert len(keys) == 2


@pytest.fixture
def filled(tmp_path):
    """The folder of a cache with one model, in a folder of this user."""
    folder = tmp_path / "cache" / "key"
    cache = ModelCache(folder)
    assert cache.is_writable()
    cache.store("encoder", b"one")
    return folder


def open_to_all(path):
    path.chmod(path.stat().st_mode | 0o022)


@pytest.mark.parametrize(
    "place", ["cache", "cache/key", "cache/key/encoder.blob"], ids=["root", "folder", "file"]
)
def test_what_others_may_write_is_not_run_and_said_once(filled, tmp_path, caplog, place):
    open_to_all(tmp_path / place)
    cache = ModelCache(filled)
    assert cache.load("encoder") is None
    assert cache.load("encoder") is None
    assert caplog.text.count("are not used: others may write") == 1
    assert str(tmp_path / place) in caplog.text


def test_nothing_is_stored_where_others_may_write(filled):
    open_to_all(filled.parent)
    assert not ModelCache(filled).is_writable()


def test_what_belongs_to_another_user_is_not_run(filled, monkeypatch):
    monkeypatch.setattr(model_cache.os, "geteuid", lambda: 12345)
    is_root = filled.stat().st_uid == 0  # whose files anybody may trust
    assert ModelCache(filled).load("encoder") == (b"one" if is_root else None)
    for path in (filled.parent, filled, filled / "encoder.blob"):
        if is_root:
            os.chown(path, 54321, -1)
    assert ModelCache(filled).load("encoder") is None


def test_a_folder_with_the_sticky_bit_may_hold_it(filled):
    filled.parent.chmod(0o1777)
    assert ModelCache(filled).load("encoder") == b"one"


def test_what_is_stored_is_writable_by_this_user_alone(tmp_path):
    """Also where new files are their group's, as the umask of some systems has it."""
    before = os.umask(0o002)
    try:
        cache = ModelCache(tmp_path / "cache" / "key")
        assert cache.is_writable()
        cache.store("encoder", b"one")
    finally:
        os.umask(before)
    for path in (tmp_path / "cache", tmp_path / "cache" / "key", *tmp_path.rglob("*.blob")):
        assert not path.stat().st_mode & 0o022
    assert cache.load("encoder") == b"one"


@pytest.mark.parametrize("place", ["cache", "cache/key", "cache/key/encoder.blob"])
def test_what_a_group_may_write_is_not_run(filled, tmp_path, caplog, place):
    """A group that is called like the user may have other members all the same."""
    path = tmp_path / place
    path.chmod(path.stat().st_mode | 0o020)
    assert ModelCache(filled).load("encoder") is None
    assert f"others may write {path}" in caplog.text


def test_what_is_read_is_what_was_looked_at(filled, tmp_path, monkeypatch):
    """A file that takes its place meanwhile is not, nor one in a folder that takes its folder's."""
    path, looked_at = filled / "encoder.blob", filled.stat()
    other = tmp_path / "other"
    other.mkdir()
    ModelCache(other).store("encoder", b"two")
    is_own = model_cache._is_own

    def exchanged(status):
        if stat.S_ISREG(status.st_mode):
            (other / path.name).replace(path)
        elif os.path.samestat(status, looked_at):
            filled.rename(tmp_path / "moved")
            shutil.copytree(other, filled)
        return is_own(status)

    monkeypatch.setattr(model_cache, "_is_own", exchanged)
    assert ModelCache(filled).load("encoder") == b"one"


@pytest.mark.parametrize("place", ["cache/key", "cache/key/encoder.blob"])
def test_links_are_not_followed(filled, tmp_path, place):
    path = tmp_path / place
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert ModelCache(filled).load("encoder") is None


def test_the_folder_that_the_user_names_may_be_a_link(filled, tmp_path):
    (tmp_path / "link").symlink_to(filled.parent)
    assert ModelCache(tmp_path / "link" / "key").load("encoder") == b"one"


def test_a_pipe_is_not_waited_for(filled):
    (filled / "encoder.blob").unlink()
    os.mkfifo(filled / "encoder.blob")
    assert ModelCache(filled).load("encoder") is None
