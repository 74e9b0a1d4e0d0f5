"""What the options are where nobody gives them."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from qmedsam.commands import cluster, run, segment, serve
from qmedsam.config import Settings
from qmedsam.options import default_cache_dir, read_settings


def test_the_cache_folder_comes_from_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("QMEDSAM_CACHE_DIR", str(tmp_path))
    assert default_cache_dir() == tmp_path
    monkeypatch.delenv("QMEDSAM_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert default_cache_dir() == Path("/somewhere/qmedsam")
    monkeypatch.setenv("QMEDSAM_CACHE_DIR", "")
    assert default_cache_dir() is None


def test_a_user_without_a_home_has_no_cache_folder(monkeypatch):
    def homeless(path):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("QMEDSAM_CACHE_DIR", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "expanduser", homeless)
    assert default_cache_dir() is None


@pytest.mark.parametrize(
    ("command", "words"),
    [
        pytest.param(run, ["-i", "in", "-o", "out"], id="run"),
        pytest.param(segment, ["a.png", "-o", "b.png"], id="segment"),
        pytest.param(serve, [], id="serve"),
        pytest.param(cluster, ["-i", "in", "-o", "out"], id="cluster"),
    ],
)
def test_every_command_that_runs_the_model_has_its_settings(command, words):
    parser = argparse.ArgumentParser()
    command.add_options(parser)
    assert read_settings(parser.parse_args([*words, "--cache-dir", "c"])) == Settings(
        cache_dir=Path("c")
    )
    chosen = ["--regions", "whole", "--volume-prompt", "hybrid", "--threads", "3"]
    settings = read_settings(parser.parse_args([*words, *chosen]))
    assert (settings.regions, settings.volume_prompt, settings.threads) == ("whole", "hybrid", 3)
