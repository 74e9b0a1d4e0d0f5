"""The web server of the page, by uvicorn."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from ..segmenter import Segmenter
from ..system.signals import first_stop_handled
from .app import create_app

LONGEST_HEADERS = 1 << 18  # bytes; the sizes of a series of thousands of files are among them


def serve(segmenter: Segmenter, listening: socket.socket, *, host: str, most_bytes: int) -> None:
    """Serve until a signal, and answer then what has been asked for; a second ends the process.

    Args:
        segmenter: that all requests share.
        listening: takes the requests.
        host: address that it listens on.
        most_bytes: of an upload.
    """
    app = create_app(segmenter, host=host, most_bytes=most_bytes)
    server = _Server(
        uvicorn.Config(app, log_level="warning", h11_max_incomplete_event_size=LONGEST_HEADERS)
    )
    server.run(sockets=[listening])


class _Server(uvicorn.Server):
    """Ends at a signal and returns; uvicorn's own raises it again for who handled it before."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle signals while it serves."""
        with first_stop_handled(self._stop):
            yield

    def _stop(self, number: int) -> None:
        self.should_exit = True
