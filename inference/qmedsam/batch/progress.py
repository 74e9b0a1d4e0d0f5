"""A progress bar for a terminal.

It draws on one line, is silent where nobody looks, and never stops the work that it reports.
"""

from __future__ import annotations

import time
from typing import TextIO

from ..system.files import printable

WIDTH = 30
LINE_WIDTH = 100


class ProgressBar:
    """Shows how many of `total` are done and the time left; silent where nobody looks.

    Args:
        total: how many there are.
        stream: where to draw; nothing is drawn unless it is a terminal.
    """

    def __init__(self, total: int, stream: TextIO | None) -> None:
        self._total = total
        self._stream = stream if stream is not None and stream.isatty() else None
        self._started = time.monotonic()
        self._done = 0

    def advance(self, name: str, left_s: float | None = None) -> None:
        """Count one more, whose name is shown.

        Args:
            name: of what is done.
            left_s: what all the rest takes, in seconds; None is as long as these took, each.
        """
        self._done += 1
        if self._stream is None:
            return
        if left_s is None:
            left_s = (time.monotonic() - self._started) / self._done * (self._total - self._done)
        bar = ("#" * (WIDTH * self._done // self._total)).ljust(WIDTH, ".")
        line = f"[{bar}] {self._done}/{self._total}, {left_s:.0f} s left, {printable(name)}"
        self._draw(f"\r\x1b[K{line[:LINE_WIDTH]}")

    def close(self) -> None:
        """End the line."""
        if self._stream is not None and self._done:
            self._draw("\n")

    def _draw(self, text: str) -> None:
        if self._stream is None:
            return
        try:
            self._stream.write(text)
            self._stream.flush()
        except OSError:  # the terminal is gone
            self._stream = None
