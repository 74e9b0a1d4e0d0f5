"""The web server of the page, by uvicorn."""

from __future__ import annotations

import contextlib
import socket

import uvicorn

from ..segmenter import Segmenter
from .app import create_app

LONGEST_HEADERS = 1 << 18  # bytes; the sizes of a series of thousands of files are among them


def serve(segmenter: Segmenter, listening: socket.socket, *, host: str, most_bytes: int) -> None:
    """Serve until a signal.

    Args:
        segmenter: that all requests share.
        listening: takes the requests.
        host: address that it listens on.
        most_bytes: of an upload.
    """
    app = create_app(segmenter, host=host, most_bytes=most_bytes)
    server = uvicorn.Server(
        uvicorn.Config(app, log_level="warning", h11_max_incomplete_event_size=LONGEST_HEADERS)
    )
    with contextlib.suppress(KeyboardInterrupt):  # which it raises once it has ended
        server.run(sockets=[listening])
