"""A signal asks a run to stop after the step that it is in, so that nothing done is lost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from qmedsam.system.signals import Stopped, first_stop_handled


class StopRequest:
    """Whether a signal has come; the process goes on until it asks."""

    def __init__(self) -> None:
        self._number: int | None = None

    def __bool__(self) -> bool:
        return self._number is not None

    def take(self, number: int) -> None:
        """Keep the number of a signal."""
        self._number = number

    def check(self) -> None:
        """Raise `Stopped` where a signal has come."""
        if self._number is not None:
            raise Stopped(self._number)


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Let the first signal ask to stop; the second one ends the process at once."""
    request = StopRequest()
    with first_stop_handled(request.take):
        yield request
