"""The scheduler with a thousand workers of which some are slow and some are lost, in virtual time.

    python -m benchmarks.simulation

It is the scheduler that `qmedsam cluster` runs, with workers that sleep for as long as the cost
model says their cases take, on a clock that leaps to whatever happens next. Shards of a job array
have the same workers and the same cases, dealt out beforehand.
"""

from __future__ import annotations

import argparse
import asyncio
import heapq
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ray.exceptions import RayActorError

from benchmarks.harness.command import add_record_option, keep_record, run_command
from benchmarks.harness.record import RESULTS_DIR, write_record
from qmedsam.batch.cost import Work
from qmedsam.batch.report import CaseRecord
from qmedsam.batch.shards import assign
from qmedsam.cluster.scheduler import Scheduler
from qmedsam.cluster.worker import Description
from qmedsam.options import at_least

DEFAULT_RECORD = RESULTS_DIR / "simulation.json"
LOAD_S = 1.0  # of a worker's model
HEADER_S = 0.0009  # of the headers of a case, which each task of an array reads
SPREAD = 0.1  # standard deviation of the logarithm of workers' speeds
SLOW_SHARE, SLOW_FACTOR = 0.02, 5.0  # stragglers: a neighbour takes their processor
LOSSES_AN_HOUR = 0.05  # of a worker: spot machines, and what fails


@dataclass(frozen=True)
class Outcome:
    """How a way of sharing out went.

    Attributes:
        hours: until all was done.
        efficiency: work over the time of all workers, at their mean speed.
        lost_workers: and how many cases were begun again for them.
    """

    hours: float
    efficiency: float
    lost_workers: int = 0


class VirtualClockLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock leaps to the next timer when there is nothing else to do."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0

    def time(self) -> float:
        """Return the virtual seconds since the start."""
        return self._now

    def _run_once(self) -> None:
        ready, scheduled = self._ready, self._scheduled  # type: ignore[attr-defined]
        if not ready and scheduled:
            self._now = max(self._now, scheduled[0].when())
        super()._run_once()  # type: ignore[misc]


