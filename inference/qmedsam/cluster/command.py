"""The command `qmedsam cluster`."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import socket
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray as ray_module

from ..batch.cost import read_works
from ..batch.progress import ProgressBar
from ..batch.report import CaseRecord, Start, render_report
from ..errors import InferenceError
from ..options import (
    add_fault_options,
    add_model_options,
    at_least,
    check_fault_options,
    read_settings,
)
from ..system.files import make_writable, printable, write_bytes
from ..system.memory import peak_memory_bytes
from ..system.processor import available_cores
from ..system.signals import STOP_SIGNALS, Stopped, ignore_stops, stop_on_signals
from ..version import __version__
from .scheduler import ClusterError, Scheduler
from .storage import Storage, StorageError
from .worker import LANES, Description, Job, Worker

ray: Any = ray_module
logger = logging.getLogger(__name__)

DONE, SOME_FAILED, NOTHING_RAN = 0, 1, 2
WORKER_BYTES = 1 << 30  # a volume of 287x512x512 takes 590 MB
LOCAL, AUTO = "local", "auto"
CONNECT_S = 10


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of the command."""
    parser = argparse.ArgumentParser(
        prog="qmedsam cluster",
        description="Segment every case of a folder on the machines of a Ray cluster.",
    )
    parser.add_argument(
        "-i",
        "--input-dir",
        required=True,
        metavar="DIR|URL",
        help="folder of the cases that all machines see, or a URL of fsspec (s3://..., gs://...)",
    )
    parser.add_argument(
        "-o", "--output-dir", required=True, metavar="DIR|URL", help="the same for label maps"
    )
    parser.add_argument(
        "--address",
        default=LOCAL,
        help="HOST:PORT of the cluster; auto is the one that this machine belongs to (default: "
        "%(default)s, one of this machine alone, for this run)",
    )
    parser.add_argument(
        "--workers",
        type=at_least(1),
        metavar="N",
        help="how many (default: as many as cores and memory have room for)",
    )
    add_model_options(parser)
    add_fault_options(parser)
    parser.add_argument(
        "--report", type=Path, metavar="FILE", help="also write what happened as JSON here"
    )
    parser.add_argument("--quiet", action="store_true", help="say nothing but errors")
    return parser


def main(argv: list[str]) -> int:
    """Run the command; 0 all cases done, 1 some failed, 2 nothing could run."""
    started = time.perf_counter()
    parser = build_parser()
    arguments = parser.parse_args(argv[1:])
    check_fault_options(parser, arguments)
    level = logging.ERROR if arguments.quiet else logging.INFO
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    logging.getLogger(__package__).setLevel(level)
    try:
        with stop_on_signals():
            return _prepare_and_run(arguments, started=started)
    except (InferenceError, OSError, ConnectionError) as error:
        logger.error("%s", error)
        return NOTHING_RAN
    except Stopped as stop:
        logger.error("Stopped by %s before the first case", stop)
        return stop.status


def _prepare_and_run(arguments: argparse.Namespace, *, started: float) -> int:
    inputs, outputs = _folders(arguments)
    names = inputs.names()
    if not names:
        raise StorageError(f"Input folder {inputs.url} has no .npz files")
    outputs.make()
    if arguments.report is not None:
        make_writable(arguments.report.parent)
    works = read_works(names, inputs.work)
    seconds = {name: work.seconds for name, work in zip(names, works, strict=True)}
    _join(arguments.address)
    try:
        with stop_on_signals():  # Ray has put its own handlers in place of those before
            return _run(arguments, inputs, outputs, seconds, started=started)
    finally:
        ray.shutdown()
        outputs.tidy()


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


def _folders(arguments: argparse.Namespace) -> tuple[Storage, Storage]:
    folders = [_absolute(text) for text in (arguments.input_dir, arguments.output_dir)]
    if folders[0].is_same(folders[1]):
        raise StorageError(f"Output folder {folders[1].url} is the input folder")
    return folders[0], folders[1]


def _absolute(text: str) -> Storage:
    folder = Storage(text).folder
    return Storage(text if folder is None else str(folder))


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


