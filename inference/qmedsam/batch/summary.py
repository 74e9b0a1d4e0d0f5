"""What a run of many cases comes to: its messages, its report and its exit status."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from ..errors import InferenceError
from ..exit_status import DONE, SOME_FAILED
from ..system.files import write_bytes
from ..system.memory import peak_memory_bytes
from ..system.signals import Stopped
from .progress import ProgressBar
from .report import CaseRecord, Start, render_report

logger = logging.getLogger(__name__)


class RunSummary:
    """What has happened so far.

    Args:
        total: cases that there are.
        stream: where progress is drawn; None draws none.
        started: `time.perf_counter()` when the command began to run.

    Attributes:
        records: of the cases that are done or have failed.
    """

    def __init__(self, total: int, stream: TextIO | None, *, started: float) -> None:
        self.records: list[CaseRecord] = []
        self._total = total
        self._bar = ProgressBar(total, stream)
        self._started = started
        self._start: Start | None = None

    @property
    def failed(self) -> int:
        """How many cases have failed."""
        return sum(record.error is not None for record in self.records)

    @property
    def wall_s(self) -> float:
        """Time since the command began to run."""
        return time.perf_counter() - self._started

    def begin(self) -> None:
        """Take down what came before the first case; whatever is ready first counts."""
        if self._start is None:
            self._start = Start(self.wall_s, peak_memory_bytes())

    def add(self, record: CaseRecord) -> None:
        """Take a case in."""
        self.records.append(record)
        self._bar.advance(record.name)

    def close(self) -> None:
        """End the line of progress, before messages follow."""
        self._bar.close()

    def finish(
        self,
        report: Path | None,
        describe: Callable[[], dict[str, Any]],
        *,
        stop: Stopped | None = None,
        problem: InferenceError | None = None,
        **more: Any,
    ) -> int:
        """Say how it went, write the report, and return the exit status.

        Args:
            report: the file of the report; None writes none, and neither does a run that did not
                begin.
            describe: returns the model, as of `describe_model`.
            stop: the signal that ended the run.
            problem: what else ended it before its cases did.
            more: to be added to the report.
        """
        if self.failed:
            logger.error("%d of %d cases failed", self.failed, len(self.records))
        if stop is not None:
            logger.error("Stopped by %s after %d of %d cases", stop, len(self.records), self._total)
        if problem is not None:
            logger.error("The run ends before its cases do: %s", problem)
        status = SOME_FAILED if self.failed or problem else DONE
        if report is not None and self._start is not None:
            records = sorted(self.records, key=lambda record: record.name)
            stopped_by = str(stop) if stop else None
            content = render_report(describe(), records, self._start, stopped_by, **more)
            try:
                write_bytes(report, content.encode())
            except OSError as error:
                logger.error("Report %s cannot be written: %s", report, error)
                status = SOME_FAILED
        return status if stop is None else stop.status
