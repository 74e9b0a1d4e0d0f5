from __future__ import annotations

import asyncio

import pytest

pytest.importorskip("torch", reason="training/requirements.txt is not installed")

from benchmarks import simulation
from benchmarks.simulation import (
    VirtualClockLoop,
    ct_seconds,
    main,
    simulate_cluster,
    simulate_shards,
)

SECONDS = [float(1 + number % 50) for number in range(400)]


@pytest.fixture
def even(monkeypatch):
    """Workers that are all alike and never lost."""
    monkeypatch.setattr(simulation, "SPREAD", 0.0)
    monkeypatch.setattr(simulation, "SLOW_SHARE", 0.0)
    monkeypatch.setattr(simulation, "LOSSES_AN_HOUR", 1e-12)
    monkeypatch.setattr(simulation, "LOAD_S", 0.0)
    monkeypatch.setattr(simulation, "HEADER_S", 0.0)


def test_the_clock_leaps_to_the_next_timer():
    loop = VirtualClockLoop()
    order: list[int] = []

    async def wait(seconds: int) -> None:
        await asyncio.sleep(seconds)
        order.append(seconds)

    async def both() -> None:
        await asyncio.gather(wait(7200), wait(3600))

    loop.run_until_complete(both())
    assert (order, loop.time()) == ([3600, 7200], 7200)
    loop.close()


def test_one_worker_takes_the_sum_and_two_the_half(even):
    one, two = (simulate_cluster(SECONDS, count, 0) for count in (1, 2))
    assert one.hours == pytest.approx(sum(SECONDS) / 3600)
    assert two.hours == pytest.approx(one.hours / 2, rel=0.01)
    assert one.efficiency == pytest.approx(1)
    shards = simulate_shards(SECONDS, 2, 0, way="by work")
    assert shards.hours == pytest.approx(two.hours, rel=0.01)


def test_a_large_case_among_many_is_begun_first(even):
    seconds = [100.0, *[1.0] * 300]
    known = simulate_cluster(seconds[::-1], 4, 0)
    hidden = simulate_cluster(seconds[::-1], 4, 0, order="by name")
    assert known.hours == pytest.approx(100 / 3600, rel=0.02)
    assert hidden.hours > 1.5 * known.hours


def test_what_lost_workers_had_is_done_by_others(even, monkeypatch):
    monkeypatch.setattr(simulation, "LOSSES_AN_HOUR", 5.0)
    outcome = simulate_cluster(SECONDS, 4, 0)
    assert outcome.lost_workers > 0
    assert 0.5 < outcome.efficiency < 1


def test_stragglers_hold_shards_up_and_not_the_cluster(monkeypatch):
    monkeypatch.setattr(simulation, "SLOW_SHARE", 0.2)
    cluster = simulate_cluster(SECONDS, 10, 1)
    shards = simulate_shards(SECONDS, 10, 1, way="by work")
    assert shards.hours > 2 * cluster.hours


def test_a_record_is_written(tmp_path, capsys):
    path = tmp_path / "simulation.json"
    assert main(["--cases", "50", "--workers", "2", "--json", str(path)]) == 0
    assert '"cluster, most work first"' in path.read_text()
    with pytest.raises(SystemExit):
        main(["--cases", "50"])
    assert "needs a --json of its own" in capsys.readouterr().err


def test_volumes_are_of_the_sizes_that_are_named():
    import numpy as np

    seconds = ct_seconds(2000, np.random.default_rng(0))
    assert 40 * 0.1 < min(seconds) < np.median(seconds) < max(seconds) < 600
