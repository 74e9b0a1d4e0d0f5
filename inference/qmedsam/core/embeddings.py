"""Encoded images, and those that wait for a second visit.

A few wait in memory; further ones in a temporary file that has no name, so that memory does not
grow with the depth of a volume. Where no such file can be written, memory has to do.
"""

from __future__ import annotations

import math
import tempfile
import threading
from collections import OrderedDict, defaultdict
from dataclasses import dataclass
from typing import IO

import numpy as np
from numpy.typing import NDArray

from ..config import is_whole_number
from .contract import Grid
from .regions import Region, SliceRegion

MOST_IN_MEMORY = 6  # 63 MB at most


@dataclass(frozen=True, eq=False)
class EncodedImage:
    """What the encoder makes of an image.

    Attributes:
        grid_hw: height and width of what was encoded.
        values: what the encoder puts out, by name; the decoder takes it as it is.
    """

    grid_hw: Grid
    values: dict[str, NDArray[np.float32]]

    @property
    def size_bytes(self) -> int:
        """What its values take."""
        return sum(values.nbytes for values in self.values.values())


class EmbeddingMemory:
    """Remembers the encoded regions that were used last; safe for several threads.

    Of whole slices the one that was used last stays longest, since previews are made of it.

    Args:
        most: how many of the size of the whole grid, 10 MB each; of smaller ones as many more.
        whole: the region that is a whole slice.

    Raises:
        ValueError: that is no number of slices.
    """

    def __init__(self, most: int, whole: Region) -> None:
        if not is_whole_number(most) or most < 0:
            raise ValueError(f"Remembered slices must be 0 or more, got {most!r}")
        self._whole = whole
        self._most_pixels = int(most) * math.prod(whole.grid_hw)
        self._pixels = 0  # of all grids
        self._encoded: OrderedDict[SliceRegion, EncodedImage] = OrderedDict()
        self._lock = threading.Lock()

    def slices(self) -> set[int]:
        """Return of which slices something is remembered."""
        with self._lock:
            return {part.z for part in self._encoded}

    def get(self, part: SliceRegion) -> EncodedImage | None:
        """Return an encoded region, if it is remembered."""
        with self._lock:
            if part in self._encoded:
                self._encoded.move_to_end(part)
            return self._encoded.get(part)

    def put(self, part: SliceRegion, encoded: EncodedImage) -> None:
        """Remember an encoded region, and forget those that were not used for longest."""
        with self._lock:
            self._forget(part)
            self._encoded[part] = encoded
            self._pixels += math.prod(encoded.grid_hw)
            while self._pixels > self._most_pixels:
                self._forget(self._oldest())

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._encoded.clear()
            self._pixels = 0

    def _oldest(self) -> SliceRegion:
        wholes = (part for part in reversed(self._encoded) if part.region == self._whole)
        newest_whole = next(wholes, None)
        others = (part for part in self._encoded if part != newest_whole)
        return next(others, None) or next(iter(self._encoded))

    def _forget(self, part: SliceRegion) -> None:
        if part in self._encoded:
            self._pixels -= math.prod(self._encoded.pop(part).grid_hw)


@dataclass(frozen=True)
class _Place:
    """Where an encoded image begins in the file, and what it is made of."""

    start: int
    size_bytes: int
    grid_hw: Grid
    shapes: dict[str, tuple[int, ...]]


class EmbeddingStore:
    """Keeps encoded images, of any grids, by what they are of.

    Args:
        most_in_memory: how many wait in memory before the file is used.
    """

    def __init__(self, most_in_memory: int = MOST_IN_MEMORY) -> None:
        self._most_in_memory = most_in_memory
        self._in_memory: dict[SliceRegion, EncodedImage] = {}
        self._places: dict[SliceRegion, _Place] = {}
        # Where images have been taken from the file, by their size, which the next one must have.
        self._free: defaultdict[int, list[int]] = defaultdict(list)
        self._end = 0
        self._file: IO[bytes] | None = None

    def put(self, part: SliceRegion, encoded: EncodedImage) -> None:
        """Keep the encoded part until it is taken."""
        if len(self._in_memory) < self._most_in_memory or not self._write(part, encoded):
            self._in_memory[part] = encoded

    def take(self, part: SliceRegion) -> EncodedImage | None:
        """Return the encoded part and forget it; None when there is none."""
        if part in self._in_memory:
            return self._in_memory.pop(part)
        if part not in self._places or self._file is None:
            return None
        place = self._places.pop(part)
        self._free[place.size_bytes].append(place.start)
        self._file.seek(place.start)
        values = {
            name: np.fromfile(self._file, dtype=np.float32, count=math.prod(shape)).reshape(shape)
            for name, shape in place.shapes.items()
        }
        return EncodedImage(place.grid_hw, values)

    def close(self) -> None:
        """Give the temporary file back."""
        if self._file is not None:
            self._file.close()

    def _write(self, part: SliceRegion, encoded: EncodedImage) -> bool:
        size_bytes = encoded.size_bytes
        free = self._free[size_bytes]
        start = free[-1] if free else self._end
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile()  # noqa: SIM115, closed by close()
            self._file.seek(start)
            for values in encoded.values.values():
                self._file.write(np.ascontiguousarray(values).data)
            self._file.flush()
        except OSError:
            return False
        if free:
            free.pop()
        else:
            self._end += size_bytes
        shapes = {name: values.shape for name, values in encoded.values.items()}
        self._places[part] = _Place(start, size_bytes, encoded.grid_hw, shapes)
        return True
