"""Which slices an epoch shows and in which order, on one or several devices.

The order is a function of seed and epoch alone. Batches of all ranks are consecutive parts of it,
so that the batches of a step do not depend on how many devices share them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from training.data.index import DataIndex, ModalityIndex

Numbers = NDArray[np.integer[Any]]

Balance = Literal["slices", "files", "datasets"]

SLICE_RULES = ("min", "tenth", "all")
SLICE_RULE_TEXT = f"must be one of {', '.join(SLICE_RULES)} or a number above 0"


@dataclass(frozen=True)
class Draw:
    """One slice of one epoch.

    Attributes:
        number: of the slice in the index of its modality.
        position: in the order of the epoch, over all ranks.
    """

    modality: str
    number: int
    epoch: int
    position: int


def is_slice_rule(rule: object) -> bool:
    """Say whether `slices_per_modality` knows a rule."""
    if isinstance(rule, int) and not isinstance(rule, bool):
        return rule > 0
    return rule in SLICE_RULES


def slices_per_modality(counts: Mapping[str, int], rule: str | int) -> dict[str, int]:
    """Return how many slices of each modality an epoch shows.

    Args:
        counts: slices there are, N(m), at least one each.
        rule: `min`, the smallest N of all, as the paper samples; `tenth`, N(m) / 10 but at least
            that; `all`, N(m); or the number itself.

    Raises:
        ValueError: another rule, or a modality without slices.
    """
    if not counts or min(counts.values()) < 1:
        raise ValueError(f"Every modality must have slices, got {dict(counts)}")
    if not is_slice_rule(rule):
        raise ValueError(f"Slices {SLICE_RULE_TEXT}, got {rule!r}")
    smallest = min(counts.values())
    if isinstance(rule, int):
        return dict.fromkeys(counts, rule)
    if rule == "min":
        return dict.fromkeys(counts, smallest)
    if rule == "tenth":
        return {modality: max(count // 10, smallest) for modality, count in counts.items()}
    return dict(counts)


def draw_evenly(available: int, wanted: int, generator: np.random.Generator) -> Numbers:
    """Draw `wanted` of the numbers below `available`: whole passes, and at random the rest."""
    passes, rest = divmod(wanted, available)
    whole = np.tile(np.arange(available), passes)
    drawn = np.concatenate([whole, generator.permutation(available)[:rest]])
    return generator.permutation(drawn)


def draw_by_file(ends: Sequence[int], wanted: int, generator: np.random.Generator) -> Numbers:
    """Draw files evenly, and of each a slice at random, which may be one drawn before.

    Args:
        ends: how many slices there are up to and with each file.
        wanted: how many to draw.
        generator: decides.
    """
    last = np.asarray(ends)
    first = np.concatenate([[0], last[:-1]])
    files = draw_evenly(len(last), wanted, generator)
    return generator.integers(first[files], last[files])


def draw_by_dataset(part: ModalityIndex, wanted: int, generator: np.random.Generator) -> Numbers:
    """Draw data sets evenly, files of each evenly, and of each file a slice at random."""
    last = np.asarray(part.ends)
    first = np.concatenate([[0], last[:-1]])
    datasets = list(part.datasets.values())
    chosen = draw_evenly(len(datasets), wanted, generator)
    numbers = np.empty(wanted, dtype=np.intp)
    for place, members in enumerate(datasets):
        rows = np.flatnonzero(chosen == place)
        files = np.asarray(members)[draw_evenly(len(members), len(rows), generator)]
        numbers[rows] = generator.integers(first[files], last[files])
    return numbers


def shuffled_draws(
    index: DataIndex,
    rule: str | int,
    *,
    seed: int,
    epoch: int,
    balance: Balance = "slices",
) -> tuple[NDArray[np.str_], Numbers]:
    """Return modalities and numbers of the slices of one epoch, in its order."""
    generator = np.random.default_rng((seed, epoch))
    wanted = slices_per_modality({name: len(part) for name, part in index.items()}, rule)

    def draw(part: ModalityIndex, count: int) -> Numbers:
        if balance == "files":
            return draw_by_file(part.ends, count, generator)
        if balance == "datasets":
            return draw_by_dataset(part, count, generator)
        return draw_evenly(len(part), count, generator)

    numbers = np.concatenate([draw(index[name], count) for name, count in wanted.items()])
    modalities = np.repeat(list(wanted), list(wanted.values()))
    order = generator.permutation(len(numbers))
    return modalities[order], numbers[order]


class EpochSampler:
    """Yields the batches of one rank for one epoch; a `batch_sampler` of a loader.

    Slices from the beginning fill up the last batches, so that every rank has as many.

    Args:
        index: of the data.
        rule: of `slices_per_modality`.
        seed: of the whole training.
        rank: which of the devices this is.
        world_size: how many devices there are.
        batch_size: of one device.
        balance: what of a modality is drawn evenly: `slices`, so that a volume of many is drawn as
            much more often; `files`; or `datasets`, and files within them.
    """

    def __init__(
        self,
        index: DataIndex,
        rule: str | int,
        *,
        seed: int,
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
        balance: Balance = "slices",
    ) -> None:
        if batch_size < 1 or not 0 <= rank < world_size:
            raise ValueError(
                f"Batches must hold a slice and ranks lie in 0 to {world_size - 1}, "
                f"got {batch_size} and {rank}"
            )
        counts = {name: len(part) for name, part in index.items()}
        total = sum(slices_per_modality(counts, rule).values())
        self._batches = -(-total // (batch_size * world_size))
        self._index, self._rule, self._seed = index, rule, seed
        self._rank, self._world_size, self._batch_size = rank, world_size, batch_size
        self._balance = balance
        self.set_epoch(0)

    def set_epoch(self, epoch: int, start_batch: int = 0) -> None:
        """Choose what is yielded next: an epoch, or what it has left after some batches."""
        if not 0 <= start_batch <= self._batches:
            raise ValueError(f"First batch must be 0 to {self._batches}, got {start_batch}")
        self._epoch, self._start_batch = epoch, start_batch

    def __len__(self) -> int:
        """Return the batches of a whole epoch for one rank."""
        return self._batches

    def __iter__(self) -> Iterator[list[Draw]]:
        """Yield the batches that are left of the epoch."""
        epoch = self._epoch
        modalities, numbers = shuffled_draws(
            self._index,
            self._rule,
            seed=self._seed,
            epoch=epoch,
            balance=self._balance,
        )
        for batch in range(self._start_batch, self._batches):
            first = (batch * self._world_size + self._rank) * self._batch_size
            yield [
                Draw(str(modalities[at]), int(numbers[at]), epoch, position)
                for position in range(first, first + self._batch_size)
                for at in [position % len(numbers)]
            ]
