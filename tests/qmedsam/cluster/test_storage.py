"""Folders behind a URL, with the file system of fsspec that is in memory."""

from __future__ import annotations

import io
from pathlib import Path

import fsspec
import numpy as np
import pytest

from qmedsam.batch.cases import read_label_map
from qmedsam.batch.results import is_own_label_map
from qmedsam.cli import main
from qmedsam.cluster import driver
from qmedsam.cluster.storage import BLOCK_BYTES, Storage, StorageError, staged
from qmedsam.cluster.worker import Job, Worker
from qmedsam.config import Settings
from qmedsam.model.compiling import precision_of
from qmedsam.model.manifest import read_manifest
from qmedsam.model.variant import default_model_dir
from tests.conftest import EXAMPLES

NAMES = sorted(path.name for path in EXAMPLES.glob("*.npz"))


@pytest.fixture
def url():
    """A folder with the examples and what is no case."""
    memory = fsspec.filesystem("memory")
    for path in EXAMPLES.glob("*.npz"):
        memory.pipe(f"/cases/{path.name}", path.read_bytes())
    memory.pipe("/cases/.hidden.npz", b"")
    memory.pipe("/cases/notes.txt", b"")
    yield "memory://cases"
    memory.rm("/cases", recursive=True)
    if memory.exists("/masks"):
        memory.rm("/masks", recursive=True)


@pytest.fixture
def worker(url, fake_model):
    def start(inputs=url, outputs="memory://masks", **options) -> Worker:
        job = Job(Storage(inputs), Storage(outputs), Settings(threads=1), **options)
        job.outputs.make()
        started = Worker(job)
        started.load()
        return started

    return start


def test_cases_behind_a_url_are_listed_and_their_outlines_read(url):
    storage = Storage(url)
    assert storage.names() == NAMES
    assert storage.folder is None
    local = Storage(str(EXAMPLES))
    assert local.folder == EXAMPLES
    assert local.names() == NAMES
    for name in NAMES:
        there, here = storage.outline(name), local.outline(name)
        assert (there.shape, there.dtype) == (here.shape, here.dtype)
        np.testing.assert_array_equal(there.boxes, here.boxes)
    assert storage.outline("notes.txt") is storage.outline("missing.npz") is None


def test_of_a_large_case_the_headers_alone_are_fetched(url, monkeypatch):
    memory = type(fsspec.filesystem("memory"))
    opened, options_of = memory.open, []

    def watched(self, path, mode="rb", **options):
        options_of.append(options)
        return opened(self, path, mode, **options)

    monkeypatch.setattr(memory, "open", watched)
    Storage(url).outline(NAMES[0])
    assert options_of == [{"block_size": BLOCK_BYTES}]


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("memory://cases", "memory:///cases/", True),
        ("memory://cases", "memory://masks", False),
        ("/tmp/a", "file:///tmp/a/", True),
        ("/tmp/a b", "/tmp/../tmp/a b", False),  # neither is there
        (str(EXAMPLES), f"{EXAMPLES}/../cases", True),
        ("/tmp/a", "memory://tmp/a", False),
    ],
)
def test_one_folder_is_known_by_another_spelling(one, other, is_same):
    assert Storage(one).is_same(Storage(other)) == is_same


@pytest.mark.parametrize(
    ("one", "other", "way"),
    [
        ("memory://cases", "memory:///cases/a.npz/masks/", ("a.npz", "masks")),
        ("memory://cases", "memory://cases2", None),
        ("memory://cases", "memory://cases", ()),
        ("/tmp/a", "file:///tmp/a/b.npz", ("b.npz",)),
        ("/tmp/a", "/tmp/a/../b", None),
        ("/tmp/a", "memory://tmp/a/b", None),
    ],
)
def test_a_folder_in_another_is_known(one, other, way):
    found = Storage(one).way_to(Storage(other))
    assert (None if found is None else found.parts) == way


def test_label_maps_never_go_where_they_would_be_cases(url):
    job = Job(Storage(url), Storage(f"{url}/a.npz/masks"), Settings())
    with pytest.raises(StorageError, match="would be taken for a case"):
        driver.list_names(job)


def test_names_of_folders_are_taken_as_they_are():
    assert Storage("/tmp/a b::c%20").folder == Path("/tmp/a b::c%20")
    assert Storage("/").folder == Path("/")


def test_a_url_of_this_machine_is_a_folder(tmp_path):
    assert Storage(f"file://{tmp_path}").folder == tmp_path


@pytest.mark.parametrize("url", ["nosuch://folder", "memory://missing", "/no/such/folder"])
def test_a_folder_that_cannot_be_read_is_named(url):
    with pytest.raises(StorageError, match=f"Folder {url} cannot be"):
        Storage(url).names()


def test_whatever_a_file_system_raises_is_said_once(monkeypatch):
    class CredentialsError(Exception):
        """As botocore's, which has no other base."""

    def refuse(url):
        raise CredentialsError("no key")

    monkeypatch.setattr("qmedsam.cluster.storage.url_to_fs", refuse)
    for ask in (Storage("s3://bucket").names, Storage("s3://bucket").make):
        with pytest.raises(StorageError, match=r"^Folder s3://bucket cannot be used: no key$"):
            ask()


def test_a_worker_fetches_cases_and_puts_label_maps_back(worker, tmp_path, fake_model, monkeypatch):
    monkeypatch.setattr(fake_model, "manifest", read_manifest(default_model_dir()))
    monkeypatch.setattr(fake_model, "precision", precision_of(Settings()))
    started = worker()
    for name in NAMES:
        assert started.run(name).error is None
    direct = tmp_path / "direct"
    assert main(["-i", str(EXAMPLES), "-o", str(direct), "--quiet"]) == 0
    memory = fsspec.filesystem("memory")
    assert [Path(path).name for path in memory.ls("/masks", detail=False)] == NAMES
    for name in NAMES:
        assert memory.cat(f"/masks/{name}") == (direct / name).read_bytes()


