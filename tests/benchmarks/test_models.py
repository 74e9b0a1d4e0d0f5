"""Exported models that are compared."""

from __future__ import annotations

import json

import pytest

from benchmarks.models import COMMAND, training_of


def test_what_a_model_was_trained_by_is_read_from_its_manifest(tmp_path):
    stages = [{"recipe": {"name": "first", "seed": 0}, "steps": 3, "images": 6, "scores": None}]
    (tmp_path / "manifest.json").write_text(json.dumps({"training": stages}))
    assert training_of(tmp_path) == [{"stage": "first", "steps": 3, "images": 6}]
    (tmp_path / "manifest.json").write_text("{}")
    assert training_of(tmp_path) == []


@pytest.mark.parametrize("words", ["", "--model a", "--model a=nowhere", "--model =."])
def test_models_have_a_name_and_a_folder(words):
    with pytest.raises(SystemExit, match="2"):
        COMMAND.build_parser().parse_args(words.split())


def test_several_models_are_told_apart_by_name(tmp_path):
    words = ["--model", f"a, trained={tmp_path}", "--model", "b=."]
    assert [name for name, _ in COMMAND.build_parser().parse_args(words).model] == [
        "a, trained",
        "b",
    ]
