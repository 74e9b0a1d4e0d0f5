"""The loop over cases.

While a case is segmented the next one is read and the one before is written, each in a thread.
An invalid case is reported by name and the rest go on; nothing that happens to one case touches
another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path

from ..segmenter import Segmenter
from ..system.memory import reset_peak_memory
from ..system.signals import Stopped
from .case_run import CaseRun
from .cases import Outline, read_outline
from .outputs import Outputs
from .report import CaseRecord

STOP_S = 5  # that a stopped run waits for what it writes; who stops it may wait for 10 s alone


class ReadAhead:
    """Reads cases in order, each while the one before is worked on, and the first at once.

    Args:
        paths: of the cases.
        outputs: what to write of them; the folders exist.
    """

    def __init__(self, paths: Sequence[Path], outputs: Outputs) -> None:
        self.outputs = outputs
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="read")
        self._paths = list(paths)
        self._is_abandoned = False
        self._reading = self._start(0)

    def __len__(self) -> int:
        return len(self._paths)

    def __iter__(self) -> Iterator[CaseRun]:
        for index in range(len(self._paths)):
            reading = self._reading
            self._reading = self._start(index + 1)
            if reading is not None:
                yield reading.result()

    def first_outline(self) -> Outline | None:
        """Return the outline of the first case, which is soon read; None where that fails."""
        try:
            return read_outline(self._paths[0]) if self._paths else None
        except OSError:  # what reads the case says so
            return None

    def close(self) -> None:
        """Give the thread back, when it has read what it reads; at once where that is abandoned."""
        self._thread.shutdown(wait=not self._is_abandoned, cancel_futures=self._is_abandoned)

    def abandon(self) -> None:
        """Let nobody wait for what is being read: the process ends."""
        self._is_abandoned = True

    def _start(self, index: int) -> Future[CaseRun] | None:
        if index >= len(self._paths):
            return None
        return self._thread.submit(CaseRun(self._paths[index], self.outputs).read)


def run_batch(
    segmenter: Segmenter,
    cases: ReadAhead,
    *,
    on_case: Callable[[CaseRecord], None],
) -> None:
    """Segment every case.

    Args:
        segmenter: to use.
        cases: of which the first is being read.
        on_case: is told of each case, in order and in a thread of its own, when it is done or has
            failed.

    Raises:
        ModelError: the model cannot be run.
        Stopped: by a signal; what was being written is whole, or left where that takes long.
    """

    def finish(run: CaseRun) -> None:
        on_case(run.write())

    thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="write")
    writing: Future[None] | None = None
    is_left = False
    try:
        for run in cases:
            if cases.outputs.measures_memory:
                reset_peak_memory()
            run.segment(segmenter)
            if writing is not None:
                writing.result()  # at most one label map waits
            writing = thread.submit(finish, run)
        if writing is not None:
            writing.result()
    except Stopped:
        is_left = writing is not None and bool(wait([writing], STOP_S).not_done)
        raise
    finally:
        thread.shutdown(wait=not is_left)