def test_what_is_done_is_kept(worker):
    assert worker().run(NAMES[0]).error is None
    before = fsspec.filesystem("memory").modified(f"/masks/{NAMES[0]}")
    assert worker(keeps_earlier=True).run(NAMES[0]).is_kept
    assert fsspec.filesystem("memory").modified(f"/masks/{NAMES[0]}") == before
    assert not worker().run(NAMES[0]).is_kept


def test_an_invalid_case_is_reported_and_leaves_nothing(worker):
    memory = fsspec.filesystem("memory")
    memory.pipe("/cases/bad.npz", b"no archive")
    assert "must be a .npz archive" in worker().run("bad.npz").error
    assert not memory.exists("/masks/bad.npz")


@pytest.mark.parametrize("keeps_earlier", [False, True])
def test_a_case_that_fails_leaves_no_label_map_of_before(worker, keeps_earlier):
    memory = fsspec.filesystem("memory")
    assert worker().run(NAMES[0]).error is None
    before = memory.cat(f"/masks/{NAMES[0]}")
    memory.pipe(f"/cases/{NAMES[0]}", b"PK")
    assert worker(keeps_earlier=keeps_earlier).run(NAMES[0]).error is not None
    assert not memory.exists(f"/masks/{NAMES[0]}")
    memory.pipe(f"/masks/{NAMES[0]}", before.replace(b"segs", b"sags"))
    worker(keeps_earlier=keeps_earlier).run(NAMES[0])
    assert memory.exists(f"/masks/{NAMES[0]}")  # that is none, and somebody else's


def test_what_is_no_label_map_is_replaced_only_if_that_is_asked_for(worker):
    memory = fsspec.filesystem("memory")
    memory.pipe(f"/masks/{NAMES[0]}", b"notes")
    error = worker().run(NAMES[0]).error
    assert "must be a label map of an earlier run to be replaced, and is something else" in error
    assert memory.cat(f"/masks/{NAMES[0]}") == b"notes"
    content = io.BytesIO()
    np.savez_compressed(content, segs=np.ones((4, 4), np.uint8))  # an expert's
    memory.pipe(f"/masks/{NAMES[0]}", content.getvalue())
    assert "must be a label map of an earlier run" in worker().run(NAMES[0]).error
    assert memory.cat(f"/masks/{NAMES[0]}") == content.getvalue()
    assert worker(overwrites=True).run(NAMES[0]).error is None
    assert memory.cat(f"/masks/{NAMES[0]}") != b"notes"


@pytest.mark.parametrize("length", [0, 50, -1], ids=["empty", "beginning", "all-but-the-end"])
def test_what_is_left_of_a_label_map_is_one_here_and_there(worker, tmp_path, length):
    memory, path = fsspec.filesystem("memory"), tmp_path / NAMES[0]
    assert worker().run(NAMES[0]).error is None
    part = memory.cat(f"/masks/{NAMES[0]}")[:length]
    path.write_bytes(part)
    memory.pipe(f"/masks/{NAMES[0]}", part)
    assert is_own_label_map(path)
    assert Storage("memory://masks").holds_label_map(NAMES[0])
    assert worker().run(NAMES[0]).error is None
    assert len(memory.cat(f"/masks/{NAMES[0]}")) > len(part)


def test_a_case_that_is_gone_is_reported(worker):
    assert "got nothing" in worker().run("gone.npz").error


def test_a_storage_that_fails_is_reported(worker, monkeypatch):
    started = worker()

    def fail(self, source) -> None:
        raise PermissionError("no space")

    monkeypatch.setattr(Storage, "put", fail)
    assert started.run(NAMES[0]).error == "PermissionError: no space"


def test_elsewhere_a_file_is_renamed_when_it_is_whole(tmp_path, monkeypatch):
    """As with servers that show a file while it is written."""
    monkeypatch.setattr("qmedsam.cluster.storage.WHOLE_AT_ONCE", set())
    seen: list[list[str]] = []
    memory = fsspec.filesystem("memory")
    memory.makedirs("/masks", exist_ok=True)
    rename = type(memory).mv

    def watched(self, source, target, **options) -> None:
        seen.append([Path(path).name for path in self.ls("/masks", detail=False)])
        rename(self, source, target, **options)

    monkeypatch.setattr(type(memory), "mv", watched)
    (tmp_path / "a.npz").write_bytes(b"label map")
    Storage("memory://masks").put(tmp_path / "a.npz")
    (before,) = seen
    assert len(before) == 1
    assert before[0].startswith(".qmedsam-")
    assert memory.cat("/masks/a.npz") == b"label map"
    assert len(memory.ls("/masks")) == 1
    memory.rm("/masks", recursive=True)


def test_a_shared_folder_is_used_as_it_is(tmp_path):
    with staged(Storage(str(EXAMPLES)), Storage(str(tmp_path)), NAMES[0]) as (case, output_dir):
        assert (case, output_dir) == (EXAMPLES / NAMES[0], tmp_path)


def test_label_maps_may_go_elsewhere_than_cases_are(worker, tmp_path):
    started = worker(inputs=str(EXAMPLES))
    assert started.run(NAMES[2]).error is None
    (tmp_path / "a.npz").write_bytes(fsspec.filesystem("memory").cat(f"/masks/{NAMES[2]}"))
    assert read_label_map(tmp_path / "a.npz").shape == np.load(EXAMPLES / NAMES[2])["imgs"].shape
