"""A stopwatch for the steps of a case.

The core takes one as an argument and never reads a clock itself.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

STEPS = ("read", "preprocess", "encode", "decode", "postprocess", "write")


class Stopwatch:
    """Adds up seconds by step, also those of several threads."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = dict.fromkeys(STEPS, 0.0)
        self._lock = threading.Lock()

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Add the time spent inside the block to the step `name`."""
        started = time.perf_counter()
        try:
            yield
        finally:
            taken = time.perf_counter() - started
            with self._lock:
                self.seconds[name] += taken
