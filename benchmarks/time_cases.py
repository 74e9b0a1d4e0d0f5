"""The organisers' timing loop: one container a case, the whole wall time counted.

    python -m benchmarks time-cases --image qmedsam --cases ../shared/data/val/US

With an engine (docker or podman) each case runs by the challenge's own command with `-m 8G`.
Without one it runs by `sh predict.sh` in a fresh process that may map 8 GiB.

Exit status: 0 every case has a label map, 1 some has none, 2 nothing could run.
"""

from __future__ import annotations

import argparse
import logging
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness.command import Command
from benchmarks.harness.options import add_path
from benchmarks.harness.process import Finished, run_fresh, run_predict_script
from benchmarks.harness.record import write_record
from qmedsam.batch.cases import list_cases
from qmedsam.batch.progress import ProgressBar

logger = logging.getLogger(__name__)

DEFAULT_CASES = Path("examples/cases")
ENGINES = ("docker", "podman")
MEMORY = "8G"
MEMORY_BYTES = 8 << 30

Run = Callable[[Path, Path], Finished]


@dataclass(frozen=True)
class TimedCase:
    """One case of the loop.

    Attributes:
        is_written: whether a label map came out; the harness looks at nothing else.
    """

    name: str
    seconds: float
    is_written: bool
    status: int


def container_command(engine: str, image: str, *, inputs: Path, outputs: Path) -> list[str]:
    """Return the command of the challenge for one container."""
    mounts = [f"{inputs.resolve()}:/workspace/inputs/", f"{outputs.resolve()}:/workspace/outputs/"]
    return [
        *(engine, "container", "run", "-m", MEMORY, "--name", image, "--rm"),
        *("-v", mounts[0], "-v", mounts[1]),
        *(f"{image}:latest", "/bin/bash", "-c", "sh predict.sh"),
    ]


def choose_run(image: str | None) -> tuple[str, Run]:
    """Return how cases are run, in words and as a function of inputs and outputs."""
    if image:
        installed = [name for name in ENGINES if shutil.which(name)]
        for engine in installed:
            if run_fresh([engine, "info"]).status == 0:
                how = f"{engine} container run -m {MEMORY}"
                return how, lambda inputs, outputs, engine=engine: run_fresh(
                    container_command(engine, image, inputs=inputs, outputs=outputs)
                )
        logger.warning("No container engine answers, so cases run in fresh processes")
    how = f"sh predict.sh in a fresh process, {MEMORY} of private memory"
    return how, lambda inputs, outputs: run_predict_script(
        inputs, outputs, limit_bytes=MEMORY_BYTES
    )


def time_case(case: Path, run_one: Run) -> TimedCase:
    """Run one case alone in its folders."""
    with tempfile.TemporaryDirectory() as scratch:
        inputs, outputs = Path(scratch) / "inputs", Path(scratch) / "outputs"
        for folder in (inputs, outputs):
            folder.mkdir()
            folder.chmod(0o777)  # the image's user is not this one
        Path(scratch).chmod(0o755)
        shutil.copy(case, inputs)
        finished = run_one(inputs, outputs)
        is_written = (outputs / case.name).is_file()
        if not is_written or finished.status:
            logger.error("%s: status %d: %s", case.name, finished.status, finished.output.strip())
        return TimedCase(case.name, finished.wall_s, is_written, finished.status)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the image and the cases."""
    parser.add_argument(
        "--image", help="name of the image, without its tag (default: no container)"
    )
    add_path(parser, "--cases", DEFAULT_CASES, "folder")
    parser.add_argument("--json", type=Path, help="also write a record of the run here")


def run(arguments: argparse.Namespace) -> int:
    """Time every case of a folder, print a line each and the mean, as the challenge reports it."""
    paths = list_cases(arguments.cases)
    if not paths:
        raise FileNotFoundError(f"{arguments.cases} must hold .npz files, got none")
    how, run_one = choose_run(arguments.image)
    print(how)
    bar = ProgressBar(len(paths), sys.stderr)
    timed = []
    for path in paths:
        timed.append(time_case(path, run_one))
        bar.advance(path.name)
    bar.close()
    for case in timed:
        print(f"{case.name}  {case.seconds:.2f} s{'' if case.is_written else '  LOST'}")
    seconds = [case.seconds for case in timed]
    print(f"mean {statistics.mean(seconds):.2f} s, median {statistics.median(seconds):.2f} s")
    if arguments.json:
        cases = [vars(case) for case in timed]
        write_record(arguments.json, {"how": how, "cases": cases})
    return 0 if all(case.is_written for case in timed) else 1


COMMAND = Command("time-cases", __doc__, run, add_options)
