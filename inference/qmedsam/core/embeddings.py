"""Encoded images, and those that wait for a second visit to their slice.

A few wait in memory; further ones in a temporary file that has no name, so that memory does not
grow with the depth of a volume. Where no such file can be written, memory has to do.
"""

from __future__ import annotations

import math
import tempfile
from collections import OrderedDict, defaultdict
from dataclasses import dataclass
from typing import IO

import numpy as np
from numpy.typing import NDArray

from .contract import Grid

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
    """Remembers the encoded images that were used last, by slice.

    Args:
        most: how many; 10 MB each, of smaller grids less.

    Raises:
        ValueError: that is no number of slices.
    """

    def __init__(self, most: int) -> None:
        if isinstance(most, bool) or not isinstance(most, int | np.integer) or most < 0:
            raise ValueError(f"Remembered slices must be 0 or more, got {most!r}")
        self._most = most
        self._encoded: OrderedDict[int, EncodedImage] = OrderedDict()

    def __len__(self) -> int:
        return len(self._encoded)

    def get(self, z: int) -> EncodedImage | None:
        """Return the encoded slice `z`, if it is remembered."""
        if z in self._encoded:
            self._encoded.move_to_end(z)
        return self._encoded.get(z)

    def put(self, z: int, encoded: EncodedImage) -> None:
        """Remember the encoded slice `z`, and forget the one that was not used for longest."""
        self._encoded[z] = encoded
        if len(self._encoded) > self._most:
            self._encoded.popitem(last=False)

    def clear(self) -> None:
        """Forget all."""
        self._encoded.clear()


@dataclass(frozen=True)
class _Place:
    """Where an encoded image begins in the file, and what it is made of."""

    start: int
    size_bytes: int
    grid_hw: Grid
    shapes: dict[str, tuple[int, ...]]


class EmbeddingStore:
    """Keeps encoded images, of any grids, by slice.

    Args:
        most_in_memory: how many wait in memory before the file is used.
    """

    def __init__(self, most_in_memory: int = MOST_IN_MEMORY) -> None:
        self._most_in_memory = most_in_memory
        self._in_memory: dict[int, EncodedImage] = {}
        self._places: dict[int, _Place] = {}
        # Where images have been taken from the file, by their size, which the next one must have.
        self._free: defaultdict[int, list[int]] = defaultdict(list)
        self._end = 0
        self._file: IO[bytes] | None = None

    def put(self, z: int, encoded: EncodedImage) -> None:
        """Keep the encoded slice `z` until it is taken."""
        if len(self._in_memory) < self._most_in_memory or not self._write(z, encoded):
            self._in_memory[z] = encoded

    def take(self, z: int) -> EncodedImage | None:
        """Return the encoded slice `z` and forget it; None when there is none."""
        if z in self._in_memory:
            return self._in_memory.pop(z)
        if z not in self._places or self._file is None:
            return None
        place = self._places.pop(z)
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

    def _write(self, z: int, encoded: EncodedImage) -> bool:
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
        self._places[z] = _Place(start, size_bytes, encoded.grid_hw, shapes)
        return True
