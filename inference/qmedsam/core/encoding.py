"""Regions of slices encoded in the order in which they are visited, the next while one is used.

Each is encoded once and kept while it is needed; of slices that are equal the first is encoded.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..system.deflate import deflate
from .contract import Grid
from .embeddings import EmbeddingStore, EncodedImage
from .propagation import Visit
from .regions import Region, SliceRegion

Slices = Sequence[NDArray[np.uint8]] | NDArray[np.uint8]  # images of one size


@dataclass(frozen=True)
class Stop:
    """A visit to one region of a slice.

    Attributes:
        visit: with the objects of that region alone.
        region: of the slice.
    """

    visit: Visit
    region: Region


def stops_of(visits: Sequence[Visit], region_of: Callable[[int, int], Region]) -> Iterable[Stop]:
    """Yield for each visit a stop at each region of its objects, in the order of the objects.

    Args:
        visits: in order.
        region_of: an object, by the step of the visit; it is asked when the visit's turn comes.
    """
    for visit in visits:
        by_region: dict[Region, list[int]] = {}
        for index in visit.objects:
            by_region.setdefault(region_of(index, visit.step), []).append(index)
        for region, objects in by_region.items():
            yield Stop(Visit(visit.z, tuple(objects), visit.step), region)


def visits_by_grid(visits: Sequence[Visit], grid_of: Callable[[int], Grid]) -> list[Visit]:
    """Return visits grid by grid, in order on each, so that encoders need not take turns.

    Args:
        visits: in order.
        grid_of: an object; the order of grids is that in which objects are first visited.
    """
    grids = dict.fromkeys(grid_of(index) for visit in visits for index in visit.objects)
    return [
        Visit(visit.z, objects, visit.step)
        for grid_hw in grids
        for visit in visits
        if (objects := tuple(i for i in visit.objects if grid_of(i) == grid_hw))
    ]


def encoded_stops(
    stops: Iterable[Stop],
    planned: Sequence[Stop],
    originals: dict[int, int],
    encode: Callable[[SliceRegion], EncodedImage],
) -> Generator[tuple[Stop, EncodedImage]]:
    """Yield each stop with its region encoded, while a thread encodes that of the next.

    Args:
        stops: in order; each is asked for when the one before it is yielded.
        planned: the stops that are expected, which say what will be needed again.
        originals: of `first_equal_slices`.
        encode: a region of a slice.
    """
    left = Counter(encoded_part(stop, originals) for stop in planned)
    held: set[SliceRegion] = set()  # in the store, or on their way there
    ahead: deque[tuple[Stop, SliceRegion, Future[EncodedImage] | None]] = deque()
    store = EmbeddingStore()

    def arrived() -> tuple[Stop, EncodedImage]:
        stop, part, running = ahead.popleft()
        encoded = store.take(part) if running is None else running.result()
        if encoded is None:
            raise KeyError(part)
        left[part] -= 1
        if left[part] > 0 or any(part == other for _, other, _ in ahead):
            store.put(part, encoded)
        else:
            held.discard(part)
        return stop, encoded

    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="encode") as thread, closing(store):
        for stop in stops:
            part = encoded_part(stop, originals)
            ahead.append((stop, part, None if part in held else thread.submit(encode, part)))
            held.add(part)
            if len(ahead) > 1:
                yield arrived()
        while ahead:
            yield arrived()


def first_equal_slices(slices: Slices, chosen: Sequence[int]) -> dict[int, int]:
    """Return for each of the chosen slices the first of them that it equals, mostly itself."""
    if len(set(chosen)) == 1:  # an image may be large, and has nothing to be compared with
        return {chosen[0]: chosen[0]}
    by_checksum: dict[int, int] = {}
    firsts: dict[int, int] = {}
    for z in chosen:
        if z not in firsts:
            checksum = deflate.crc32(np.ascontiguousarray(slices[z]).data)
            first = by_checksum.setdefault(checksum, z)
            is_same = first == z or np.array_equal(slices[first], slices[z])
            firsts[z] = first if is_same else z
    return firsts


def encoded_part(stop: Stop, originals: dict[int, int]) -> SliceRegion:
    """Return what is encoded for a stop; see `first_equal_slices`."""
    return SliceRegion(originals[stop.visit.z], stop.region)
