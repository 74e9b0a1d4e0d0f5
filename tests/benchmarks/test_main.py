"""Measurements by name, and what they need to be imported."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import MEASUREMENTS, REPORTS, load, main
from tests.conftest import EXAMPLES, ROOT

# What the environment of the service does not have; a module that is None cannot be imported.
ABSENT = ("torch", "scipy", "onnx", "onnxruntime", "nncf", "matplotlib", "ray", "tabulate")
RUN_WITHOUT = (
    f"import runpy, sys; sys.modules.update(dict.fromkeys({ABSENT!r})); "
    "runpy.run_module('benchmarks', run_name='__main__', alter_sys=True)"
)
RUNTIME_ONLY = ("time-cases", "start", "curves", "layers")


@pytest.mark.parametrize("name", [*MEASUREMENTS, *REPORTS])
def test_a_name_is_that_of_its_command_and_record(name):
    command = load(name)
    assert command.name == name
    assert command.build_parser().prog == f"python -m benchmarks {name}"
    if command.record:
        assert command.record.stem == name


def test_all_names_are_listed(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    lines = capsys.readouterr().out.splitlines()
    for name, text in {**MEASUREMENTS, **REPORTS}.items():
        assert any(line.split() == [name, *text.split()] for line in lines)


def test_a_name_that_is_none_is_refused(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["speed"])
    assert "time-cases" in capsys.readouterr().err


def without_training(*words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", RUN_WITHOUT, *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize("name", RUNTIME_ONLY)
def test_what_measures_the_service_alone_needs_what_the_service_needs(name):
    run = without_training(name, "--help")
    assert run.returncode == 0, run.stderr
    assert f"python -m benchmarks {name}" in run.stdout


def test_the_baseline_is_among_what_is_absent_there():
    run = without_training("accuracy", "--help")
    assert run.returncode != 0
    assert "None in sys.modules" in run.stderr


@pytest.mark.model
def test_the_timing_loop_runs_without_what_training_needs(tmp_path):
    name = "2DBox_Fundus_retina.npz"
    shutil.copy(EXAMPLES / name, tmp_path)
    run = without_training("time-cases", "--cases", tmp_path, "--json", tmp_path / "r.json")
    assert run.returncode == 0, run.stderr
    record = json.loads((tmp_path / "r.json").read_text())
    assert record["how"].startswith("sh predict.sh")
    (case,) = record["cases"]
    assert (case["name"], case["is_written"], case["status"]) == (name, True, 0)
    assert case["seconds"] > 0


def test_a_library_that_is_missing_is_named():
    code = (
        "import sys; sys.modules['surface_distance'] = None; "
        "from benchmarks.__main__ import main; sys.exit(main(['accuracy', '--help']))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.returncode == 2
    said = "accuracy needs more libraries: pip install -r benchmarks/requirements.txt"
    assert said in run.stderr
    assert "surface_distance" in run.stderr
    assert "Traceback" not in run.stderr