class _Method:
    """What has `remote`, as the methods of Ray's actors have."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self.remote = call


class SleepingWorker:
    """A worker that takes its time and does nothing, one case after another.

    Args:
        seconds: of each case by name, at speed 1.
        speed: of this worker.
        lifetime_s: until it is lost.
    """

    def __init__(self, seconds: dict[str, float], speed: float, lifetime_s: float) -> None:
        self._seconds, self._speed = seconds, speed
        self._lost_at = asyncio.get_running_loop().time() + lifetime_s
        self._turn = asyncio.Lock()
        self.load, self.run = _Method(self._load), _Method(self._run)

    async def _load(self) -> Description:
        await self._sleep(LOAD_S)
        return Description("", 0, "", {})

    async def _run(self, name: str) -> CaseRecord:
        async with self._turn:
            await self._sleep(self._seconds[name] / self._speed)
        return CaseRecord(name)

    async def _sleep(self, seconds: float) -> None:
        left_s = self._lost_at - asyncio.get_running_loop().time()
        await asyncio.sleep(max(0.0, min(seconds, left_s)))
        if seconds > left_s:
            raise RayActorError


def worker_speeds(count: int, generator: np.random.Generator) -> NDArray[np.float64]:
    """Return the speeds of workers, some of which are stragglers."""
    speeds = np.exp(generator.normal(0.0, SPREAD, count))
    speeds[generator.random(count) < SLOW_SHARE] /= SLOW_FACTOR
    return speeds


def ct_seconds(count: int, generator: np.random.Generator) -> list[float]:
    """Return what CT volumes take: 40 to 600 slices, mostly about 150, and one to six objects."""
    slices = np.clip(generator.lognormal(np.log(150), 0.5, count), 40, 600).astype(int)
    objects = generator.integers(1, 7, count)
    return [
        Work(int(z), int(z * boxes * 0.6), int(z) * 512 * 512).seconds
        for z, boxes in zip(slices, objects, strict=True)
    ]


def simulate_cluster(
    seconds: list[float], workers: int, seed: int, *, order: str = "most work first"
) -> Outcome:
    """Run the scheduler in virtual time.

    Args:
        seconds: of each case at speed 1.
        workers: how many there are.
        seed: of speeds and losses.
        order: another word than the default hides from the scheduler what cases take.
    """
    generator = np.random.default_rng(seed)
    speeds = worker_speeds(workers, generator)
    by_name = {f"{number:06}": value for number, value in enumerate(seconds)}
    known = by_name if order == "most work first" else dict.fromkeys(by_name, 0.0)
    places = iter(range(sys.maxsize))

    def start_worker() -> SleepingWorker:
        speed = float(speeds[next(places) % workers])
        lifetime_s = 3600 * generator.exponential(1 / LOSSES_AN_HOUR)
        return SleepingWorker(by_name, speed, lifetime_s)

    failed: list[str] = []

    def on_case(record: CaseRecord, worker: Description) -> None:
        if record.error is not None:
            failed.append(record.name)

    loop = VirtualClockLoop()
    try:

        async def run() -> int:
            scheduler = Scheduler(
                known, start_worker=start_worker, on_case=on_case, on_worker=lambda worker: None
            )
            await scheduler.run(workers)
            return scheduler.lost_workers

        lost = loop.run_until_complete(run())
        taken_s = loop.time()
    finally:
        loop.close()
    assert not failed, "a case was given up"
    return Outcome(taken_s / 3600, sum(seconds) / (speeds.sum() * taken_s), lost)


def simulate_shards(
    seconds: list[float], workers: int, seed: int, *, way: str, shards_each: int = 1
) -> Outcome:
    """Run the tasks of a job array, each a shard; a lost task begins where it was.

    Args:
        seconds: of each case at speed 1.
        workers: places of the array; whichever is free takes the next shard.
        seed: of speeds and losses.
        way: `by work` as `--shard` does, or `by number`, so many cases each.
        shards_each: shards for each of the places.
    """
    generator = np.random.default_rng(seed)
    speeds = worker_speeds(workers, generator)
    count = workers * shards_each
    places = assign(seconds, count) if way == "by work" else np.arange(len(seconds)) % count
    loads = np.bincount(places, weights=seconds, minlength=count)
    start_task_s = LOAD_S + HEADER_S * len(seconds)
    again_s = float(np.mean(seconds))  # of the case that is run again for a loss
    free = [(0.0, worker) for worker in range(workers)]
    ends, lost = [], 0
    for load in loads:
        start_s, worker = heapq.heappop(free)
        losses = int(generator.poisson(load / speeds[worker] / 3600 * LOSSES_AN_HOUR))
        run_s = (load + losses * again_s) / speeds[worker]
        ends.append(start_s + run_s + (1 + losses) * start_task_s)
        heapq.heappush(free, (ends[-1], worker))
        lost += losses
    return Outcome(max(ends) / 3600, sum(seconds) / (speeds.sum() * max(ends)), lost)


def ideal_hours(seconds: list[float], workers: int, seed: int) -> float:
    """Return the hours of a perfect share without losses."""
    speeds = worker_speeds(workers, np.random.default_rng(seed))
    return sum(seconds) / float(speeds.sum()) / 3600


def simulate(cases: int, workers: list[int], seed: int) -> dict[str, Any]:
    """Simulate all ways for all numbers of workers."""
    seconds = ct_seconds(cases, np.random.default_rng(seed))
    rows = []
    for count in workers:
        ways = {
            "cluster, most work first": simulate_cluster(seconds, count, seed),
            "cluster, by name": simulate_cluster(seconds, count, seed, order="by name"),
            "shards by work": simulate_shards(seconds, count, seed, way="by work"),
            "shards by number": simulate_shards(seconds, count, seed, way="by number"),
            "ten shards a worker, by work": simulate_shards(
                seconds, count, seed, way="by work", shards_each=10
            ),
        }
        ideal = ideal_hours(seconds, count, seed)
        rows.append(
            {
                "workers": count,
                "ideal_hours": ideal,
                "ways": {name: asdict(outcome) for name, outcome in ways.items()},
            }
        )
    return {
        "cases": cases,
        "core_hours": sum(seconds) / 3600,
        "longest_case_s": max(seconds),
        "load_s": LOAD_S,
        "spread": SPREAD,
        "slow_share": SLOW_SHARE,
        "slow_factor": SLOW_FACTOR,
        "losses_an_hour": LOSSES_AN_HOUR,
        "rows": rows,
    }


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of `python -m benchmarks.simulation`."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.simulation",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--cases", type=at_least(1), default=100_000, help="(default: %(default)s)")
    parser.add_argument(
        "--workers",
        type=at_least(1),
        nargs="+",
        default=[10, 100, 1000],
        help="(default: 10 to 1000)",
    )
    parser.add_argument("--seed", type=at_least(0), default=0, help="(default: %(default)s)")
    add_record_option(parser, DEFAULT_RECORD)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Simulate and write the record."""
    parser = build_parser()
    arguments = parser.parse_args(argv)
    keep_record(parser, arguments, ["cases", "workers", "seed"])

    def body() -> int:
        results = simulate(arguments.cases, arguments.workers, arguments.seed)
        write_record(arguments.json, results)
        print(json.dumps(results, indent=1))
        return 0

    return run_command(body)


if __name__ == "__main__":
    sys.exit(main())
