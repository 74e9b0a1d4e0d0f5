"""Whole runs of the command with the model that ships, stopped, killed, side by side, without room.

docs/robustness.md names these tests.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import EXAMPLES, HANGS_AFTER_S, ROOT, wait_for

pytestmark = pytest.mark.model

CASES = 6
# The command, which tells by a file that it has come to a point, and goes on after a signal.
HELD = """
import os, pathlib, signal, sys, time
from qmedsam import cli
from qmedsam.batch import run
from qmedsam.model.network import CompiledNetwork
def held(call, times):
    calls = []
    def called(*arguments, **options):
        found = call(*arguments, **options)
        calls.append(1)
        if len(calls) == times:
            handler = signal.getsignal(signal.SIGTERM)
            pathlib.Path(os.environ["HELD"]).touch()
            while signal.getsignal(signal.SIGTERM) is handler:
                time.sleep(0.005)
        return found
    return called
point = os.environ["HELD_AT"]
if point == "loading":
    CompiledNetwork.__init__ = held(CompiledNetwork.__init__, 1)
elif point == "between":  # of two cases, where the third begins
    run.reset_peak_memory = held(run.reset_peak_memory, 3)
elif point == "inside":  # of the fourth case, the volume, at its second slice
    CompiledNetwork.encode = held(CompiledNetwork.encode, 5)
