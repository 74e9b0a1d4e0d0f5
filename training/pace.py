"""How far long work is: a bar in a terminal, and a line in the log every few minutes elsewhere."""

from __future__ import annotations

import logging
import time
from typing import TextIO

from qmedsam.batch.progress import ProgressBar

logger = logging.getLogger(__name__)

LINE_EVERY_S = 180.0


class Pace:
    """Counts what is done of `total`.

    Args:
        total: how many there are.
        stream: where a bar is drawn if it is a terminal, else the log tells; None is silent.
        what: that is counted, in a line of the log.
    """

    def __init__(self, total: int, stream: TextIO | None, what: str) -> None:
        self._total, self._what = total, what
        self._bar = ProgressBar(total, stream)
        self._is_logged = stream is not None and not stream.isatty()
        self._started = self._told = time.monotonic()
        self._done = 0

    def advance(self, name: str, left_s: float | None = None) -> None:
        """Count one more.

        Args:
            name: of it, or how it went.
            left_s: what all the rest takes, in seconds; None is as long as these took, each.
        """
        self._done += 1
        now = time.monotonic()
        if left_s is None:
            left_s = (now - self._started) / self._done * (self._total - self._done)
        self._bar.advance(name, left_s)
        if self._is_logged and now - self._told > LINE_EVERY_S:
            self._told = now
            logger.info(
                "%s %d of %d, %s; %s left",
                self._what,
                self._done,
                self._total,
                name,
                duration(left_s),
            )

    def close(self) -> None:
        """End the line of the bar."""
        self._bar.close()


def duration(seconds: float) -> str:
    """Return a duration in words, as `3 h 05 min`."""
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    hours, rest = divmod(minutes, 60)
    return f"{hours} h {rest:02d} min" if hours else f"{rest} min"
