"""The command on real clusters of this machine: workers and machines are lost, nothing else is."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import numpy as np
import pytest
from ray.cluster_utils import Cluster

from qmedsam.batch.cases import list_cases, read_case
from tests.conftest import EXAMPLES, HANGS_AFTER_S, ROOT, wait_for

COUNT = 14


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Parts of the examples, and a broken case."""
    inputs = tmp_path_factory.mktemp("cluster") / "in"
    inputs.mkdir()
    brain = read_case(EXAMPLES / "3DBox_MR_brain.npz").pixels
    for number in range(COUNT):
        depth = 1 + number % 2
        box = [60, 90, 0, 120, 150, depth - 1]
        pixels = brain[number % 20 : number % 20 + depth]
        np.savez_compressed(inputs / f"{number:02}.npz", imgs=pixels, boxes=np.array([box]))
    (inputs / "broken.npz").write_bytes(b"no archive")
    return inputs


@pytest.fixture(scope="module")
def environment(model_cache) -> dict[str, str]:
    return {**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "QMEDSAM_CACHE_DIR": str(model_cache)}


@pytest.fixture(scope="module")
def cluster(environment):
    """A cluster with one core, that commands join."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        started = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
        yield started
        started.shutdown()


@pytest.fixture(scope="module")
def expected(folder, environment, tmp_path_factory) -> dict[str, bytes]:
    """What the folder command writes."""
    output = tmp_path_factory.mktemp("folder")
    command = [sys.executable, "-m", "qmedsam", "-i", str(folder), "-o", str(output)]
    assert subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode == 1
    return contents(output)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def start(folder, environment, tmp_path):
    """Start the command on two workers at most; the variable `mark` is in their environment."""

    def begin(*options: str, mark: str = "") -> subprocess.Popen:
        words = ["cluster", "-i", str(folder), "-o", str(tmp_path / "out"), "--workers", "2"]
        return subprocess.Popen(
            [sys.executable, "-m", "qmedsam", *words, *options],
            cwd=ROOT,
            env={**environment, "QMEDSAM_TEST": mark},
            stderr=subprocess.PIPE,
            text=True,
        )

    return begin


def wait_for_label_maps(output: Path, count: int) -> None:
    wait_for(lambda: output.is_dir() and len(list_cases(output)) >= count, f"Case {count}")


def workers_of(mark: str) -> list[int]:
    """Return the processes of workers that a command with this mark in its environment started."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if (folder / "cmdline").read_bytes().startswith(b"ray::Worker") and (
                mark.encode() in (folder / "environ").read_bytes()
            ):
                found.append(int(folder.name))
        except OSError:  # it has ended
            continue
    return found


@pytest.mark.model
def test_a_lost_worker_loses_nothing(start, expected, tmp_path):
    """On a cluster of this machine, for this run."""
    report, mark = tmp_path / "report" / "report.json", uuid.uuid4().hex
    with start("--report", str(report), mark=mark) as process:
        wait_for_label_maps(tmp_path / "out", 1)
        os.kill(workers_of(mark)[0], signal.SIGKILL)
        _, messages = process.communicate(timeout=HANGS_AFTER_S)
    assert process.returncode == 1, messages
    assert "ERROR: broken.npz: File must be a .npz archive" in messages
    assert contents(tmp_path / "out") == expected
    document = json.loads(report.read_text())
    assert (document["cases_done"], document["cases_failed"]) == (COUNT, 1)
    assert document["lost_workers"] == 1
    assert len(document["workers"]) in (2, 3)  # the third may be ready too late
    assert sum(worker["cases"] for worker in document["workers"]) == COUNT + 1


@pytest.mark.model
def test_a_lost_machine_loses_nothing(start, cluster, expected, tmp_path):
    other = cluster.add_node(num_cpus=1)
    with start("--address", cluster.address) as process:
        wait_for_label_maps(tmp_path / "out", 1)
        cluster.remove_node(other, allow_graceful=False)
        _, messages = process.communicate(timeout=HANGS_AFTER_S)
    assert process.returncode == 1, messages
    assert "2 workers, 1 of them lost, 1 cases failed" in messages
    assert contents(tmp_path / "out") == expected


@pytest.mark.model
def test_a_run_is_stopped_and_goes_on(start, cluster, expected, tmp_path):
    with start("--address", cluster.address) as process:
        wait_for_label_maps(tmp_path / "out", 1)
        process.terminate()
        _, messages = process.communicate(timeout=HANGS_AFTER_S)
    assert process.returncode == 128 + signal.SIGTERM
    assert "Stopped by SIGTERM after" in messages
    done = contents(tmp_path / "out")
    assert 1 <= len(done) < COUNT
    assert done.items() <= expected.items()
    with start("--address", cluster.address, "--resume") as process:
        process.communicate(timeout=HANGS_AFTER_S)
    assert process.returncode == 1  # for the broken case
    assert contents(tmp_path / "out") == expected


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-i", "missing", "-o", "out"], "missing cannot be read"),
        (["-i", "in", "-o", "in"], "is the input folder"),
        (["-i", "in", "-o", "in/b.npz/out"], "would be taken for a case"),
        (["-i", "in", "-o", "out", "--report", "in/r.json"], "kept for cases or label maps alone"),
        (["-i", "in", "-o", "out", "--report", "in/c.npz/r.json"], "would be taken for a case"),
        (["-i", "empty", "-o", "out"], "has no .npz files"),
        (["-i", "nosuch://in", "-o", "out"], "nosuch://in cannot be used"),
        (
            ["-i", "in", "-o", "out", "--address", "127.0.0.1:1"],
            "No cluster answers at 127.0.0.1:1",
        ),
        (["-i", "in", "-o", "out", "--address", "ray://head"], "No cluster answers at ray://head"),
    ],
)
def test_what_cannot_run_is_said_in_a_sentence(tmp_path, words, message):
    for name in ("in", "empty"):
        (tmp_path / name).mkdir()
    (tmp_path / "in" / "a.npz").write_bytes(b"no archive")
    result = subprocess.run(
        [sys.executable, "-m", "qmedsam", "cluster", *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT / "inference")},
        capture_output=True,
        text=True,
        timeout=HANGS_AFTER_S,
        check=False,
    )
    assert result.returncode == 2, result.stderr
    assert message in result.stderr
    assert "Traceback" not in result.stderr