def _run(
    arguments: argparse.Namespace,
    inputs: Storage,
    outputs: Storage,
    seconds: dict[str, float],
    *,
    started: float,
) -> int:
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    cores = [int(node["CPU"]) for node in nodes if node.get("CPU", 0) >= 1]
    if not cores:
        raise ClusterError("No machine of the cluster has a core to give")
    settings = read_settings(arguments)
    threads = threads_per_worker(settings.threads, cores, len(seconds))
    room = worker_count(nodes, threads)
    count = min(arguments.workers or room, room, len(seconds))
    if not count:
        raise ClusterError(
            f"No machine has {threads} cores and {WORKER_BYTES >> 20} MB for a worker, got {nodes}"
        )
    cache = None if settings.cache_dir is None else settings.cache_dir.absolute()
    job = Job(
        inputs=inputs,
        outputs=outputs,
        settings=replace(settings, threads=threads, cache_dir=cache),
        model_dir=None if arguments.model_dir is None else arguments.model_dir.absolute(),
        on_error=arguments.on_error,
        keeps_earlier=arguments.resume,
    )
    actor = ray.remote(Worker).options(
        num_cpus=threads, memory=WORKER_BYTES, max_concurrency=LANES, max_restarts=0
    )
    run = _Run(len(seconds), None if arguments.quiet else sys.stderr, started)
    scheduler = Scheduler(
        seconds,
        start_worker=lambda: actor.remote(job),
        on_case=run.on_case,
        on_worker=run.on_worker,
    )
    logger.info("%d cases, %d workers of %d threads", len(seconds), count, threads)
    stop: Stopped | None = None
    problem: InferenceError | None = None
    try:
        stop = asyncio.run(_run_until_stopped(scheduler, count))
        ignore_stops()
    except InferenceError as error:
        if not run.has_cases:
            raise
        problem = error
    finally:
        run.bar.close()
    return run.finish(arguments.report, scheduler.lost_workers, stop, problem)


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


class _Run:
    """What has happened so far.

    Args:
        cases: how many there are.
        stream: for the progress bar.
        started: when the command began to run.
    """

    def __init__(self, cases: int, stream: Any, started: float) -> None:
        self.bar = ProgressBar(cases, stream)
        self._records: list[CaseRecord] = []
        self._workers: list[Description] = []
        self._cases_by_worker: Counter[tuple[str, int]] = Counter()
        self._start: Start | None = None
        self._started = started

    def on_worker(self, worker: Description) -> None:
        """Take a worker in.

        Raises:
            ClusterError: it has another version or another model than this command.
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
        if self._start is None:
            self._start = Start(time.perf_counter() - self._started, peak_memory_bytes())
        self._workers.append(worker)

    def on_case(self, record: CaseRecord, worker: Description) -> None:
        self._records.append(record)
        self._cases_by_worker[worker.host, worker.process] += 1
        for note in record.notes:
            logger.warning("%s: %s", printable(record.name), note)
        if record.error is not None:
            logger.error("%s: %s", printable(record.name), record.error)
        self.bar.advance(record.name)

    @property
    def has_cases(self) -> bool:
        """Whether some case is done or has failed."""
        return bool(self._records)

    def finish(
        self,
        report: Path | None,
        lost_workers: int,
        stop: Stopped | None,
        problem: InferenceError | None = None,
    ) -> int:
        """Say how it went, write the report, and return the exit status."""
        failed = sum(record.error is not None for record in self._records)
        wall_s = time.perf_counter() - self._started
        logger.info(
            "%d cases in %.1f s by %d workers, %d of them lost, %d cases failed",
            len(self._records),
            wall_s,
            len(self._workers),
            lost_workers,
            failed,
        )
        if failed:
            logger.error("%d of %d cases failed", failed, len(self._records))
        if stop is not None:
            logger.error("Stopped by %s after %d cases", stop, len(self._records))
        if problem is not None:
            logger.error("The run ends before its cases do: %s", problem)
        status = SOME_FAILED if failed or problem else DONE
        if report is not None and self._start is not None:
            try:
                write_bytes(report, self._report(lost_workers, stop, wall_s).encode())
            except OSError as error:
                logger.error("Report %s cannot be written: %s", report, error)
                status = SOME_FAILED
        return status if stop is None else stop.status

    def _report(self, lost_workers: int, stop: Stopped | None, wall_s: float) -> str:
        assert self._start is not None
        workers = [
            {
                "host": worker.host,
                "process": worker.process,
                "threads": worker.model["threads"],
                "cases": self._cases_by_worker[worker.host, worker.process],
            }
            for worker in self._workers
        ]
        return render_report(
            self._workers[0].model,
            sorted(self._records, key=lambda record: record.name),
            self._start,
            str(stop) if stop else None,
            wall_s=round(wall_s, 4),
            workers=workers,
            lost_workers=lost_workers,
        )
