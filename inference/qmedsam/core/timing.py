"""A stopwatch for the steps of a case.

The core takes one as an argument and never reads a clock itself.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

STEPS = ("read", "preprocess", "encode", "decode", "postprocess", "write")


class Stopwatch:
    """Adds up seconds by step; nothing else is shared between steps."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = dict.fromkeys(STEPS, 0.0)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Add the time spent inside the block to the step `name`."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] += time.perf_counter() - started
