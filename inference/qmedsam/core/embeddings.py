"""Encoded images that wait for a second visit to their slice.

A few wait in memory; further ones in a temporary file that has no name, so that memory does not
grow with the depth of a volume. Where no such file can be written, memory has to do.
"""

from __future__ import annotations

import tempfile
from collections import OrderedDict
from typing import IO

import numpy as np
from numpy.typing import NDArray

MOST_IN_MEMORY = 6  # 63 MB
# What the encoder puts out, by name; the decoder takes it as it is.
EncodedImage = dict[str, NDArray[np.float32]]


class EmbeddingMemory:
    """Remembers the encoded images that were used last, by slice.

    Args:
        most: how many; 10 MB each.

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


class EmbeddingStore:
    """Keeps encoded images, all of the same shapes, by slice.

    Args:
        most_in_memory: how many wait in memory before the file is used.
    """

    def __init__(self, most_in_memory: int = MOST_IN_MEMORY) -> None:
        self._most_in_memory = most_in_memory
        self._in_memory: dict[int, EncodedImage] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._slots: dict[int, int] = {}
        self._free_slots: list[int] = []
        self._file: IO[bytes] | None = None

    def put(self, z: int, encoded: EncodedImage) -> None:
        """Keep the encoded slice `z` until it is taken."""
        if len(self._in_memory) < self._most_in_memory or not self._write(z, encoded):
            self._in_memory[z] = encoded

    def take(self, z: int) -> EncodedImage | None:
        """Return the encoded slice `z` and forget it; None when there is none."""
        if z in self._in_memory:
            return self._in_memory.pop(z)
        if z not in self._slots or self._file is None:
            return None
        slot = self._slots.pop(z)
        self._free_slots.append(slot)
        self._file.seek(slot * self._bytes())
        return {
            name: np.fromfile(self._file, dtype=np.float32, count=int(np.prod(shape))).reshape(
                shape
            )
            for name, shape in self._shapes.items()
        }

    def close(self) -> None:
        """Give the temporary file back."""
        if self._file is not None:
            self._file.close()

    def _bytes(self) -> int:
        return sum(4 * int(np.prod(shape)) for shape in self._shapes.values())

    def _write(self, z: int, encoded: EncodedImage) -> bool:
        slot = self._free_slots[-1] if self._free_slots else len(self._slots)
        self._shapes = {name: values.shape for name, values in encoded.items()}
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile()  # noqa: SIM115, closed by close()
            self._file.seek(slot * self._bytes())
            for values in encoded.values():
                self._file.write(np.ascontiguousarray(values).data)
            self._file.flush()
        except OSError:
            return False
        if self._free_slots:
            self._free_slots.pop()
        self._slots[z] = slot
        return True
