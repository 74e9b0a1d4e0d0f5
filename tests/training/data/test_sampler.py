"""How many slices an epoch has, and how ranks share them."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

pytest.importorskip("torch", reason="training/requirements.txt is not installed")

from training.data.index import FileEntry, ModalityIndex
from training.data.sampler import (
    Draw,
    EpochSampler,
    draw_by_file,
    draw_evenly,
    slices_per_modality,
)

pytestmark = pytest.mark.training

COUNTS = {"CT": 1000, "MR": 55, "US": 7}


def make_index(**slices: list[int]) -> dict[str, ModalityIndex]:
    """Return an index of files with so many slices each."""
    return {
        name: ModalityIndex(
            tuple(FileEntry(f"{name}/{i}", 0, 0, tuple(range(n))) for i, n in enumerate(counts))
        )
        for name, counts in slices.items()
    }


INDEX = make_index(CT=[6, 4], US=[1, 1, 1])


def make_sampler(rule="all", **options) -> EpochSampler:
    return EpochSampler(INDEX, rule, **{"seed": 1, "batch_size": 2, **options})


def drawn(sampler: EpochSampler) -> list[tuple[str, int]]:
    return [(draw.modality, draw.number) for batch in sampler for draw in batch]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("min", {"CT": 7, "MR": 7, "US": 7}),
        ("tenth", {"CT": 100, "MR": 7, "US": 7}),
        ("all", COUNTS),
        (900, {"CT": 900, "MR": 900, "US": 900}),
    ],
)
def test_a_rule_says_how_many_slices_of_each_modality(rule, expected):
    assert slices_per_modality(COUNTS, rule) == expected


@pytest.mark.parametrize("rule", ["most", 0, -1, True, 2.0])
def test_another_rule_is_refused(rule):
    with pytest.raises(ValueError, match="min, tenth, all or a number above 0"):
        slices_per_modality(COUNTS, rule)


@pytest.mark.parametrize("counts", [{}, {"CT": 3, "US": 0}], ids=["none", "without-slices"])
def test_modalities_without_slices_are_refused(counts):
    with pytest.raises(ValueError, match="must have slices"):
        slices_per_modality(counts, "min")


def test_slices_repeat_only_after_a_whole_pass():
    generator = np.random.default_rng(0)
    assert sorted(draw_evenly(5, 5, generator)) == [0, 1, 2, 3, 4]
    assert len(set(draw_evenly(5, 3, generator).tolist())) == 3
    assert sorted(Counter(draw_evenly(5, 12, generator).tolist()).values()) == [2, 2, 2, 3, 3]


def test_files_are_drawn_as_often_as_each_other():
    numbers = draw_by_file([100, 101, 103], 300, np.random.default_rng(0))
    files = Counter(np.searchsorted([100, 101, 103], numbers, side="right").tolist())
    assert files == {0: 100, 1: 100, 2: 100}
    assert set(numbers[numbers >= 100].tolist()) == {100, 101, 102}
    assert len(set(numbers[numbers < 100].tolist())) > 50


def test_a_sampler_can_balance_files():
    index = make_index(CT=[50, 1])
    sampler = EpochSampler(index, 10, seed=0, batch_size=1, balance="files")
    assert [number == 50 for _, number in drawn(sampler)].count(True) == 5


def test_a_sampler_can_balance_data_sets_and_the_files_within():
    entries = [
        *(FileEntry(f"CT/Large/{i}.npz", 0, 0, (0,)) for i in range(8)),
        FileEntry("CT/Small/a.npz", 0, 0, tuple(range(100))),
        FileEntry("CT/Small/b.npz", 0, 0, (0,)),
    ]
    index = {"CT": ModalityIndex(tuple(entries))}
    sampler = EpochSampler(index, 32, seed=0, batch_size=1, balance="datasets")
    files = Counter(index["CT"].locate(number)[0].path for _, number in drawn(sampler))
    assert files == {
        **{f"CT/Large/{i}.npz": 2 for i in range(8)},
        "CT/Small/a.npz": 8,
        "CT/Small/b.npz": 8,
    }


def test_an_epoch_shows_every_slice_once():
    everything = [("CT", n) for n in range(10)] + [("US", n) for n in range(3)]
    batches = list(make_sampler(batch_size=4))
    assert [len(batch) for batch in batches] == [4, 4, 4, 4]
    shown = [(draw.modality, draw.number) for batch in batches for draw in batch]
    assert sorted(shown[:13]) == everything
    assert shown[13:] == shown[:3]
    assert [draw.position for batch in batches for draw in batch] == list(range(16))


def steps_of(world_size, first_step=0) -> list[list[Draw]]:
    """Return what all ranks together draw in each step of four slices."""
    samplers = [
        make_sampler(rank=rank, world_size=world_size, batch_size=4 // world_size)
        for rank in range(world_size)
    ]
    for sampler in samplers:
        assert len(sampler) == 4
        sampler.set_epoch(0, first_step)
    return [[draw for batch in step for draw in batch] for step in zip(*samplers, strict=True)]


@pytest.mark.parametrize("world_size", [2, 4])
def test_ranks_share_all_slices_without_overlap_and_have_as_many_batches(world_size):
    steps = steps_of(world_size)
    assert steps == list(make_sampler(batch_size=4))
    positions = [draw.position for step in steps for draw in step]
    assert positions == list(range(16))
    assert len({(draw.modality, draw.number) for step in steps for draw in step}) == 13


@pytest.mark.parametrize("world_size", [1, 2])
def test_fewer_ranks_go_on_with_the_batches_that_more_would_have_had(world_size):
    assert steps_of(4)[:2] + steps_of(world_size, first_step=2) == steps_of(4)


def test_the_order_depends_on_seed_and_epoch_alone():
    sampler = make_sampler()
    before = drawn(sampler)
    assert drawn(sampler) == before == drawn(make_sampler())
    assert drawn(make_sampler(seed=2)) != before
    sampler.set_epoch(1)
    assert drawn(sampler) != before
    assert next(iter(sampler))[0].epoch == 1
    sampler.set_epoch(0)
    assert drawn(sampler) == before


def test_each_epoch_draws_other_slices_of_a_large_modality():
    sampler = make_sampler("min")
    shown = set()
    for epoch in range(20):
        sampler.set_epoch(epoch)
        shown.update(drawn(sampler))
        assert len(sampler) == 3
    assert len(shown) == 13


def test_resuming_yields_the_rest_of_the_epoch():
    sampler = make_sampler()
    sampler.set_epoch(3)
    whole = list(sampler)
    sampler.set_epoch(3, start_batch=5)
    assert list(sampler) == whole[5:]
    assert len(sampler) == 7
    sampler.set_epoch(3, start_batch=7)
    assert list(sampler) == []


def test_fewer_slices_than_ranks_are_repeated():
    index = make_index(US=[1])
    ranks = [EpochSampler(index, "all", seed=0, batch_size=2, rank=r, world_size=2) for r in (0, 1)]
    assert [list(rank) for rank in ranks] == [
        [[Draw("US", 0, 0, 0), Draw("US", 0, 0, 1)]],
        [[Draw("US", 0, 0, 2), Draw("US", 0, 0, 3)]],
    ]


@pytest.mark.parametrize("options", [{"batch_size": 0}, {"rank": 1}, {"rank": -1}])
def test_impossible_batches_and_ranks_are_refused(options):
    with pytest.raises(ValueError, match="ranks lie in 0 to 0"):
        make_sampler(**options)


@pytest.mark.parametrize("start_batch", [-1, 8])
def test_a_start_outside_the_epoch_is_refused(start_batch):
    with pytest.raises(ValueError, match=f"0 to 7, got {start_batch}"):
        make_sampler().set_epoch(0, start_batch)
