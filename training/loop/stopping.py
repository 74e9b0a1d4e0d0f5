"""A signal asks a run to stop after the step that it is in, so that nothing done is lost."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from qmedsam import exit_status
from qmedsam.system.signals import STOP_SIGNALS, Stopped


class StopRequest:
    """Whether a signal has come; the process goes on until it asks."""

    def __init__(self) -> None:
        self._number: int | None = None

    def __bool__(self) -> bool:
        return self._number is not None

    def take(self, number: int, frame: FrameType | None) -> None:
        """Keep the first signal; the second one ends the process at once."""
        if self._number is not None:
            os._exit(exit_status.of_signal(number))
        self._number = number

    def check(self) -> None:
        """Raise `Stopped` where a signal has come."""
        if self._number is not None:
            raise Stopped(self._number)


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Let signals ask to stop, in the main thread."""
    request = StopRequest()
    earlier = {each: signal.signal(each, request.take) for each in STOP_SIGNALS}
    try:
        yield request
    finally:
        for each, handler in earlier.items():
            signal.signal(each, handler)
