"""The Slurm script, run as Slurm runs it: a copy elsewhere, with the variables of a task."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from qmedsam.batch.shards import Shard
from qmedsam.cli import build_parser
from tests.conftest import HANGS_AFTER_S, ROOT, wait_for
from tests.deploy.conftest import NAMES, done_cases, read_reports
from tests.docs.pages import blocks, find_commands

SCRIPT = ROOT / "deploy" / "slurm-array.sh"
# Shows its words, in place of Apptainer.
APPTAINER = '#!/bin/sh\nprintf "%s\\0" "$@"\n'


@pytest.fixture
def start(cases, environment, tmp_path):
    """Start a task of an array in a folder with the cases, from a copy as in Slurm's spool."""
    script = tmp_path / "slurm_script"
    shutil.copy(SCRIPT, script)
    (tmp_path / "cases").symlink_to(cases)
    started = []

    def begin(
        *words: str, task: int = 0, first: int = 0, last: int = 0, **more: str
    ) -> subprocess.Popen[str]:
        variables = {
            "SLURM_ARRAY_TASK_ID": str(task),
            "SLURM_ARRAY_TASK_MIN": str(first),
            "SLURM_ARRAY_TASK_MAX": str(last),
            "SLURM_ARRAY_TASK_COUNT": str(last - first + 1),
            "SLURM_CPUS_PER_TASK": "1",
        }
        process = subprocess.Popen(
            ["/bin/bash", str(script), *words],
            cwd=tmp_path,
            env={**environment, **variables, **more},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


FOLDERS = ("cases", "masks", "reports")


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    words, errors = process.communicate(timeout=HANGS_AFTER_S)
    return process.returncode, words, errors


def test_it_is_a_script_of_bash():
    subprocess.run(["bash", "-n", SCRIPT], check=True)


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_shellcheck_finds_nothing():
    found = subprocess.run(["shellcheck", SCRIPT], capture_output=True, text=True)
    assert found.returncode == 0, found.stdout


def test_slurm_reads_all_of_its_options():
    """Those before the first command, that is; and they limit the task and let it go on."""
    head = re.match(r"(?:#.*\n)*", SCRIPT.read_text())[0]
    options = dict(re.findall(r"^#SBATCH --([\w-]+)(?:=(\S+))?$", head, re.MULTILINE))
    assert len(options) == SCRIPT.read_text().count("#SBATCH")
    assert {"array", "cpus-per-task", "mem", "time", "requeue"} <= options.keys()
    assert options["signal"] == "B:TERM@60"  # to the shell, which has become the run
    assert options["open-mode"] == "append"


@pytest.mark.model
def test_the_tasks_of_an_array_do_all_cases(start, tmp_path):
    tasks = [start(*FOLDERS, task=task, first=3, last=6) for task in range(3, 7)]
    assert [finish(task)[::2] for task in tasks] == [(0, "")] * 4
    assert sorted(path.name for path in (tmp_path / "masks").iterdir()) == NAMES
    reports = read_reports(tmp_path / "reports")
    assert reports.keys() == {f"{index}-of-4.json" for index in range(4)}
    assert done_cases(reports) == NAMES
    assert {report["model"]["threads"] for report in reports.values()} == {1}


@pytest.mark.model
def test_a_task_that_is_stopped_goes_on_and_its_reports_are_collected(start, environment, tmp_path):
    process = start(*FOLDERS)
    wait_for((tmp_path / "masks" / NAMES[0]).exists, NAMES[0], process)
    process.send_signal(signal.SIGTERM)  # as --signal has it, and scancel, and a requeue
    status, _, errors = finish(process)
    assert status == 143, errors
    done = done_cases(reports := read_reports(tmp_path / "reports"))
    assert reports["0-of-1.json"]["stopped_by"] == "SIGTERM"
    assert 0 < len(done) < len(NAMES)
    said = f"{len(done)} cases in 1 reports, 1 of them of stopped runs"
    assert collect(environment, tmp_path) == said

    status, _, errors = finish(start(*FOLDERS, SLURM_RESTART_COUNT="1"))
    assert status == 0, errors
    assert sorted(path.name for path in (tmp_path / "masks").iterdir()) == NAMES
    report = read_reports(tmp_path / "reports")["0-of-1.json"]
    assert report["stopped_by"] is None
    assert report["cases_kept"] == len(done)
    said = "5 cases in 1 reports, 0 of them of stopped runs"
    assert collect(environment, tmp_path) == said


def collect(environment: dict[str, str], folder: Path) -> str:
    """Run the program of the page, which collects reports, and return what it says."""
    (code,) = blocks(ROOT / "deploy" / "README.md", "python")
    run = subprocess.run(
        ["python", "-c", code], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


def test_an_image_gets_the_folders_and_the_shard(start, environment, tmp_path):
    (tmp_path / "apptainer").write_text(APPTAINER)
    (tmp_path / "apptainer").chmod(0o755)
    own = {"PATH": f"{tmp_path}:{environment['PATH']}", "QMEDSAM_IMAGE": "qmedsam.sif"}
    status, output, errors = finish(
        start(*FOLDERS, "--volume-prompt", "hybrid", task=1, last=3, **own)
    )
    assert status == 0, errors
    words = output.split("\0")[:-1]
    image = words.index("qmedsam.sif")
    real = (tmp_path / "cases").resolve()
    assert words[:image] == [
        *("exec", "--containall"),
        *("--bind", f"{real}:/workspace/inputs:ro"),
        *("--bind", f"{tmp_path}/masks:/workspace/outputs"),
        *("--bind", f"{tmp_path}/reports:/mnt"),
    ]
    shell, script = words[image + 1 : image + 3], words[image + 3]
    assert shell == ["sh", "-c"]
    assert script == 'cd /workspace && exec sh predict.sh "$@"'
    arguments = build_parser().parse_args(["-i", "in", "-o", "out", *words[image + 5 :]])
    assert arguments.shard == Shard(1, 4)
    assert arguments.report == Path("/mnt/1-of-4.json")
    assert arguments.volume_prompt == "hybrid"
    assert arguments.resume


def test_what_the_page_submits_is_understood():
    submitted = [each.words for each in find_commands() if each.words[0] == "sbatch"]
    assert submitted
    for words in submitted:
        inputs, outputs, reports, *options = words[words.index("deploy/slurm-array.sh") + 1 :]
        build_parser().parse_args(["-i", inputs, "-o", outputs, "--report", reports, *options])


@pytest.mark.parametrize(
    ("words", "variables", "message"),
    [
        ([], {}, "Expected the folders CASES MASKS REPORTS, got 0 of them"),
        (["cases", "masks"], {}, "Expected the folders CASES MASKS REPORTS, got 2 of them"),
        (["none", "masks", "reports"], {}, "Folder of the cases none does not exist"),
        (
            ["slurm_script", "masks", "reports"],
            {},
            "Cases slurm_script must be a folder, got a file",
        ),
        (FOLDERS, {"SLURM_ARRAY_TASK_ID": ""}, "It runs as an array alone: sbatch --array=0-15"),
        (FOLDERS, {"SLURM_ARRAY_TASK_MAX": "9"}, "The array must be without gaps"),
        (FOLDERS, {"PATH": "/usr/bin:/bin"}, "Command qmedsam is not in PATH"),
    ],
    ids=["no-folders", "two-folders", "no-cases", "a-file", "no-array", "gaps", "no-command"],
)
def test_what_is_missing_is_said(start, tmp_path, words, variables, message):
    status, _, errors = finish(start(*words, last=3, **variables))
    assert status == 2
    assert f"slurm-array.sh: {message}" in errors
    assert not list(tmp_path.glob("masks/*"))
