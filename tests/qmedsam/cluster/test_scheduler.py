"""Who gets which case, with workers that are no processes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from ray.exceptions import OutOfMemoryError, RayActorError, RayError, RayTaskError

from qmedsam.batch.report import CaseRecord
from qmedsam.cluster.scheduler import MOST_LOSSES, ClusterError, Scheduler
from qmedsam.cluster.worker import Description
from qmedsam.errors import ModelError
from tests.conftest import HANGS_AFTER_S

SECONDS = {f"{number:02}": float(number) for number in range(12)}


class Method:
    """What has `remote`, as methods of Ray's actors do."""

    def __init__(self, call: Callable) -> None:
        self.remote = call


@dataclass
class Actors:
    """Starts workers and takes down what they do.

    Attributes:
        deadly: cases that end their worker.
        deaths: workers, by number, that end at their first case.
        broken: what loading raises.
        failing: what running raises.
        loss: what is raised when a worker ends.
        unstartable: workers, by number, that end while they load.
    """

    deadly: set[str] = field(default_factory=set)
    deaths: set[int] = field(default_factory=set)
    broken: Exception | None = None
    failing: Exception | None = None
    loss: RayError = field(default_factory=RayActorError)
    unstartable: set[int] = field(default_factory=set)
    started: list[str] = field(default_factory=list)
    done: list[tuple[int, str]] = field(default_factory=list)
    count: int = 0

    def start(self) -> Actor:
        self.count += 1
        return Actor(self, self.count)


class Actor:
    def __init__(self, actors: Actors, number: int) -> None:
        self._actors, self._number = actors, number
        self._death = asyncio.Event()
        self.running: set[str] = set()
        self.load, self.run = Method(self._load), Method(self._run)

    async def _load(self) -> Description:
        await asyncio.sleep(0)
        if self._number in self._actors.unstartable:
            raise self._actors.loss
        if self._actors.broken is not None:
            raise self._actors.broken
        return Description("host", self._number, "1", {})

    async def _run(self, name: str) -> CaseRecord:
        self._actors.started.append(name)
        if self._actors.failing is not None:
            raise self._actors.failing
        if name in self._actors.deadly or self._number in self._actors.deaths:
            self._death.set()
        self.running.add(name)
        for _ in range(3):
            await asyncio.sleep(0)
            if self._death.is_set():
                raise self._actors.loss
        self.running.remove(name)
        self._actors.done.append((self._number, name))
        return CaseRecord(name)


def run(actors: Actors, workers: int = 2, seconds=SECONDS) -> tuple[Scheduler, dict]:
    records: dict[str, CaseRecord] = {}

    def on_case(record: CaseRecord, worker: Description) -> None:
        assert record.name not in records
        records[record.name] = record

    async def all_cases() -> Scheduler:
        scheduler = Scheduler(
            seconds, start_worker=actors.start, on_case=on_case, on_worker=lambda worker: None
        )
        await asyncio.wait_for(scheduler.run(workers), timeout=HANGS_AFTER_S)
        return scheduler

    return asyncio.run(all_cases()), records


def test_all_cases_are_run_once_the_most_work_first():
    actors = Actors()
    scheduler, records = run(actors)
    assert set(records) == set(SECONDS)
    assert actors.started == sorted(SECONDS, reverse=True)
    assert {number for number, _ in actors.done} == {1, 2}
    assert (actors.count, scheduler.lost_workers) == (2, 0)


def test_a_large_case_does_not_wait_for_another_one_at_its_worker():
    actors = Actors()
    run(actors, seconds={"a": 100.0, "b": 90.0, "c": 80.0, "d": 10.0})
    assert len({number for number, name in actors.done if name in "ab"}) == 2


def test_no_cases_need_no_worker():
    actors = Actors()
    assert run(actors, seconds={})[1] == {}
    assert actors.count == 0


@pytest.mark.parametrize("deaths", [{1}, {1, 2}, {2, 3, 4, 5}])
def test_what_a_lost_worker_had_goes_to_another(deaths):
    actors = Actors(deaths=deaths)
    scheduler, records = run(actors)
    assert set(records) == set(SECONDS)
    assert all(record.error is None for record in records.values())
    assert scheduler.lost_workers == len(deaths)
    assert actors.count == 2 + len(deaths)


@pytest.mark.parametrize("deadly", [{"11"}, {"00"}, {"11", "10", "05"}])
def test_a_case_that_ends_its_workers_is_given_up_and_no_other_is(deadly):
    actors = Actors(deadly=deadly)
    _, records = run(actors)
    assert set(records) == set(SECONDS)
    failed = {name for name, record in records.items() if record.error is not None}
    assert failed == deadly
    assert all("was lost 3 times" in records[name].error for name in deadly)
    assert all(actors.started.count(name) == MOST_LOSSES for name in deadly)


def test_a_worker_that_is_ended_for_its_memory_is_a_lost_one():
    actors = Actors(deadly={"11"}, loss=OutOfMemoryError("the machine is full"))
    scheduler, records = run(actors)
    assert {name for name, record in records.items() if record.error is not None} == {"11"}
    assert scheduler.lost_workers == MOST_LOSSES


def test_a_place_where_no_worker_starts_is_given_up_and_the_others_go_on():
    actors = Actors(unstartable={2, 3, 4})
    _, records = run(actors)
    assert set(records) == set(SECONDS)
    assert {number for number, _ in actors.done} == {1}


def test_a_run_that_is_stopped_leaves_cases():
    actors = Actors()

    async def stopped() -> list[str]:
        done: list[str] = []

        def on_case(record: CaseRecord, worker: Description) -> None:
            done.append(record.name)
            scheduler.stop()

        scheduler = Scheduler(
            SECONDS, start_worker=actors.start, on_case=on_case, on_worker=lambda worker: None
        )
        await asyncio.wait_for(scheduler.run(2), timeout=HANGS_AFTER_S)
        return done

    assert 1 <= len(asyncio.run(stopped())) < len(SECONDS)


def test_a_model_that_cannot_be_loaded_ends_the_run():
    error = RayTaskError("load", "traceback", ModelError("no such model"))
    with pytest.raises(ModelError, match="no such model"):
        run(Actors(broken=error))


def test_a_model_that_cannot_be_run_ends_the_run():
    error = RayTaskError("run", "traceback", ModelError("no such instruction"))
    with pytest.raises(ModelError, match="no such instruction"):
        run(Actors(failing=error))


def test_workers_that_are_lost_before_their_first_case_end_the_run():
    with pytest.raises(ClusterError, match="cannot be started"):
        run(Actors(broken=RayActorError()))


def test_a_worker_that_is_not_wanted_ends_the_run():
    def refuse(worker: Description) -> None:
        raise ClusterError("another version")

    async def refused() -> None:
        scheduler = Scheduler(
            SECONDS,
            start_worker=Actors().start,
            on_case=lambda record, worker: None,
            on_worker=refuse,
        )
        await scheduler.run(2)

    with pytest.raises(ClusterError, match="another version"):
        asyncio.run(refused())
