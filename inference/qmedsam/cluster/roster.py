"""The workers of a run: that they are alike, and which cases each has done."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path
from typing import Any

from ..batch.report import CaseRecord
from ..batch.summary import RunSummary
from ..errors import InferenceError
from ..system.files import printable
from ..system.signals import Stopped
from ..version import __version__
from .scheduler import ClusterError
from .worker import Description

logger = logging.getLogger(__name__)


class Roster:
    """The workers that were ready, in order, and how many cases each has done.

    Args:
        summary: of the run, which is told of its cases.
    """

    def __init__(self, summary: RunSummary) -> None:
        self._summary = summary
        self._workers: list[Description] = []
        self._cases: Counter[tuple[str, int]] = Counter()

    def add_worker(self, worker: Description) -> None:
        """Take a worker in.

        Raises:
            ClusterError: it has another version than this command, or another model than the
                first worker.
        """
        first = self._workers[0].model if self._workers else worker.model
        if worker.version != __version__:
            raise ClusterError(
                f"Machine {worker.host} must have qmedsam {__version__}, got {worker.version}"
            )
        for key in ("sha256", "precision"):
            if worker.model[key] != first[key]:
                raise ClusterError(
                    f"All machines must run one model in one precision, {worker.host} has "
                    f"{worker.model['variant']} in {worker.model['precision']}, "
                    f"{self._workers[0].host} {first['variant']} in {first['precision']}: give "
                    "--variant and --precision"
                )
        self._summary.begin()
        self._workers.append(worker)

    def add_case(self, record: CaseRecord, worker: Description) -> None:
        """Take a case in that a worker has done, and say what was wrong with it."""
        self._cases[worker.host, worker.process] += 1
        for note in record.notes:
            logger.warning("%s: %s", printable(record.name), note)
        if record.error is not None:
            logger.error("%s: %s", printable(record.name), record.error)
        self._summary.add(record)

    def finish(
        self,
        report: Path | None,
        lost_workers: int,
        *,
        stop: Stopped | None,
        problem: InferenceError | None,
    ) -> int:
        """Say how it went, write the report with the workers, and return the exit status."""
        summary = self._summary
        wall_s = summary.wall_s
        logger.info(
            "%d cases in %.1f s by %d workers, %d of them lost, %d cases failed",
            len(summary.records),
            wall_s,
            len(self._workers),
            lost_workers,
            summary.failed,
        )
        return summary.finish(
            report,
            lambda: self._workers[0].model,
            stop=stop,
            problem=problem,
            wall_s=round(wall_s, 4),
            workers=[self._described(worker) for worker in self._workers],
            lost_workers=lost_workers,
        )

    def _described(self, worker: Description) -> dict[str, Any]:
        return {
            "host": worker.host,
            "process": worker.process,
            "threads": worker.model["threads"],
            "cases": self._cases[worker.host, worker.process],
        }
