"""How regions are chosen; pure.

A box alone gets a region of a few times its side, near its own resolution, on the smallest grid
that holds it. Boxes begin in one region, which is split in two again and again: where that takes
less work, or where a box is too small in it and there is work left to spend.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .contract import Grid
from .geometry import Boxes
from .regions import Region, RegionPlan
from .work import decoder_gmacs, encoder_gmacs

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]
LEAST_HELP = 0.05  # doublings of scale, below which a split is not worth work
SPLIT_SHARES = (0.5, 0.25, 0.75)  # of the boxes on one side; and where the widest gap is


@dataclass(frozen=True)
class Prompted:
    """Boxes that want regions.

    Attributes:
        boxes: (N, 4), inside the image.
        slices: (N, 2), the first and the last slice of each, both inclusive; zeros of an image.
        original_hw: of the image, or of each slice.
        grids: to choose from; the largest is what a whole image is compared with.
    """

    boxes: Boxes
    slices: NDArray[np.int64]
    original_hw: tuple[int, int]
    grids: tuple[Grid, ...]


@dataclass(frozen=True)
class RegionRule:
    """The numbers that regions are chosen by; docs/decisions.md has the figures behind them.

    Attributes:
        context: sides of a box that its region has, at least.
        whole_share: of the image; round a longer box the whole image is seen, on a square as the
            network was trained to, near its own resolution.
        small_px: an image whose longer side is at most this is seen whole, on the largest square.
        wanted_px: a box is enlarged until it is so long on the grid,
        largest_enlargement: but by this factor at most,
        least_px: or by twice that until it is so long.
        largest_reduction: a region may be reduced to so much to fit a smaller grid.
        shared_scale: a box keeps so much of the scale that it would have alone.
        grid_gmacs: what one more grid must save, as an encoder of it has to be made ready first.
        most_grids: of an image or volume.
        few_boxes: an image of so many boxes takes no more work than whole;
        many_boxes: of so many or more it takes `most_work` times as much at most, in between less.
        most_work: see there; boxes on several slices take no more than whole.
    """

    context: float = 2.5
    whole_share: float = 0.45
    small_px: int = 64
    wanted_px: float = 48.0
    largest_enlargement: float = 2.0
    least_px: float = 16.0
    largest_reduction: float = 0.85
    shared_scale: float = 0.6
    grid_gmacs: float = 20.0
    most_grids: int = 3
    few_boxes: int = 4
    many_boxes: int = 16
    most_work: float = 2.0

    def most_work_of(self, prompted: Prompted) -> float:
        """Return the bound on the GMACs of boxes, in multiples of what whole images take."""
        if np.ptp(prompted.slices) > 0:
            return 1.0
        share = (len(prompted.boxes) - self.few_boxes) / (self.many_boxes - self.few_boxes)
        return 1.0 + (self.most_work - 1.0) * min(1.0, max(0.0, share))


RULE = RegionRule()


def plan_regions(prompted: Prompted, rule: RegionRule = RULE) -> RegionPlan:
    """Choose regions for boxes."""
    count = len(prompted.boxes)
    if count == 0:
        return RegionPlan((), ())
    # Centres are often equal along an axis; sorted, boxes in any order are parted alike.
    order = np.lexsort((*prompted.slices.T, *prompted.boxes.T))
    in_order = replace(prompted, boxes=prompted.boxes[order], slices=prompted.slices[order])
    groups = _groups(in_order, rule)
    if len(used := _gmacs_by_grid(groups)) > rule.most_grids:
        kept = sorted(used, key=lambda grid_hw: used[grid_hw])[-rule.most_grids :]
        groups = _groups(in_order, rule, tuple(kept))
    groups.sort(key=lambda group: int(group.rows[0]))
    of_object = np.empty(count, dtype=np.intp)
    for place, group in enumerate(groups):
        of_object[order[group.rows]] = place
    return RegionPlan(
        tuple(group.region for group in groups), tuple(int(place) for place in of_object)
    )


def _groups(
    prompted: Prompted, rule: RegionRule, grids: tuple[Grid, ...] | None = None
) -> list[_Group]:
    """Return boxes by region, on all grids or on some."""
    chooser = _Chooser(prompted, rule, grids or prompted.grids)
    most_gmacs = rule.most_work_of(prompted) * chooser.whole_gmacs()
    groups = chooser.split(chooser.group(np.arange(len(prompted.boxes))), most_gmacs)
    return chooser.on_fewer_grids(groups, rule.grid_gmacs)


def _gmacs_by_grid(groups: list[_Group]) -> dict[Grid, float]:
    found: dict[Grid, float] = {}
    for group in groups:
        grid_hw = group.region.grid_hw
        found[grid_hw] = found.get(grid_hw, 0.0) + group.gmacs
    return found


@dataclass(frozen=True, eq=False)
class _Group:
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
    halves: tuple[_Group, _Group]


@dataclass(frozen=True, eq=False)
class _Offers:
    """The ways to split a group, the best first; ordered among others by the best."""

    order: int
    group: _Group
    splits: tuple[_Split, ...]

    def best(self) -> _Split | None:
        return self.splits[0] if self.splits else None

    def without_best(self) -> _Offers:
        return _Offers(self.order, self.group, self.splits[1:])

    def __lt__(self, other: _Offers) -> bool:
        return self._key() < other._key()

    def _key(self) -> tuple[float, int]:
        return self.splits[0].price if self.splits else np.inf, self.order


class _Chooser:
    """The boxes of one image with what does not change while groups are split."""

    def __init__(self, prompted: Prompted, rule: RegionRule, grids: tuple[Grid, ...]) -> None:
        self._prompted, self._rule = prompted, rule
        boxes = prompted.boxes.astype(np.float64)
        self._hw = np.array(prompted.original_hw, dtype=np.float64)
        low, stop = boxes[:, [1, 0]], boxes[:, [3, 2]] + 1.0  # y first
        sides = stop - low
        longest = sides.max(axis=1)
        extents = np.minimum(sides + (rule.context - 1) * longest[:, None], self._hw)
        self._sees_all = (sides / self._hw).max(axis=1) > rule.whole_share
        self._sees_all |= self._hw.max() <= rule.small_px
        extents[self._sees_all] = self._hw
        self.centres: Floats = (low + stop) / 2
        self._low, self._stop = _inside(self.centres, extents, self._hw)
        self._grids = sorted(grids, key=encoder_gmacs)
        self._grid_sides = np.array(self._grids, dtype=np.float64)
        self._largest_side = float(self._grid_sides.max())
        wanted = np.maximum(
            np.clip(rule.wanted_px / longest, 1.0, rule.largest_enlargement),
            np.minimum(rule.least_px / longest, 2 * rule.largest_enlargement),
        )
        wanted[self._sees_all] = 1.0
        self._alone = np.minimum(wanted, self._largest_side / extents.max(axis=1))
        self._square_sides = sorted({h for h, w in prompted.grids if h == w})
        self._orders = iter(range(1 << 62))

    def whole_gmacs(self) -> float:
        """Return what the largest grid would take for the whole image on all slices."""
        largest = max(self._prompted.grids, key=encoder_gmacs)
        return self._gmacs(np.arange(len(self._alone)), largest)

    def group(
        self, rows: Rows, *, grid_hw: Grid | None = None, most_scale: float = np.inf
    ) -> _Group:
        """Let boxes share a region, on the smallest grid that holds it unless one is given."""
        low, stop = self._low[rows].min(axis=0), self._stop[rows].max(axis=0)
        if self._sees_all[rows].any():
            region, scale = self._whole(grid_hw)
        else:
            wanted = min(float(self._alone[rows].max()), most_scale)
            region, scale = self._fit(low, stop, wanted, grid_hw)
        doublings = np.log2(self._rule.shared_scale * self._alone[rows] / scale)
        lack = float(np.maximum(0.0, doublings).sum())
        return _Group(rows, region, self._gmacs(rows, region.grid_hw), lack)

    def split(self, group: _Group, most_gmacs: float) -> list[_Group]:
        """Split a group while that takes less work, or helps and is within the bound."""
        done: list[_Group] = []
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

    def _offers(self, group: _Group) -> _Offers:
        """Return the ways to split a group that take less work or help, the best first."""
        splits = []
        for halves in self._halves(group):
            more = sum(half.gmacs for half in halves) - group.gmacs
            helped = group.lack - sum(half.lack for half in halves)
            if more <= 0:
                splits.append(_Split(more, more, halves))
            elif helped >= LEAST_HELP:
                splits.append(_Split(more / helped, more, halves))
        splits.sort(key=lambda split: split.price)
        return _Offers(next(self._orders), group, tuple(splits))

    def on_fewer_grids(self, groups: list[_Group], most_gmacs: float) -> list[_Group]:
        """Give up grids whose groups take few GMACs more on another one that is used, too."""
        while moves := self._moves(groups):
            more, grid_hw, moved = min(moves, key=lambda move: move[0])
            if more > most_gmacs:
                break
            stay = [group for group in groups if group not in moved]
            groups = stay + [self.group(group.rows, grid_hw=grid_hw) for group in moved]
        return groups

    def _moves(self, groups: list[_Group]) -> list[tuple[float, Grid, list[_Group]]]:
        """Return what it takes to give up each used grid for each larger one."""
        on_grid: dict[Grid, list[_Group]] = {}
        for group in groups:
            on_grid.setdefault(group.region.grid_hw, []).append(group)
        moves = []
        for small, moved in on_grid.items():
            for large in on_grid:
                if large != small and large[0] >= small[0] and large[1] >= small[1]:
                    more = sum(self._gmacs(group.rows, large) - group.gmacs for group in moved)
                    moves.append((more, large, moved))
        return moves

    def _halves(self, group: _Group) -> list[tuple[_Group, _Group]]:
        """Return ways to split a group, by the centres of its boxes along both axes.

        Each once with the scales that boxes would have alone, and once without enlargement.
        """
        found = []
        for axis in range(2):
            order = group.rows[np.argsort(self.centres[group.rows, axis], kind="stable")]
            steps = np.diff(self.centres[order, axis])
            if not steps.any():
                continue
            cuts = {int(np.argmax(steps)) + 1}
            cuts |= {max(1, min(len(order) - 1, int(share * len(order)))) for share in SPLIT_SHARES}
            for cut in sorted(cuts):
                rows = np.sort(order[:cut]), np.sort(order[cut:])
                found.append((self.group(rows[0]), self.group(rows[1])))
                if self._alone[group.rows].max() > 1:
                    found.append(
                        (self.group(rows[0], most_scale=1), self.group(rows[1], most_scale=1))
                    )
        return found

    def _whole(self, grid_hw: Grid | None) -> tuple[Region, float]:
        """Return the whole image on the smallest square that holds it, and its scale there."""
        longer = float(self._hw.max())
        held = np.inf if longer <= self._rule.small_px else longer
        reduced = self._rule.largest_reduction * min(held, self._square_sides[-1])
        side = min(grid_hw or (self._smallest_square(reduced),) * 2)
        hw = self._prompted.original_hw
        return Region(0, 0, hw, (side, side)), side / longer

    def _fit(
        self, low: Floats, stop: Floats, scale: float, grid_hw: Grid | None
    ) -> tuple[Region, float]:
        """Return the region round a rectangle, and pixels of its grid for one of the original."""
        extent = stop - low
        scale = min(scale, self._largest_side / float(extent.max()))
        if grid_hw is None:
            reduced = extent * scale * self._rule.largest_reduction
            cheapest = int(np.argmax(np.all(self._grid_sides >= reduced, axis=1)))
            grid_hw = self._grids[cheapest]
        grid = np.array(grid_hw, dtype=np.float64)
        scale = min(scale, float((grid / extent).min()))
        # What the grid has room for is seen, too.
        hw = np.minimum(np.floor(grid / scale + 0.5), self._hw)
        first, _ = _inside((low + stop) / 2, hw, self._hw)
        top, left = (int(value) for value in np.floor(first + 0.5))
        return Region(top, left, (int(hw[0]), int(hw[1])), grid_hw), scale

    def _smallest_square(self, least: float) -> int:
        return next(side for side in self._square_sides if side >= least)

    def _gmacs(self, rows: Rows, grid_hw: Grid) -> float:
        slices = self._prompted.slices[rows]
        decodes = int((slices[:, 1] - slices[:, 0] + 1).sum())
        return _covered(slices) * encoder_gmacs(grid_hw) + decodes * decoder_gmacs(grid_hw)


def _inside(centres: Floats, extents: Floats, hw: Floats) -> tuple[Floats, Floats]:
    """Return first and end of rectangles round centres, moved into the image."""
    low = np.clip(centres - extents / 2, 0, hw - extents)
    return low, low + extents


def _covered(slices: NDArray[np.int64]) -> int:
    """Return how many slices ranges cover together."""
    first, last = slices[np.argsort(slices[:, 0], kind="stable")].T
    reached = np.maximum.accumulate(last)
    begins = np.maximum(first[1:], reached[:-1] + 1)
    return int(last[0] - first[0] + 1 + np.maximum(0, reached[1:] - begins + 1).sum())
