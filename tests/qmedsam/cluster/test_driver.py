"""How many workers there are, and their threads."""

from __future__ import annotations

from qmedsam.cluster.driver import WORKER_BYTES, threads_per_worker, worker_count


def test_machines_are_full_and_no_more():
    nodes = [{"CPU": 16.0, "memory": 64.0 * WORKER_BYTES}, {"CPU": 3.0, "memory": WORKER_BYTES}]
    assert worker_count(nodes, threads=1) == 17
    assert worker_count(nodes, threads=4) == 4
    assert worker_count([{}], threads=1) == 0


def test_fewer_cases_than_cores_get_more_threads():
    assert threads_per_worker(0, [8, 16], cases=1000) == 1
    assert threads_per_worker(0, [8, 16], cases=6) == 4
    assert threads_per_worker(0, [8, 16], cases=1) == 8
    assert threads_per_worker(3, [8, 16], cases=1000) == 3
