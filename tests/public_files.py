"""Files of strangers, as the test suites of libraries have them: each is converted or refused.

    PYTHONPATH=inference python -m tests.public_files FOLDER...

Every file of a format that is read, every DICOMDIR and every folder with DICOM files is given to
`qmedsam convert` with a box in the middle, of several series or volumes each; then a block as
labels, which is written (of DICOM as a DICOM SEG, which highdicom and dciodvfy check), read back
and compared. Each attempt has a process with limits of time and memory. What ends in anything but a
result or a sentence is listed.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import highdicom
import numpy as np

from qmedsam import cli
from qmedsam.commands import convert
from qmedsam.errors import InferenceError
from qmedsam.exit_status import DONE, NOTHING_RAN
from qmedsam.formats import conversion, dispatch, statistics
from qmedsam.formats.dicom.scan import DicomScan
from qmedsam.formats.dicom.sources import DICOMDIR
from qmedsam.formats.scan import Scan, SeveralSeriesError, SeveralVolumesError
from qmedsam.formats.suffixes import CASE_SUFFIXES, SEG_SUFFIX, SUFFIXES

PRELOADED = (convert, conversion, statistics)  # so that no attempt has to import them
LIMIT_S = 120
LIMIT_BYTES = 8 << 30  # of addresses, of which the libraries take some
MOST_CHOICES = 4  # series of a folder, or volumes of one, that are tried
LEVELS = ("ERROR: ", "WARNING: ")  # what a line of a message begins with
LONGEST_LINE = 2000
CONVERTED, REFUSED, FAULT = "converted", "refused", "fault"
VALIDATOR = "dciodvfy"  # of Debian's dicom3tools
NO_EXIT = 99  # of a process that ended in a traceback


@dataclass(frozen=True)
class Attempt:
    """How a process ended.

    Attributes:
        outcome: one of `CONVERTED`, `REFUSED`, `FAULT`.
        said: what it wrote on the terminal.
        problems: what a user should not see, a line each.
        peak_bytes: of its memory.
        invalid: errors that dciodvfy finds in a DICOM SEG, some of which are those of the images.
    """

    outcome: str
    said: str
    problems: tuple[str, ...] = ()
    peak_bytes: int = 0
    invalid: tuple[str, ...] = ()


@dataclass
class Tried:
    """What became of a file or folder.

    Attributes:
        opened: of reading it, and writing a case.
        labels: of writing and reading labels, where it was read.
    """

    path: Path
    kind: str
    opened: list[Attempt] = field(default_factory=list)
    labels: list[Attempt] = field(default_factory=list)

    @property
    def is_dicom(self) -> bool:
        return self.kind != "file"


def run(work: Callable[[], int], *, limit_s: float = LIMIT_S) -> Attempt:
    """Do work in a process of its own; what it returns is its exit status."""
    with tempfile.TemporaryFile() as terminal:
        child = os.fork()
        if child == 0:
            _work_apart(work, terminal.fileno())
        status, usage, is_late = _wait(child, limit_s)
        terminal.seek(0)
        said = terminal.read().decode(errors="replace")
    problems = _problems(said, status, f"takes more than {limit_s} s" if is_late else "")
    code = os.waitstatus_to_exitcode(status)
    outcome = {DONE: CONVERTED, NOTHING_RAN: REFUSED}.get(code, FAULT)
    return Attempt(FAULT if problems else outcome, said, problems, usage.ru_maxrss << 10)


def _work_apart(work: Callable[[], int], terminal: int) -> None:
    status = NO_EXIT
    try:
        for stream in (1, 2):
            os.dup2(terminal, stream)
        resource.setrlimit(resource.RLIMIT_AS, (LIMIT_BYTES, LIMIT_BYTES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        status = work()
    except SystemExit as end:  # of argparse
        status = int(end.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _wait(child: int, limit_s: float) -> tuple[int, resource.struct_rusage, bool]:
    """Wait for a process and end it when its time is over."""
    end, is_late = time.monotonic() + limit_s, False
    while True:
        found, status, usage = os.wait4(child, os.WNOHANG)
        if found:
            return status, usage, is_late
        if time.monotonic() > end and not is_late:
            is_late = True
            os.kill(child, signal.SIGKILL)
        time.sleep(0.002)


def _problems(said: str, status: int, late: str) -> tuple[str, ...]:
    """Return what is wrong with how a process ended and with what it said."""
    code = os.waitstatus_to_exitcode(status)
    lines = said.splitlines()
    if late:
        return (late,)
    if code < 0:
        return (f"ended by {signal.Signals(-code).name}",)
    if code not in (DONE, NOTHING_RAN):
        return (f"exit status {code}: {lines[-1] if lines else 'nothing is said'}",)
    found = [f"a line of no message: {each}" for each in lines if not each.startswith(LEVELS)]
    found += [f"a line of {len(each)} letters" for each in lines if len(each) > LONGEST_LINE]
    found += [f"no memory: {each}" for each in lines if "Memory is not enough" in each]
    if code == NOTHING_RAN and sum(each.startswith(LEVELS[0]) for each in lines) != 1:
        found.append("not one sentence on why it is refused")
    return tuple(found)


def block_in(scan: Scan) -> tuple[np.ndarray, str]:
    """Return labels of a scan with a block in the middle, and the block as an option `--box`."""
    shape = scan.label_shape
    low = [side // 4 for side in shape]
    high = [max(each, side * 3 // 4 - 1) for each, side in zip(low, shape, strict=True)]
    labels = np.zeros(shape, np.uint8)
    labels[tuple(slice(a, b + 1) for a, b in zip(low, high, strict=True))] = 1
    corners = np.ones((2, 4))
    corners[:, :3] = 0
    corners[:, : len(shape)] = np.array([low, high])[:, ::-1]
    own = np.sort((corners @ scan.own_axes.T)[:, :3], axis=0)
    if max(scan.box_columns) == 4:
        own = own[:, :2]
    return labels, ",".join(str(round(each)) for each in own.ravel())


def try_path(path: Path, kind: str) -> Tried:
    """Try a file or folder, all the series and volumes of it that a user might choose."""
    tried = Tried(path, kind)
    waiting: list[list[str]] = [[]]
    while waiting:
        choice = waiting.pop(0)
        with tempfile.TemporaryDirectory() as folder:
            plan = Path(folder, "plan.json")
            run(lambda choice=choice, plan=plan: _plan(path, choice, plan))
            planned = json.loads(plan.read_text()) if plan.exists() else {}
            more = planned.get("choices", [])
            box = planned.get("box", "0,0,1,1")
            case = Path(folder, "case.npz")
            arguments = ["convert", str(path), *choice]
            tried.opened.append(_command(*arguments, f"--box={box}", "-o", str(case)))
            if more:
                waiting += [[*choice, *each] for each in more]
            elif tried.opened[-1].outcome == CONVERTED:
                tried.labels.append(_try_labels(arguments, Path(folder), planned["suffix"]))
    return tried


def _plan(path: Path, choice: list[str], plan: Path) -> int:
    """Write what to try of a file: a box, a label map and its suffix; or what to choose from."""
    options = dict(zip(choice[::2], choice[1::2], strict=True))
    volume = options.get("--volume")
    try:
        scan = dispatch.open_scan(
            path, series=options.get("--series"), volume=None if volume is None else int(volume)
        )
    except SeveralSeriesError as error:
        found = [["--series", uid] for uid, _ in error.choices if uid][:MOST_CHOICES]
    except SeveralVolumesError as error:
        numbers = [str(number) for number, _ in error.choices]
        found = [["--volume", each] for each in numbers[:MOST_CHOICES]]
    except InferenceError:
        return NOTHING_RAN
    else:
        labels, box = block_in(scan)
        np.savez_compressed(plan.with_name("block.npz"), segs=labels)
        suffix = SEG_SUFFIX if isinstance(scan, DicomScan) else scan.label_suffixes[0]
        plan.write_text(json.dumps({"box": box, "suffix": suffix}))
        return DONE
    plan.write_text(json.dumps({"choices": found}))
    return DONE


def _try_labels(arguments: list[str], folder: Path, suffix: str) -> Attempt:
    """Write a block as labels, read it back and compare."""
    block, file, back = folder / "block.npz", folder / f"labels{suffix}", folder / "back.npz"
    first = _command(*arguments, "--labels", str(block), "-o", str(file))
    if first.outcome != CONVERTED:
        return first
    second = _command(*arguments, "--labels", str(file), "-o", str(back))
    if second.outcome != CONVERTED:
        problem = f"labels that were written are not read: {second.said.strip()}"
        return Attempt(FAULT, second.said, (*second.problems, problem))
    with np.load(block) as before, np.load(back) as after:
        is_same = np.array_equal(before["segs"], after["segs"])
    problems = [] if is_same else ["labels come back as others"]
    invalid: list[str] = []
    if suffix == SEG_SUFFIX:
        read = run(lambda: int(highdicom.seg.segread(file) is None))
        if read.outcome == FAULT:
            problems += [f"highdicom: {each}" for each in read.said.splitlines()[-1:]]
        invalid = _errors_of_validator(file)
    outcome = FAULT if problems else CONVERTED
    return Attempt(outcome, first.said, tuple(problems), first.peak_bytes, tuple(invalid))


def _errors_of_validator(file: Path) -> list[str]:
    """Return what dciodvfy finds wrong with a DICOM SEG; nothing where it is not installed."""
    if not shutil.which(VALIDATOR):
        return []
    words = [VALIDATOR, str(file)]
    result = subprocess.run(words, capture_output=True, text=True, errors="replace", check=False)
    lines = f"{result.stdout}\n{result.stderr}".splitlines()
    return [each for each in lines if each.startswith("Error")]


def _command(*arguments: str) -> Attempt:
    return run(lambda: cli.main(list(arguments)))


def found_in(root: Path) -> Iterator[tuple[Path, str]]:
    """Yield what is tried in a folder, and whether it is a file, DICOM, or a folder of DICOM."""
    for at, folders, names in os.walk(root):
        folders.sort()
        slices = 0
        for name in sorted(names):
            path = Path(at, name)
            if path.is_symlink() or not path.is_file():
                continue
            is_dicom = name.upper() == DICOMDIR or dispatch.begins_as_dicom(path)
            slices += is_dicom
            if is_dicom:
                yield path, "DICOM file"
            elif name.lower().endswith(SUFFIXES) and not name.lower().endswith(CASE_SUFFIXES):
                yield path, "file"
        if slices > 1:
            yield Path(at), "DICOM folder"


def table(rows: dict[str, list[Tried]]) -> Iterator[str]:
    """Yield lines of a table of what became of all."""
    columns = ["tried", "converted", "refused", "faults", "labels came back", "labels refused"]
    yield "| | " + " | ".join([*columns, "faults", "invalid"]) + " |"
    yield "|:--|" + "--:|" * (len(columns) + 2)
    for name, tried in rows.items():
        opened = Counter(_first(each.opened, FAULT, CONVERTED, REFUSED) for each in tried)
        labels = Counter(_first(each.labels, FAULT, REFUSED, CONVERTED) for each in tried)
        counts = [len(tried)]
        counts += [
            found[each] for found in (opened, labels) for each in (CONVERTED, REFUSED, FAULT)
        ]
        counts.append(sum(any(attempt.invalid for attempt in each.labels) for each in tried))
        yield f"| {name} | " + " | ".join(str(each) for each in counts) + " |"


def _first(attempts: Sequence[Attempt], *outcomes: str) -> str:
    """Return the first of outcomes that there is; "" where nothing was tried."""
    found = {each.outcome for each in attempts}
    return next((each for each in outcomes if each in found), "")


def main(argv: Sequence[str] | None = None) -> int:
    """Try all in folders and print what became of it; return 1 where there are faults."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--refusals", action="store_true", help="also list why files are refused")
    arguments = parser.parse_args(argv)
    rows: dict[str, list[Tried]] = {}
    for folder in arguments.folders:
        for path, kind in found_in(folder):
            tried = try_path(path, kind)
            rows.setdefault(f"{folder.name}, {kind}s", []).append(tried)
            for attempt in (*tried.opened, *tried.labels):
                for problem in attempt.problems:
                    print(f"FAULT {path}: {problem}", flush=True)
                for error in attempt.invalid:
                    print(f"INVALID {path}: {error}", flush=True)
                if arguments.refusals and attempt.outcome == REFUSED:
                    print(f"REFUSED {path}: {attempt.said.strip().splitlines()[-1]}", flush=True)
    all_tried = [each for tried in rows.values() for each in tried]
    print("\n".join(table({**rows, "all": all_tried})))
    attempts = [each for tried in all_tried for each in (*tried.opened, *tried.labels)]
    print(f"\nLargest memory of an attempt: {max(each.peak_bytes for each in attempts) >> 20} MB")
    return int(any(each.problems for each in attempts))


if __name__ == "__main__":
    sys.exit(main())
