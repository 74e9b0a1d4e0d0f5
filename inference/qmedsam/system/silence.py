"""Keeps from the terminal what libraries print past Python.

GDCM and the decoders in it write what they find wrong with a file to the process's standard error,
and have no switch for it; what matters comes as an error, too.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

STANDARD_ERROR = 2
_one_at_a_time = threading.Lock()  # for there is one standard error


@contextmanager
def silent_libraries() -> Iterator[None]:
    """Lead standard error nowhere.

    What other threads write to it meanwhile is lost, so keep the block short. Where standard error
    is closed, nothing is to be kept from it.
    """
    with _one_at_a_time:
        try:
            terminal = os.dup(STANDARD_ERROR)
        except OSError:
            yield
            return
        try:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, STANDARD_ERROR)
            os.close(nowhere)
            yield
        finally:
            os.dup2(terminal, STANDARD_ERROR)
            os.close(terminal)
