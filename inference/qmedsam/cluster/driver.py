"""The run of a job, on the machine that was asked for it: the cluster, its room, its workers."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

import ray as ray_module

from ..batch.cases import is_case_name
from ..batch.cost import planner_of, read_works
from ..batch.summary import RunSummary
from ..core.planning import Planner
from ..errors import InferenceError, ModelError
from ..system.processor import available_cores
from ..system.signals import STOP_SIGNALS, Stopped, ignore_stops, stop_on_signals
from . import AUTO, LOCAL
from .roster import Roster
from .scheduler import ClusterError, Scheduler
from .storage import StorageError
from .worker import LANES, Job, Worker

ray: Any = ray_module
logger = logging.getLogger(__name__)

WORKER_BYTES = 3 << 29  # encoders of three grids of the float model in f32 take 1.0 GB
CONNECT_S = 10


def list_names(job: Job) -> list[str]:
    """Return the names of the cases of a job, and make the folder for their label maps.

    Raises:
        StorageError: there are none, or a folder cannot be used.
    """
    if job.inputs.is_same(job.outputs):
        raise StorageError(f"Output folder {job.outputs.url} is the input folder")
    way = job.inputs.way_to(job.outputs)
    if way is not None and any(map(is_case_name, way.parts)):
        raise StorageError(
            f"Output folder {job.outputs.url} would be taken for a case, or is in one; name it "
            "otherwise"
        )
    names = job.inputs.names()
    if not names:
        raise StorageError(f"Input folder {job.inputs.url} has no .npz files")
    job.outputs.make()
    return names


def run_on_cluster(
    job: Job,
    names: list[str],
    *,
    address: str,
    workers: int | None,
    stream: TextIO | None,
    report: Path | None,
    started: float,
) -> int:
    """Run cases on a cluster; return the exit status.

    Args:
        job: that the cases are of; 0 threads are as many as suit the machines.
        names: of the cases.
        address: `local`, `auto`, or HOST:PORT of the cluster.
        workers: most of them; None is as many as there is room for.
        stream: where progress is drawn; None draws none.
        report: file of the report; None writes none.
        started: `time.perf_counter()` when the command began to run.

    Raises:
        ModelError: no case can be run.
        ClusterError: there is no such cluster, or it has no room.
    """
    works = read_works(names, _planner(job), job.inputs.outline)
    seconds = {name: work.seconds for name, work in zip(names, works, strict=True)}
    summary = RunSummary(len(names), stream, started=started)
    _join(address)
    try:
        with stop_on_signals():  # Ray has put its own handlers in place of those before
            return _run(job, seconds, workers=workers, summary=summary, report=report)
    finally:
        ray.shutdown()
        job.outputs.tidy()


def threads_per_worker(wanted: int, node_cores: list[int], cases: int) -> int:
    """Return the threads of each worker.

    It is one, since as many networks as cores get more done than fewer with more threads, and more
    where there are fewer cases than cores.

    Args:
        wanted: by the user; 0 leaves it to this.
        node_cores: of each machine.
        cases: how many there are.
    """
    return wanted or min(min(node_cores), max(1, sum(node_cores) // cases))


def worker_count(nodes: list[dict[str, float]], threads: int) -> int:
    """Return how many workers of so many threads fit on machines, by cores and memory.

    Args:
        nodes: resources of each machine, as Ray has them.
        threads: of a worker.
    """
    return sum(
        int(min(node.get("CPU", 0) // threads, node.get("memory", 0) // WORKER_BYTES))
        for node in nodes
    )


def _planner(job: Job) -> Planner:
    """Return how the workers choose regions; this machine runs no case, and may lack the model."""
    try:
        return planner_of(job.settings, job.model_dir)
    except ModelError:
        return Planner(job.settings.regions)


def _join(address: str) -> None:
    """Join a cluster, or start one of this machine.

    Raises:
        ClusterError: nothing answers there; Ray would go on asking for minutes.
        ConnectionError: there is none that this machine belongs to.
    """
    if address not in (LOCAL, AUTO):
        host, _, port = address.rpartition(":")
        try:
            socket.create_connection((host, int(port)), CONNECT_S).close()
        except (OSError, ValueError, OverflowError) as error:
            raise ClusterError(f"No cluster answers at {address} (HOST:PORT): {error}") from error
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.WARNING}
    if address == LOCAL:
        # Ray would listen on all addresses.
        options |= {"num_cpus": available_cores(), "_node_ip_address": "127.0.0.1"}
    try:
        context = ray.init(address=address, **options)
    except (RuntimeError, ValueError) as error:  # another version of Ray or Python there
        raise ClusterError(f"The cluster at {address} cannot be joined: {error}") from error
    if context.dashboard_url:
        logger.info("Ray's dashboard: http://%s", context.dashboard_url)


def _room(job: Job, cases: int, most_workers: int | None) -> tuple[int, int]:
    """Return how many workers there are for so many cases, and the threads of each.

    Raises:
        ClusterError: there is no room for one.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    cores = [int(node["CPU"]) for node in nodes if node.get("CPU", 0) >= 1]
    if not cores:
        raise ClusterError("No machine of the cluster has a core to give")
    threads = threads_per_worker(job.settings.threads, cores, cases)
    room = worker_count(nodes, threads)
    if not room:
        raise ClusterError(
            f"No machine has {threads} cores and {WORKER_BYTES >> 20} MB for a worker, got {nodes}"
        )
    return min(most_workers or room, room, cases), threads


def _run(
    job: Job,
    seconds: dict[str, float],
    *,
    workers: int | None,
    summary: RunSummary,
    report: Path | None,
) -> int:
    count, threads = _room(job, len(seconds), workers)
    job = replace(job, settings=replace(job.settings, threads=threads))
    actor = ray.remote(Worker).options(
        num_cpus=threads, memory=WORKER_BYTES, max_concurrency=LANES, max_restarts=0
    )
    roster = Roster(summary)
    scheduler = Scheduler(
        seconds,
        start_worker=lambda: actor.remote(job),
        on_case=roster.add_case,
        on_worker=roster.add_worker,
    )
    logger.info("%d cases, %d workers of %d threads", len(seconds), count, threads)
    stop: Stopped | None = None
    problem: InferenceError | None = None
    try:
        stop = asyncio.run(_run_until_stopped(scheduler, count))
        ignore_stops()
    except InferenceError as error:
        if not summary.records:
            raise
        problem = error
    finally:
        summary.close()
    return roster.finish(report, scheduler.lost_workers, stop=stop, problem=problem)


async def _run_until_stopped(scheduler: Scheduler, workers: int) -> Stopped | None:
    """Run all cases, or until a signal; an exception of its handler would be lost in the loop."""
    caught: list[Stopped] = []

    def stop(number: int) -> None:
        caught.append(Stopped(number))
        scheduler.stop()

    loop = asyncio.get_running_loop()
    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, stop, number)
    await scheduler.run(workers)
    return caught[0] if caught else None
