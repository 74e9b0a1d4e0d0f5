"""What several fresh processes on one case took; kept, so that a stopped benchmark goes on."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.harness.process import Finished
from qmedsam.system.files import write_bytes

# How a process ends that was stopped for its memory, or that could get no more.
KILLED_STATUSES = (-9, 137)
NO_MEMORY_WORDS = ("MemoryError", "bad_alloc", "ot enough memory", "an't allocate memory")


class RunError(OSError):
    """A process failed for another reason than its memory."""


def check_status(finished: Finished) -> None:
    """Raise a `RunError` where a process did not end well."""
    if finished.status:
        end = finished.output.strip()[-500:]
        raise RunError(f"Process ended with status {finished.status}: {end}")


@dataclass(frozen=True)
class Run:
    """One run: its process, and what the baseline did not do of the work.

    Attributes:
        visits: how many slices and boxes the baseline has to visit; 0 of the service.
        walked: how many it did visit.
        visit_s: seconds of one visit.
    """

    finished: Finished
    visits: int = 0
    walked: int = 0
    visit_s: float = 0.0

    @property
    def seconds(self) -> float:
        """Wall time, with that of the visits that were left out."""
        return self.finished.wall_s + (self.visits - self.walked) * self.visit_s

    @property
    def is_out_of_memory(self) -> bool:
        """Whether it ended for want of memory.

        Raises:
            RunError: it failed for another reason.
        """
        status, output = self.finished.status, self.finished.output
        had_too_little = any(words in output for words in NO_MEMORY_WORDS)
        if status and (status in KILLED_STATUSES or had_too_little):
            return True
        check_status(self.finished)
        return False


@dataclass(frozen=True)
class Measured:
    """One case by one method.

    Attributes:
        s: median seconds of the runs.
        peak_mb: largest resident memory of any run.
        visits: see `Run`.
        walked: see `Run`.
        is_out_of_memory: some run ended so; the seconds then mean nothing.
        parameters: what a run depends on.
    """

    s: float
    min_s: float
    max_s: float
    peak_mb: float
    runs: int
    visits: int
    walked: int
    is_out_of_memory: bool
    parameters: dict[str, str]


def measure(
    kept: Path, run: Callable[[], Run], *, runs: int, budget_s: float, parameters: dict[str, str]
) -> Measured:
    """Return the median of several runs.

    Args:
        kept: JSON file of the result, which is read the next time if its parameters are the same.
        run: makes one.
        runs: most of them.
        budget_s: no further run begins after so long.
        parameters: what a run depends on.

    Raises:
        RunError: a run failed for another reason than its memory; nothing is kept.
    """
    parameters = {**parameters, "runs": str(runs), "budget_s": str(budget_s)}
    if kept.is_file():
        measured = Measured(**json.loads(kept.read_text()))
        if measured.parameters == parameters:
            return measured
    made: list[Run] = []
    began = time.perf_counter()
    while len(made) < runs and (not made or time.perf_counter() - began < budget_s):
        made.append(run())
    seconds = [one.seconds for one in made]
    measured = Measured(
        s=statistics.median(seconds),
        min_s=min(seconds),
        max_s=max(seconds),
        peak_mb=max(one.finished.peak_bytes for one in made) / 1e6,
        runs=len(made),
        visits=made[-1].visits,
        walked=made[-1].walked,
        is_out_of_memory=any([one.is_out_of_memory for one in made]),
        parameters=parameters,
    )
    write_bytes(kept, (json.dumps(asdict(measured)) + "\n").encode())
    return measured
