"""Fresh processes measured from outside, and the loop over cases."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import cases, time_cases
from benchmarks.process import Finished, run_fresh
from benchmarks.table8 import SPECS
from tests.conftest import EXAMPLES


def test_time_memory_and_status_are_those_of_the_process():
    held = np.ones(50 << 20)  # 400 MB of this process are not the child's
    code = "import sys, time; a = bytearray(200 << 20); time.sleep(0.3); sys.exit('broken')"
    finished = run_fresh([sys.executable, "-c", code])
    del held
    assert finished.status == 1
    assert finished.output == "broken\n"
    assert 0.3 < finished.wall_s < 30
    assert 200 << 20 < finished.peak_bytes < 300 << 20


def test_the_limit_makes_large_allocations_fail():
    finished = run_fresh([sys.executable, "-c", "bytearray(300 << 20)"], limit_bytes=200 << 20)
    assert finished.status == 1
    assert "MemoryError" in finished.output


def test_the_container_is_run_as_the_challenge_runs_it(tmp_path):
    command = time_cases.container_command("docker", "team", tmp_path / "i", tmp_path / "o")
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
    assert time_cases.main(["--cases", str(tmp_path), "--json", str(tmp_path / "r.json")]) == 1
    assert "a.npz  0.50 s  LOST" in capsys.readouterr().out
    record = json.loads((tmp_path / "r.json").read_text())
    assert record["cases"][0]["is_written"] is False


@pytest.mark.model
def test_a_case_is_timed_by_the_script(tmp_path):
    how, run = time_cases.choose_run(None)
    assert how.startswith("sh predict.sh")
    timed = time_cases.time_case(EXAMPLES / "2DBox_Fundus_retina.npz", run)
    assert timed.is_written
    assert timed.seconds > 0.1


def test_a_measured_case_is_not_measured_again(tmp_path):
    seconds = iter([3.0, 1.0, 2.0])

    def run():
        return {"s": next(seconds), "peak_mb": 10.0}

    first = cases.measure(tmp_path / "m.json", 3, run)
    assert (first["s"], first["min_s"], first["max_s"], first["runs"]) == (2, 1, 3, 3)
    assert cases.measure(tmp_path / "m.json", 3, run) == first


@pytest.mark.slow
@pytest.mark.model
def test_the_baseline_is_scaled_to_all_slices(tmp_path):
    spec = next(spec for spec in SPECS if spec.name == "3DBox_PET_0001")
    (tmp_path / "in").mkdir()
    cases.build_case(spec, tmp_path, tmp_path / "in" / "case.npz")
    result = cases.run_baseline(tmp_path, 2)
    assert (result["visits"], result["walked"]) == (40, 2)
    assert result["s"] > 10
