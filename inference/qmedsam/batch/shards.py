"""Parts of a folder for machines that do not talk to each other."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..core.planning import Planner
from .cases import read_outline
from .cost import read_works


@dataclass(frozen=True)
class Shard:
    """One of several parts.

    Attributes:
        index: from 0.
        count: of all parts.
    """

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read `I/N`.

        Raises:
            ValueError: it is no such text, or I is not from 0 to N - 1.
        """
        index, separator, count = text.partition("/")
        if not (separator and index.isdecimal() and count.isdecimal()):
            raise ValueError(f"must be I/N, got {text!r}")
        if int(index) >= int(count):
            raise ValueError(f"must be I/N with I from 0 to N - 1, got {text!r}")
        return cls(int(index), int(count))


def cases_of_shard(paths: Sequence[Path], shard: Shard, planner: Planner) -> list[Path]:
    """Return the cases of a shard, in their order.

    Whoever asks for another shard of the same cases, with the same planner, gets others, and all
    shards have all of them.
    """
    costs = [work.seconds for work in read_works(paths, planner, read_outline)]
    places = assign(costs, shard.count)
    return [path for path, place in zip(paths, places, strict=True) if place == shard.index]


def assign(costs: Sequence[float], count: int) -> list[int]:
    """Deal out cases: the most costly first, each to the shard that has least so far.

    The largest load is at most 4/3 of the smallest that is possible (Graham, 1969).

    Args:
        costs: of the cases.
        count: of the shards.

    Returns:
        The shard of each case.
    """
    # The first cases go to a shard each, and shards beyond their number have none.
    loads = [(0.0, index) for index in range(min(count, len(costs)))]
    places = [0] * len(costs)
    for case in sorted(range(len(costs)), key=lambda case: (-costs[case], case)):
        load, index = heapq.heappop(loads)
        places[case] = index
        heapq.heappush(loads, (load + costs[case], index))
    return places
