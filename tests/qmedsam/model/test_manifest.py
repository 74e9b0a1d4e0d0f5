"""Manifests that are none."""

from __future__ import annotations

import json
import os

import pytest

from qmedsam.core.contract import CONTRACT_VERSION, MANIFEST_FILE
from qmedsam.errors import ModelError
from qmedsam.model.manifest import read_manifest

FILES = {f"{part}.{kind}": "ab12" for part in ("encoder", "decoder") for kind in ("xml", "bin")}
GOOD = {
    "contract_version": CONTRACT_VERSION,
    "name": "mine",
    "precision": "f32",
    "image_size": 256,
    "sha256": FILES,
}


def write(folder, text):
    for name in FILES:
        (folder / name).write_bytes(b"")
    (folder / MANIFEST_FILE).write_text(text)
    return folder


def test_a_manifest_is_what_it_says(tmp_path):
    found = read_manifest(write(tmp_path, json.dumps(GOOD)))
    assert (found.name, found.precision, found.image_size) == ("mine", "f32", 256)
    assert found.sha256 == FILES


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_size": float("inf")}, "image_size must be int, got inf"),
        ({"image_size": 0}, r"image_size of \(256, 1024\), got 0"),
        ({"image_size": 512}, r"image_size of \(256, 1024\), got 512"),
        ({"image_size": True}, "image_size must be int, got True"),
        ({"name": 3}, "name must be str, got 3"),
        ({"precision": ["f32"]}, "precision must be str"),
        ({"sha256": [["encoder.xml", "ab12"]]}, "sha256 must be dict"),
        ({"sha256": {}}, "must have the SHA-256 of decoder.bin"),
    ],
    ids=["infinite", "zero", "unknown", "bool", "name", "precision", "list", "nothing"],
)
def test_a_value_that_cannot_be_is_named(tmp_path, changes, message):
    with pytest.raises(ModelError, match=message):
        read_manifest(write(tmp_path, json.dumps(GOOD | changes)))


def test_files_that_a_model_lacks_lie_in_the_folder_that_it_shares(tmp_path):
    mine, shared = tmp_path / "mine", tmp_path / "shared"
    mine.mkdir()
    shared.mkdir()
    write(mine, json.dumps(GOOD | {"shared": "shared"}))
    for name in ("decoder.xml", "decoder.bin"):
        (mine / name).rename(shared / name)
    found = read_manifest(mine)
    assert found.path("encoder.xml") == mine / "encoder.xml"
    assert found.path("decoder.bin") == shared / "decoder.bin"
    (shared / "decoder.bin").unlink()
    with pytest.raises(ModelError, match=r"lacks decoder\.bin"):
        read_manifest(mine)
    for name in ("../shared", "..", "/tmp"):
        write(mine, json.dumps(GOOD | {"shared": name}))
        with pytest.raises(ModelError, match="must name a folder beside it as shared"):
            read_manifest(mine)


@pytest.mark.parametrize(
    "changes",
    [{"sha256": FILES | {"x" * 300: "ab12"}}, {"shared": "x" * 300}],
    ids=["file", "shared"],
)
def test_a_name_that_no_file_can_have_is_a_model_error(tmp_path, changes):
    folder = write(tmp_path, json.dumps(GOOD | changes))
    (folder / "decoder.bin").unlink()
    with pytest.raises(
        ModelError, match=r"manifest\.json must name files and folders, got: .*long"
    ):
        read_manifest(folder)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "[" * 100_000], ids=["empty", "list", "dict", "deep"]
)
def test_what_is_no_manifest_is_named(tmp_path, text):
    with pytest.raises(ModelError, match=r"manifest\.json is not a manifest"):
        read_manifest(write(tmp_path, text))


def test_a_pipe_is_not_waited_for(tmp_path):
    write(tmp_path, "")
    (tmp_path / MANIFEST_FILE).unlink()
    os.mkfifo(tmp_path / MANIFEST_FILE)
    with pytest.raises(ModelError, match="has no readable"):
        read_manifest(tmp_path)