sys.exit(cli.main())
"""


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> Path:
    """Several small images, and a volume after the third."""
    folder = tmp_path_factory.mktemp("inputs")
    generator = np.random.default_rng(0)
    for number in range(CASES):
        pixels = generator.integers(0, 256, (60, 80, 3), dtype=np.uint8)
        boxes = [[5, 5, 50, 40], [20, 10, 70, 55]]
        if number == 3:
            pixels = generator.integers(0, 256, (6, 60, 80), dtype=np.uint8)
            boxes = [[5, 5, 0, 50, 40, 5]]
        np.savez_compressed(folder / f"{number}.npz", imgs=pixels, boxes=boxes)
    return folder


@pytest.fixture(scope="module")
def undisturbed(inputs, model_cache, tmp_path_factory) -> dict[str, bytes]:
    """What a run leaves that nothing happens to."""
    outputs = tmp_path_factory.mktemp("undisturbed")
    command = [sys.executable, "-m", "qmedsam", "-i", str(inputs), "-o", str(outputs)]
    environment = {**os.environ, "QMEDSAM_CACHE_DIR": str(model_cache)}
    subprocess.run(command, cwd=ROOT, env=environment, check=True)
    found = contents(outputs)
    assert len(found) == CASES
    return found


@pytest.fixture
def start(inputs, tmp_path, model_cache):
    """Start the command in a process of its own."""
    started = []

    def begin(
        *options: str,
        outputs: Path = tmp_path / "out",
        program: Sequence[str] = ("-m", "qmedsam"),
        preexec_fn: Callable[[], None] | None = None,
        **variables: str,
    ) -> subprocess.Popen[str]:
        command = [sys.executable, *program, "-i", inputs, "-o", outputs, *options]
        environment = {**os.environ, "QMEDSAM_CACHE_DIR": str(model_cache), **variables}
        process = subprocess.Popen(
            [str(part) for part in command],
            cwd=ROOT,
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=preexec_fn,
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def hold(start, tmp_path):
    """Start the command, and return it when it is held at a point."""

    def begin(point: str, *options: str) -> subprocess.Popen[str]:
        told = tmp_path / "held"
        process = start(*options, program=["-c", HELD], HELD_AT=point, HELD=str(told))
        wait_for(told.exists, f"The point {point}", process)
        return process

    return begin


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    _, errors = process.communicate(timeout=HANGS_AFTER_S)
    return process.returncode, errors


@pytest.mark.parametrize(("point", "count"), [("between", 2), ("inside", 3)])
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_the_run_in_order(hold, tmp_path, number, status, point, count):
    report = tmp_path / "report.json"
    process = hold(point, "--report", str(report))
    process.send_signal(number)
    found, errors = finish(process)
    assert found == status
    done = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert done == [f"{case}.npz" for case in range(count)]  # nor a temporary file
    assert f"Stopped by {number.name} after {count} of {CASES} cases" in errors
    document = json.loads(report.read_text())
    assert document["stopped_by"] == number.name
    assert [case["name"] for case in document["cases"]] == done


def test_a_signal_while_the_model_is_loaded_ends_the_run(hold, tmp_path):
    process = hold("loading")
    process.send_signal(signal.SIGTERM)
    status, errors = finish(process)
    assert status == 143
    assert "Stopped by SIGTERM before the first case" in errors
    assert "Traceback" not in errors
    assert list((tmp_path / "out").iterdir()) == []


def test_what_was_killed_goes_on_where_it_was(hold, start, undisturbed, tmp_path):
    process = hold("inside")
    wait_for((tmp_path / "out" / "2.npz").exists, "2.npz", process)
    process.kill()
    finish(process)
    (tmp_path / "out" / ".qmedsam-0123456789abcdef.tmp").write_bytes(b"half")
    whole = (tmp_path / "out" / "1.npz").read_bytes()
    (tmp_path / "out" / "1.npz").write_bytes(whole[: len(whole) // 2])
    kept = (tmp_path / "out" / "0.npz").stat()
    report = tmp_path / "report.json"
    assert finish(start("--resume", "--report", str(report)))[0] == 0
    assert contents(tmp_path / "out") == undisturbed
    assert (tmp_path / "out" / "0.npz").stat().st_mtime_ns == kept.st_mtime_ns
    cases = json.loads(report.read_text())["cases"]
    assert [case["name"] for case in cases if case["is_kept"]] == ["0.npz", "2.npz"]


def test_two_processes_on_one_folder_both_finish(start, undisturbed, tmp_path):
    both = [start(), start()]
    assert [finish(process)[0] for process in both] == [0, 0]
    assert contents(tmp_path / "out") == undisturbed


def test_a_full_disk_fails_its_cases_and_leaves_nothing_half_written(start, tmp_path):
    """Files may not grow beyond 100 bytes, which is less than a label map."""
    import resource

    process = start(preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100)))
    status, errors = finish(process)
    assert status == 1
    assert f"{CASES} of {CASES} cases failed" in errors
    assert errors.count("Label map cannot be written: [Errno 27] File too large") == CASES
    assert "Traceback" not in errors
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk")
def test_a_disk_that_fills_up_keeps_what_was_written(start, tmp_path):
    outputs = tmp_path / "small"
    outputs.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8k", "tmpfs", str(outputs)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        status, errors = finish(start(outputs=outputs))
        assert status == 1
        assert "Label map cannot be written: [Errno 28] No space left on device" in errors
        written = sorted(path.name for path in outputs.iterdir())
        assert 0 < len(written) < CASES
        for name in written:
            with np.load(outputs / name) as label_map:
                assert label_map["segs"].any()
    finally:
        subprocess.run(["umount", str(outputs)], check=True)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_said_before_the_work(start, tmp_path):
    (tmp_path / "out").mkdir(mode=0o500)
    status, errors = finish(start())
    assert status == 2
    assert "cannot be written" in errors


def test_a_second_signal_ends_the_process_at_once():
    """As the first process of a container, which a signal without a handler does not reach."""
    code = (
        "import os, signal, time\n"
        "from qmedsam.system.signals import Stopped, stop_on_signals\n"
        "try:\n"
        "    with stop_on_signals():\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "        time.sleep(900)\n"
        "except Stopped: pass\n"
        "with stop_on_signals():\n"
        "    try: os.kill(os.getpid(), signal.SIGINT); time.sleep(900)\n"
        "    except Stopped: os.kill(os.getpid(), signal.SIGTERM); time.sleep(900)\n"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False, timeout=HANGS_AFTER_S)
    assert run.returncode == 143


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_the_imports_ends_the_process_in_a_line(number):
    code = (
        "import os, runpy, sys\n"
        "class Interrupting:\n"
        "    def find_spec(name, path=None, target=None):\n"
        f"        if name == 'qmedsam.cli': os.kill(os.getpid(), {int(number)})\n"
        "sys.meta_path.insert(0, Interrupting)\n"
        "runpy.run_module('qmedsam', run_name='__main__')\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT / "inference", capture_output=True, text=True
    )
    assert run.returncode == 128 + number
    assert run.stderr == f"ERROR: Stopped by {number.name}\n"


def test_a_signal_that_is_ignored_stays_ignored():
    """As under nohup."""
    code = (
        "import os, signal\n"
        "from qmedsam.system.signals import stop_on_signals\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "with stop_on_signals():\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN\n"
        "    assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL\n"
        "assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL\n"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_the_command_has_numpy_start_no_threads():
    """Where it cannot, its library of matrices raises SIGINT, which nobody has sent."""
    code = (
        "import os, sys, types\n"
        "def count():\n"
        "    import numpy\n"
        "    print(len(os.listdir('/proc/self/task')))\n"
        "    return 0\n"
        "sys.modules['qmedsam.cli'] = types.SimpleNamespace(main=count)\n"
        "from qmedsam.__main__ import run\n"
        "run()\n"
    )
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT / "inference")}
    found = subprocess.check_output([sys.executable, "-c", code], env=environment, text=True)
    assert found == "1\n"


def test_where_no_thread_can_be_started_that_is_said(tmp_path):
    code = (
        "import sys, threading\n"
        "from qmedsam import cli\n"
        'def refuse(self): raise RuntimeError("can\'t start new thread")\n'
        "threading.Thread.start = refuse\n"
        f"sys.exit(cli.main(['-i', {str(EXAMPLES)!r}, '-o', {str(tmp_path / 'out')!r}]))\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT / "inference", capture_output=True, text=True
    )
    assert run.returncode == 2
    assert "No thread can be started: the limit on processes is reached" in run.stderr
    assert "Traceback" not in run.stderr


def test_the_examples_need_no_network_no_home_and_no_working_folder(tmp_path):
    """As in a container of another user; without a network where that can be cut off."""
    cut = ["unshare", "--net"]
    can_cut = shutil.which("unshare") and not subprocess.run([*cut, "true"], check=False).returncode
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT / "inference"),
        "HOME": "/proc/none",
    }
    command = [sys.executable, "-m", "qmedsam", "-i", EXAMPLES, "-o", tmp_path / "out"]
    run = subprocess.run(
        [*(cut if can_cut else []), *(str(part) for part in command)],
        cwd="/",
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert len(list((tmp_path / "out").iterdir())) == len(list(EXAMPLES.iterdir()))


@pytest.mark.slow
def test_20_kills_at_random_moments_change_no_byte(tmp_path, model_cache):
    """Thirty cases are killed at a random moment and resumed, twenty times."""
    inputs = tmp_path / "in"
    inputs.mkdir()
    generator = np.random.default_rng(20)
    for number in range(30):
        pixels = generator.integers(0, 256, (300, 400, 3), dtype=np.uint8)
        np.savez_compressed(inputs / f"{number:02}.npz", imgs=pixels, boxes=[[9, 9, 200, 150]])
    environment = {**os.environ, "QMEDSAM_CACHE_DIR": str(model_cache)}

    def begin(outputs: Path, *options: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "qmedsam", "-i", inputs, "-o", outputs, *options]
        return subprocess.Popen([str(part) for part in command], cwd=ROOT, env=environment)

    assert begin(tmp_path / "warm").wait() == 0
    started = time.monotonic()
    assert begin(tmp_path / "whole").wait() == 0
    took_s = time.monotonic() - started
    undisturbed = contents(tmp_path / "whole")
    assert len(undisturbed) == 30
    done = []
    for turn in range(20):
        outputs = tmp_path / str(turn)
        process = begin(outputs)
        time.sleep(generator.uniform(0, took_s))
        process.kill()
        process.wait()
        done.append(len(list(outputs.glob("*.npz"))) if outputs.is_dir() else 0)
        assert begin(outputs, "--resume").wait() == 0
        assert contents(outputs) == undisturbed
    print(f"cases done when killed: {done}")
    assert len(set(done)) > 3, "the kills do not spread over the run"
