"""SIGTERM and SIGINT as an exception, so that a run ends in order."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from .. import exit_status

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stopped(BaseException):
    """The process was asked to end; no error, so that nothing that handles errors catches it.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.status = exit_status.of_signal(number)


@contextmanager
def stop_on_signals() -> Iterator[None]:
    """Raise Stopped in the main thread at the first of the signals; the second ends the process."""

    def stop(number: int) -> None:
        raise Stopped(number)

    with first_stop_handled(stop):
        yield


@contextmanager
def first_stop_handled(handle: Callable[[int], None]) -> Iterator[None]:
    """Give the first of the signals to a function, in the main thread; the second ends the process.

    One that the process was started to ignore, as by nohup, stays ignored.

    Args:
        handle: takes the number of the signal.
    """

    def take(number: int, frame: FrameType | None) -> None:
        for each in earlier:
            signal.signal(each, end)
        handle(number)

    def end(number: int, frame: FrameType | None) -> None:
        # Of a container's first process the default would be to go on.
        os._exit(exit_status.of_signal(number))

    if threading.current_thread() is not threading.main_thread():  # which alone may handle them
        yield
        return
    taken = [each for each in STOP_SIGNALS if signal.getsignal(each) is not signal.SIG_IGN]
    earlier = {each: signal.getsignal(each) for each in taken}
    for each in taken:
        signal.signal(each, take)
    try:
        yield
    finally:
        for each, handler in earlier.items():
            signal.signal(each, handler)


def ignore_stops() -> None:
    """Let signals pass from here on: all is done but for telling so."""
    if threading.current_thread() is threading.main_thread():
        for each in STOP_SIGNALS:
            signal.signal(each, signal.SIG_IGN)
