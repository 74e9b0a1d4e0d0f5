"""Embeddings that wait for a second visit to their slice.

A few wait in memory; further ones in a temporary file that has no name, so that memory does not
grow with the depth of a volume. Where no such file can be written, memory has to do.
"""

from __future__ import annotations

import math
import tempfile
from typing import IO

import numpy as np
from numpy.typing import NDArray

from .contract import EMBEDDING_SHAPE

EMBEDDING_BYTES = 4 * math.prod(EMBEDDING_SHAPE)
MOST_IN_MEMORY = 16  # 64 MB
Embedding = NDArray[np.float32]


class EmbeddingStore:
    """Keeps embeddings, (1, 256, 64, 64) each, by slice.

    Args:
        most_in_memory: how many wait in memory before the file is used.
    """

    def __init__(self, most_in_memory: int = MOST_IN_MEMORY) -> None:
        self._most_in_memory = most_in_memory
        self._in_memory: dict[int, Embedding] = {}
        self._slots: dict[int, int] = {}
        self._free_slots: list[int] = []
        self._file: IO[bytes] | None = None

    def put(self, z: int, embedding: Embedding) -> None:
        """Keep the embedding of slice `z` until it is taken."""
        if len(self._in_memory) < self._most_in_memory or not self._write(z, embedding):
            self._in_memory[z] = embedding

    def take(self, z: int) -> Embedding | None:
        """Return the embedding of slice `z` and forget it; None when there is none."""
        if z in self._in_memory:
            return self._in_memory.pop(z)
        if z not in self._slots or self._file is None:
            return None
        slot = self._slots.pop(z)
        self._free_slots.append(slot)
        self._file.seek(slot * EMBEDDING_BYTES)
        values = np.fromfile(self._file, dtype=np.float32, count=EMBEDDING_BYTES // 4)
        return values.reshape(EMBEDDING_SHAPE)

    def close(self) -> None:
        """Give the temporary file back."""
        if self._file is not None:
            self._file.close()

    def _write(self, z: int, embedding: Embedding) -> bool:
        slot = self._free_slots[-1] if self._free_slots else len(self._slots)
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile()  # noqa: SIM115, closed by close()
            self._file.seek(slot * EMBEDDING_BYTES)
            self._file.write(embedding.tobytes())
            self._file.flush()
        except OSError:
            return False
        if self._free_slots:
            self._free_slots.pop()
        self._slots[z] = slot
        return True
