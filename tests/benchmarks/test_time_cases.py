"""The organisers' loop over cases."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from benchmarks import time_cases
from benchmarks.harness.process import Finished
from tests.conftest import EXAMPLES


def test_the_container_is_run_as_the_challenge_runs_it(tmp_path):
    command = time_cases.container_command(
        "docker", "team", inputs=tmp_path / "i", outputs=tmp_path / "o"
    )
    assert " ".join(command) == (
        "docker container run -m 8G --name team --rm "
        f"-v {tmp_path}/i:/workspace/inputs/ -v {tmp_path}/o:/workspace/outputs/ "
        "team:latest /bin/bash -c sh predict.sh"
    )


def test_each_case_is_alone_in_its_folders(tmp_path):
    seen = []

    def run(inputs: Path, outputs: Path) -> Finished:
        seen.append([path.name for path in inputs.iterdir()])
        assert not list(outputs.iterdir())
        (outputs / seen[-1][0]).touch()
        return Finished(0, 1.5, 1, "")

    for path in sorted(EXAMPLES.iterdir()):
        assert time_cases.time_case(path, run) == time_cases.TimedCase(path.name, 1.5, True, 0)
    assert [len(names) for names in seen] == [1, 1, 1]


def test_a_lost_case_is_reported(tmp_path, monkeypatch, capsys):
    np.savez(tmp_path / "a.npz", imgs=np.zeros((4, 4), np.uint8))
    run = lambda inputs, outputs: Finished(1, 0.5, 1, "no boxes")  # noqa: E731
    monkeypatch.setattr(time_cases, "choose_run", lambda image: ("here", run))
    assert (
        time_cases.COMMAND.main(["--cases", str(tmp_path), "--json", str(tmp_path / "r.json")]) == 1
    )
    assert "a.npz  0.50 s  LOST" in capsys.readouterr().out
    record = json.loads((tmp_path / "r.json").read_text())
    assert record["cases"][0]["is_written"] is False


def test_the_first_engine_that_answers_is_taken(monkeypatch, tmp_path):
    ran = []

    def fake_run(command):
        ran.append(command)
        return Finished(0 if command[0] == "podman" else 1, 1.0, 1, "")

    monkeypatch.setattr(time_cases.shutil, "which", lambda name: name)
    monkeypatch.setattr(time_cases, "run_fresh", fake_run)
    how, run = time_cases.choose_run("team")
    assert how == "podman container run -m 8G"
    run(tmp_path, tmp_path)
    assert ran[:2] == [["docker", "info"], ["podman", "info"]]
    assert ran[2][:3] == ["podman", "container", "run"]
