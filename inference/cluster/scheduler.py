"""Who gets which case, on Ray: the most work first, and what a lost worker had goes to another.

A worker serves until all is done. When it is lost, with its machine or alone, another one is asked
for in its place, which Ray starts where there is room. A case whose worker was lost several times
is given up: it may be what kills them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ray.exceptions import RayActorError, RayTaskError

from ..errors import InferenceError, ModelError
from ..report import CaseRecord
from .worker import LANES, Description

MOST_LOSSES = 3  # of a case, and of a worker before its first case
Actor = Any  # a handle of Ray's to a `Worker`


class ClusterError(InferenceError):
    """The workers cannot do what they are asked for."""


@dataclass(order=True)
class _Waiting:
    """A case that has no worker.

    Attributes:
        place: cases of the lowest place go first.
        name: of the case.
        losses: workers that were lost with it.
    """

    place: int
    name: str = field(compare=False)
    losses: int = field(default=0, compare=False)


class Scheduler:
    """Runs cases on workers.

    Args:
        seconds: what each case is expected to take, by name.
        start_worker: asks Ray for a worker.
        on_case: is told of each case, when it is done, has failed, or is given up.
        on_worker: is told of each worker that is ready; what it raises ends the run.
    """

    def __init__(
        self,
        seconds: Mapping[str, float],
        *,
        start_worker: Callable[[], Actor],
        on_case: Callable[[CaseRecord, Description], None],
        on_worker: Callable[[Description], None],
    ) -> None:
        self._start_worker = start_worker
        self._on_case, self._on_worker = on_case, on_worker
        self._waiting: asyncio.PriorityQueue[_Waiting] = asyncio.PriorityQueue()
        names = sorted(seconds, key=lambda name: (-seconds[name], name))
        for place, name in enumerate(names):
            self._waiting.put_nowait(_Waiting(place, name))
        self._left = len(names)
        self._all_done = asyncio.Event()
        self.lost_workers = 0

    async def run(self, workers: int) -> None:
        """Run all cases.

        Args:
            workers: how many to keep.

        Raises:
            ModelError: no case can be run.
            ClusterError: workers are lost before their first case, or are not what they must be.
        """
        if not self._left:
            return
        tasks = [asyncio.create_task(self._serve()) for _ in range(workers)]
        done = asyncio.create_task(self._all_done.wait())
        try:
            # A worker's task ends by itself only when something is wrong with all of them.
            await asyncio.wait([done, *tasks], return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done():
                    task.result()
        finally:
            for each in (done, *tasks):
                each.cancel()
            await asyncio.gather(done, *tasks, return_exceptions=True)

    async def _serve(self) -> None:
        """Keep one worker, and another after it when it is lost."""
        losses = 0
        while True:
            worker = self._start_worker()
            try:
                description = await worker.describe.remote()
            except RayActorError as error:
                losses += 1
                _raise_own(error)
                if losses >= MOST_LOSSES:
                    raise ClusterError(f"Workers cannot be started: {error}") from error
                continue
            losses = 0
            self._on_worker(description)
            try:
                async with asyncio.TaskGroup() as lanes:
                    for _ in range(LANES):
                        lanes.create_task(self._run_cases(worker, description))
            except* RayActorError:
                self.lost_workers += 1
            except* RayTaskError as errors:
                _raise_own(errors.exceptions[0])
                raise

    async def _run_cases(self, worker: Actor, description: Description) -> None:
        while True:
            case = await self._waiting.get()
            try:
                record = await worker.run.remote(case.name)
            except (RayActorError, asyncio.CancelledError):
                self._give_back(case, description)
                raise
            self._finish(record, description)

    def _give_back(self, case: _Waiting, description: Description) -> None:
        case.losses += 1
        if case.losses < MOST_LOSSES:
            self._waiting.put_nowait(case)
            return
        error = f"Its worker was lost {MOST_LOSSES} times; does the case fit its memory?"
        self._finish(CaseRecord(case.name, error=error), description)

    def _finish(self, record: CaseRecord, description: Description) -> None:
        self._on_case(record, description)
        self._left -= 1
        if not self._left:
            self._all_done.set()


def _raise_own(error: BaseException) -> None:
    """Raise an error of this package that a worker raised, as it was there."""
    cause = getattr(error, "cause", None)
    for found in (cause, getattr(cause, "cause", None), error.__cause__):
        if isinstance(found, InferenceError):
            raise ModelError(str(found)) from error
