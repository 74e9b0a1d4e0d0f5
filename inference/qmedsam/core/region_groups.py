"""Boxes parted into groups that share a region; pure.

They begin in one region, which is split in two again and again: where that takes less work, or
where a box is too small in it and there is work left to spend.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .contract import Grid
from .propagation import covered_slices
from .region_rule import Prompted, RegionRule
from .regions import Region
from .work import decoder_gmacs, encoder_gmacs

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]
NEARLY_AS_CHEAP = 1.15  # a grid of so many times the GMACs
LEAST_HELP = 0.05  # doublings of scale, below which a split is not worth work
SPLIT_SHARES = (0.5, 0.25, 0.75)  # of the boxes on one side; and where the widest gap is


@dataclass(frozen=True, eq=False)
class Group:
    """Boxes that share a region.

    Attributes:
        rows: of the boxes, ascending.
        gmacs: what encoding the region and decoding its boxes takes, on all slices.
        lack: how often the scale must be doubled for each box that is too small in it, all added.
    """

    rows: Rows
    region: Region
    gmacs: float
    lack: float


@dataclass(frozen=True, eq=False)
class _Split:
    """A way to part a group.

    Attributes:
        price: the lower the better: the GMACs it takes more, for each doubling of a box's scale
            that it helps by; below 0 those that it saves.
        more: GMACs it takes more.
        halves: the two groups.
    """

    price: float
    more: float
    halves: tuple[Group, Group]


@dataclass(frozen=True, eq=False)
class _Offers:
    """The ways to split a group, the best first; ordered among others by the best."""

    order: int
    group: Group
    splits: tuple[_Split, ...]

    def best(self) -> _Split | None:
        return self.splits[0] if self.splits else None

    def without_best(self) -> _Offers:
        return _Offers(self.order, self.group, self.splits[1:])

    def __lt__(self, other: _Offers) -> bool:
        return self._key() < other._key()

    def _key(self) -> tuple[float, int]:
        return self.splits[0].price if self.splits else np.inf, self.order


class Chooser:
    """The boxes of one image with what does not change while groups are split."""

    def __init__(self, prompted: Prompted, rule: RegionRule, grids: tuple[Grid, ...]) -> None:
        self._prompted, self._rule = prompted, rule
        boxes = prompted.boxes.astype(np.float64)
        self._hw = np.array(prompted.original_hw, dtype=np.float64)
        low, stop = boxes[:, [1, 0]], boxes[:, [3, 2]] + 1.0  # y first
        sides = stop - low
        longest = sides.max(axis=1)
        extents = np.minimum(sides + (rule.context - 1) * longest[:, None], self._hw)
        self._sees_all = longest > rule.whole_share * self._hw.max()
        self._is_small = bool(rule.small_px[0] <= self._hw.max() <= rule.small_px[1])
        self._sees_all |= self._is_small
        extents[self._sees_all] = self._hw
        self._centres = (low + stop) / 2
        self._low, self._stop = _inside(self._centres, extents, self._hw)
        self._grids = sorted(grids, key=encoder_gmacs)
        self._grid_sides = np.array(self._grids, dtype=np.float64)
        self._costs = np.array([encoder_gmacs(grid_hw) for grid_hw in self._grids])
        self._largest_side = float(self._grid_sides.max())
        wanted = np.maximum(
            np.clip(rule.wanted_px / longest, 1.0, rule.largest_enlargement),
            np.minimum(rule.least_px / longest, 2 * rule.largest_enlargement),
        )
        self._alone = np.minimum(wanted, self._largest_side / extents.max(axis=1))
        # Who sees all does so on a square, which may be the only one beside the grids given.
        squares = [{h for h, w in some if h == w} for some in (grids, prompted.grids)]
        self._square_sides = sorted(squares[0] or squares[1])
        self._orders = itertools.count()

    def most_gmacs(self) -> float:
        """Return the bound on the GMACs of all groups, by what whole images would take."""
        largest = max(self._prompted.grids, key=encoder_gmacs)
        whole_scale = self._largest_side / self._hw.max()
        is_lost = ~self._sees_all & (whole_scale < self._rule.lost_scale * self._alone)
        loses_some = bool(self._sees_all.any() and is_lost.any())
        most_work = self._rule.most_work_of(self._prompted, loses_some=loses_some)
        return most_work * self._gmacs(np.arange(len(self._alone)), largest)

    def group(
        self, rows: Rows, *, grid_hw: Grid | None = None, most_scale: float = np.inf
    ) -> Group:
        """Let boxes share a region, on the smallest grid that holds it unless one is given."""
        low, stop = self._low[rows].min(axis=0), self._stop[rows].max(axis=0)
        if (sees_all := self._sees_all[rows]).any():
            region, scale = self._whole(float(self._alone[rows][sees_all].max()), grid_hw)
        else:
            wanted = min(float(self._alone[rows].max()), most_scale)
            region, scale = self._fit(low, stop, wanted, grid_hw)
        doublings = np.log2(self._rule.shared_scale * self._alone[rows] / scale)
        lack = float(np.maximum(0.0, doublings).sum())
        return Group(rows, region, self._gmacs(rows, region.grid_hw), lack)

    def split(self, group: Group, most_gmacs: float) -> list[Group]:
        """Split a group while that takes less work, or helps and is within the bound."""
        done: list[Group] = []
        waiting = [self._offers(group)]  # a heap; of each group the ways to split it, best first
        spent = group.gmacs
        while waiting:
            offers = heapq.heappop(waiting)
            best = offers.best()
            if best is None:
                done.append(offers.group)
            elif best.more > 0 and spent + best.more > most_gmacs:
                heapq.heappush(waiting, offers.without_best())
            else:
                spent += best.more
                for half in best.halves:
                    heapq.heappush(waiting, self._offers(half))
        return done

    def _offers(self, group: Group) -> _Offers:
        """Return the ways to split a group that take less work or help, the best first.

        Those at a smaller scale come after the others, for when these are refused.
        """
        halves = self._halves(group)
        splits = self._splits(group, halves, most_scale=np.inf)
        alone = self._alone[group.rows]
        if alone.max() > 1:
            splits += self._splits(group, halves, most_scale=1.0)
        closer = alone[~self._sees_all[group.rows]]
        if 0 < len(closer) < len(alone):
            most_scale = self._rule.shared_scale * float(closer.max())
            splits += self._splits(group, halves, most_scale=most_scale)
        return _Offers(next(self._orders), group, tuple(splits))

    def _splits(
        self, group: Group, ways: list[tuple[Rows, Rows]], *, most_scale: float
    ) -> list[_Split]:
        splits = []
        for low, high in ways:
            halves = (
                self.group(low, most_scale=most_scale),
                self.group(high, most_scale=most_scale),
            )
            more = sum(half.gmacs for half in halves) - group.gmacs
            helped = group.lack - sum(half.lack for half in halves)
            if more <= 0 and helped >= 0:
                splits.append(_Split(more, more, halves))
            elif helped >= LEAST_HELP:
                splits.append(_Split(more / helped, more, halves))
        return sorted(splits, key=lambda split: split.price)

    def on_fewer_grids(self, groups: list[Group], most_gmacs: float) -> list[Group]:
        """Give up grids whose groups take few GMACs more on another one that is used, too."""
        while moves := self._moves(groups, by_grid(groups)):
            more, moved, there = min(moves, key=lambda move: move[0])
            left = most_gmacs - sum(group.gmacs for group in groups)
            if more > min(left, self._rule.grid_gmacs):
                break
            groups = [group for group in groups if group not in moved] + there
        return groups

    def most_used(self, groups: list[Group]) -> tuple[Grid, ...]:
        """Return the grids of most GMACs, first that on which a box sees all, as many as may be."""
        gmacs = {grid: sum(one.gmacs for one in on_it) for grid, on_it in by_grid(groups).items()}
        seeing = [one.region.grid_hw for one in groups if self._sees_all[one.rows].any()]
        needed = {max(seeing)} if seeing else set()  # squares
        ranked = sorted(gmacs, key=lambda grid: (grid in needed, gmacs[grid]), reverse=True)
        return tuple(ranked[: self._rule.most_grids])

    def on_few_grids(self, groups: list[Group]) -> list[Group]:
        """Give up grids for larger ones, whatever that takes, until few are left."""
        largest = self._grids[-1]
        while len(used := by_grid(groups)) > self._rule.most_grids:
            _, moved, there = min(self._moves(groups, {*used, largest}), key=lambda move: move[0])
            groups = [group for group in groups if group not in moved] + there
        return groups

    def _moves(
        self, groups: list[Group], targets: Iterable[Grid]
    ) -> list[tuple[float, list[Group], list[Group]]]:
        """Return what it takes to give up each used grid for each larger one.

        Args:
            groups: now.
            targets: what grids may be given up for.

        Returns:
            The GMACs it takes more, the groups on the one grid, and what they are on the other.
        """
        moves = []
        for small, moved in by_grid(groups).items():
            for large in targets:
                if large != small and large[0] >= small[0] and large[1] >= small[1]:
                    there = [self.group(group.rows, grid_hw=large) for group in moved]
                    if any(group.region.grid_hw != large for group in there):
                        continue  # who sees all sees it on a square
                    more = sum(group.gmacs for group in there) - sum(one.gmacs for one in moved)
                    moves.append((more, moved, there))
        return moves

    def _halves(self, group: Group) -> list[tuple[Rows, Rows]]:
        """Return ways to part a group: by the centres of its boxes along both axes, and by need."""
        found = []
        for axis in range(2):
            order = group.rows[np.argsort(self._centres[group.rows, axis], kind="stable")]
            steps = np.diff(self._centres[order, axis])
            if not steps.any():
                continue
            cuts = {int(np.argmax(steps)) + 1}
            cuts |= {max(1, min(len(order) - 1, int(share * len(order)))) for share in SPLIT_SHARES}
            found += [(np.sort(order[:cut]), np.sort(order[cut:])) for cut in sorted(cuts)]
        sees_all = self._sees_all[group.rows]
        if sees_all.any() and not sees_all.all():
            found.append((group.rows[sees_all], group.rows[~sees_all]))
        return found

    def _whole(self, scale: float, grid_hw: Grid | None) -> tuple[Region, float]:
        """Return the whole image on the smallest square that holds it, and its scale there.

        Args:
            scale: at which it is wanted.
            grid_hw: instead of the smallest square.
        """
        longer = float(self._hw.max())
        held = np.inf if self._is_small else scale * longer
        reduced = self._rule.largest_reduction * min(held, self._square_sides[-1])
        smallest = next(side for side in self._square_sides if side >= reduced)
        side = smallest if grid_hw is None else min(grid_hw)
        hw = self._prompted.original_hw
        return Region(0, 0, hw, (side, side)), side / longer

    def _fit(
        self, low: Floats, stop: Floats, scale: float, grid_hw: Grid | None
    ) -> tuple[Region, float]:
        """Return the region round a rectangle, and pixels of its grid for one of the original."""
        extent = stop - low
        scale = min(scale, self._largest_side / float(extent.max()))
        if grid_hw is None:
            grid_hw = self._best_grid(extent, scale)
        grid = np.array(grid_hw, dtype=np.float64)
        scale = min(scale, float((grid / extent).min()))
        # What the grid has room for is seen, too.
        hw = np.minimum(np.floor(grid / scale + 0.5), self._hw)
        first, _ = _inside((low + stop) / 2, hw, self._hw)
        top, left = (int(value) for value in np.floor(first + 0.5))
        return Region(top, left, (int(hw[0]), int(hw[1])), grid_hw), scale

    def _best_grid(self, extent: Floats, scale: float) -> Grid:
        """Return the cheapest grid that holds a rectangle, or a better one that is little dearer.

        Args:
            extent: of the rectangle.
            scale: at which it is wanted; it is reduced to fit by `largest_reduction` at most.
        """
        fits = np.all(self._grid_sides >= extent * scale * self._rule.largest_reduction, axis=1)
        if fits.any():
            fits &= self._costs <= NEARLY_AS_CHEAP * self._costs[fits].min()
        else:  # of few grids none may hold it
            fits[:] = True
        scales = np.minimum(scale, (self._grid_sides / extent).min(axis=1))
        return self._grids[int(np.argmax(np.where(fits, scales, 0.0)))]

    def _gmacs(self, rows: Rows, grid_hw: Grid) -> float:
        slices = self._prompted.slices[rows]
        decodes = int((slices[:, 1] - slices[:, 0] + 1).sum())
        return covered_slices(slices) * encoder_gmacs(grid_hw) + decodes * decoder_gmacs(grid_hw)


def _inside(centres: Floats, extents: Floats, hw: Floats) -> tuple[Floats, Floats]:
    """Return first and end of rectangles round centres, moved into the image."""
    low = np.clip(centres - extents / 2, 0, hw - extents)
    return low, low + extents


def by_grid(groups: list[Group]) -> dict[Grid, list[Group]]:
    """Return groups by the grids of their regions."""
    found: dict[Grid, list[Group]] = {}
    for group in groups:
        found.setdefault(group.region.grid_hw, []).append(group)
    return found
