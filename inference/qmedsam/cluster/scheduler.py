"""Who gets which case, on Ray: the most work first, and what a lost worker had goes to another.

A worker serves until all is done. When it is lost, with its machine or alone, another one is asked
for in its place, which Ray starts where there is room. Cases that a lost worker had are run alone
from then on, and one whose worker is lost again and again is given up: it is what kills them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from ray.exceptions import RayActorError, RayError, RayTaskError

from ..batch.report import CaseRecord
from ..errors import InferenceError, ModelError
from .worker import LANES, Description

logger = logging.getLogger(__name__)

SMALL_S = 2.0  # of a case that may wait for another one at its worker
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
        seconds: that it is expected to take.
        losses: workers that were lost with it.
        is_running: a worker has it.
    """

    place: int
    name: str = field(compare=False)
    seconds: float = field(compare=False)
    losses: int = field(default=0, compare=False)
    is_running: bool = field(default=False, compare=False)


class _Worker:
    """A worker that is ready.

    Args:
        actor: Ray's handle.
        description: who it is.

    Attributes:
        is_lost: it is gone.
    """

    def __init__(self, actor: Actor, description: Description) -> None:
        self.description = description
        self.is_lost = False
        self._actor = actor
        self._free = asyncio.Semaphore(LANES)
        self._next = asyncio.Lock()

    async def run(self, case: _Waiting) -> CaseRecord:
        """Run a case beside others, or alone where a worker was lost with it.

        Raises:
            RayTaskError: it cannot run any case.
            RayError: the worker is lost.
        """
        lanes = LANES if case.losses else 1
        async with self._next:
            for _ in range(lanes):
                await self._free.acquire()
        try:
            if self.is_lost:
                raise RayActorError
            case.is_running = True
            record: CaseRecord = await self._actor.run.remote(case.name)
            return record
        except RayTaskError:
            raise
        except RayError:  # it has died, its machine has, or Ray ended it for its memory
            self.is_lost = True
            raise
        finally:
            for _ in range(lanes):
                self._free.release()


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
            self._waiting.put_nowait(_Waiting(place, name, seconds[name]))
        self._left = len(names)
        self._all_done, self._all_small = asyncio.Event(), asyncio.Event()
        self._stopped, self._loss = asyncio.Event(), ""
        self.lost_workers = 0

    async def run(self, workers: int) -> None:
        """Run all cases.

        Args:
            workers: how many to keep.

        Raises:
            ModelError: no case can be run.
            ClusterError: no worker can be started any more, or one is not what it must be.
        """
        if not self._left:
            return
        serving = {asyncio.create_task(self._serve()) for _ in range(workers)}
        ends = {asyncio.create_task(each.wait()) for each in (self._all_done, self._stopped)}
        tasks = serving | ends
        try:
            while serving and not (self._all_done.is_set() or self._stopped.is_set()):
                ended, _ = await asyncio.wait(serving | ends, return_when=asyncio.FIRST_COMPLETED)
                for task in ended & serving:
                    task.result()
                serving -= ended
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if self._left and not self._stopped.is_set():
            raise ClusterError(f"Workers cannot be started: {self._loss}")

    def stop(self) -> None:
        """Let `run` return although cases are left."""
        self._stopped.set()

    async def _serve(self) -> None:
        """Keep one worker, and another after it when it is lost, while they can be started."""
        losses = 0
        while not self._all_done.is_set():
            actor = self._start_worker()
            try:
                description = await actor.load.remote()
            except RayTaskError as error:
                _raise_own(error)
            except RayError as error:
                losses += 1
                self._loss = str(error)
                logger.warning("A worker was lost before its first case: %s", error)
                if losses >= MOST_LOSSES:
                    return
                continue
            losses = 0
            self._on_worker(description)
            worker = _Worker(actor, description)
            try:
                async with asyncio.TaskGroup() as lanes:
                    lanes.create_task(self._run_cases(worker))
                    for _ in range(LANES - 1):
                        lanes.create_task(self._run_small_cases(worker))
            except* RayTaskError as errors:
                _raise_own(errors.exceptions[0])
            except* RayError as errors:
                self.lost_workers += 1
                lost = errors.exceptions[0]
                logger.warning("A worker on %s was lost: %s", description.host, lost)

    async def _run_small_cases(self, worker: _Worker) -> None:
        """Read a case while another one runs, when only those are left that wait briefly for it.

        A large one that waited here would be run sooner by a worker that has nothing to do.
        """
        await self._all_small.wait()
        await self._run_cases(worker)

    async def _run_cases(self, worker: _Worker) -> None:
        while True:
            case = await self._waiting.get()
            if case.seconds <= SMALL_S:
                self._all_small.set()
            try:
                record = await worker.run(case)
            except (RayError, asyncio.CancelledError):
                if worker.is_lost:
                    self._give_back(case, worker.description)
                raise
            self._finish(record, worker.description)

    def _give_back(self, case: _Waiting, description: Description) -> None:
        case.losses += case.is_running
        case.is_running = False
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


def _raise_own(error: BaseException) -> NoReturn:
    """Raise what a worker raised as an error of this package."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, InferenceError):
        raise ModelError(str(cause)) from error
    raise ClusterError(f"A worker failed unexpectedly: {error}") from error
