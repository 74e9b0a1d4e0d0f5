"""Commands that cannot run say so in a line, and parts keep off the record of the whole."""

from __future__ import annotations

import argparse

import pytest

from benchmarks.__main__ import main
from benchmarks.harness.command import Command


def test_the_status_is_that_of_the_body():
    assert Command("name", "about", lambda arguments: 1).main([]) == 1


def test_further_failures_are_said_in_a_line_where_they_are_expected(caplog):
    def fail(arguments: argparse.Namespace) -> int:
        raise KeyError("gone")

    assert Command("name", "about", fail, expected=(KeyError,)).main([]) == 2
    assert "gone" in caplog.text
    with pytest.raises(KeyError):
        Command("name", "about", fail).main([])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("accuracy --data nowhere --json {tmp}/r", "nowhere must hold"),
        ("volume-prompt --data nowhere --json {tmp}/r", "nowhere must hold"),
        ("nncf-int8 --model-dir nowhere", "nowhere"),
        ("nncf-int8 --calibration nowhere", "nowhere"),
        ("time-cases --cases nowhere", "nowhere"),
        ("time-cases --cases {tmp}", "must hold .npz files"),
        ("cluster --data nowhere --json {tmp}/r", "nowhere must have 200 cases, got 0"),
        ("results --records {tmp} --page {tmp}/p.md", "must hold .json records"),
    ],
)
def test_a_missing_folder_is_a_sentence_and_status_2(words, message, tmp_path, caplog):
    assert main(words.format(tmp=tmp_path).split()) == 2
    assert message in caplog.text
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "words",
    [
        "cases --only 2DBox_US_0525",
        "cluster --cases 10",
        "curves --precision f32",
        "engines --network medsam",
        "accuracy --precision f32",
        "layers --model-dir elsewhere",
        "layers --precision f32",
        "models --model a=models --data elsewhere",
        "volume-prompt --data elsewhere",
    ],
)
def test_a_part_of_a_run_does_not_overwrite_the_record_of_the_whole(words, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(words.split())
    assert "needs a --json of its own" in capsys.readouterr().err
