"""Slices encoded in the order in which they are visited, the next one while one is worked on.

Each is encoded once and kept while it is needed; of slices that are equal the first is encoded.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing

import numpy as np
from numpy.typing import NDArray

from ..system.deflate import deflate
from .embeddings import EmbeddingStore, EncodedImage
from .propagation import Visit

Slices = Sequence[NDArray[np.uint8]] | NDArray[np.uint8]  # images of one size


def encoded_visits(
    slices: Slices, visits: Sequence[Visit], encode: Callable[[int], EncodedImage]
) -> Generator[tuple[Visit, EncodedImage]]:
    """Yield each visit with its slice encoded, while a thread encodes the next slice.

    Args:
        slices: images of one size.
        visits: in order.
        encode: of the number of a slice.
    """
    originals = first_equal_slices(slices, [visit.z for visit in visits])
    visits_left = Counter(originals[visit.z] for visit in visits)
    store = EmbeddingStore()
    # The order of the counter's keys is that of the first visits.
    with closing(_in_thread(encode, visits_left)) as embeddings, closing(store):
        for visit in visits:
            z = originals[visit.z]
            encoded = store.take(z)
            if encoded is None:
                encoded = next(embeddings)
            visits_left[z] -= 1
            if visits_left[z]:
                store.put(z, encoded)
            yield visit, encoded


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


def _in_thread(
    function: Callable[[int], EncodedImage], arguments: Iterable[int]
) -> Generator[EncodedImage]:
    """Yield the function of each argument, the next of which is computed in a thread meanwhile."""
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="encode") as thread:
        running: deque[Future[EncodedImage]] = deque()
        for argument in list(arguments):
            running.append(thread.submit(function, argument))
            if len(running) > 1:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
