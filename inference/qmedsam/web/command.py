"""The command `qmedsam serve`."""

from __future__ import annotations

import argparse
import contextlib
import logging
import socket

import uvicorn

from ..errors import InferenceError
from ..options import add_model_options, at_least, read_settings
from ..segmenter import Segmenter
from .app import create_app

logger = logging.getLogger(__name__)

DONE, FAILED = 0, 2
LOCAL = "127.0.0.1"
HIGHEST_PORT = 65535
LONGEST_HEADERS = 1 << 18  # bytes; the sizes of a series of thousands of files are among them


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of the command."""
    parser = argparse.ArgumentParser(
        prog="qmedsam serve", description="Serve a page to draw boxes on and see masks."
    )
    parser.add_argument(
        "--host",
        default=LOCAL,
        help="address to listen on; others than this machine's see what is open, without a "
        "password (default: %(default)s)",
    )
    parser.add_argument(
        "--port", type=_port, default=8000, help="0 takes a free one (default: %(default)s)"
    )
    parser.add_argument(
        "--max-upload",
        type=at_least(1),
        default=512,
        metavar="MB",
        help="largest upload (default: %(default)s)",
    )
    add_model_options(parser)
    return parser


def main(argv: list[str]) -> int:
    """Serve until stopped; 2 where that cannot be. `argv` begins with the command's name."""
    arguments = build_parser().parse_args(argv[1:])
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    host = arguments.host
    try:
        listening = _listen(host, arguments.port)
    except (OSError, UnicodeError) as error:  # the latter from a host that is no name
        logger.error("Address %s cannot be listened on: %s", host, error)
        return FAILED
    with listening:
        try:
            segmenter = Segmenter(arguments.model_dir, read_settings(arguments))
        except InferenceError as error:
            logger.error("%s", error)
            return FAILED
        app = create_app(segmenter, host=host, most_bytes=arguments.max_upload << 20)
        named = f"[{host}]" if ":" in host else host
        port = listening.getsockname()[1]
        print(f"Serving http://{named}:{port} (Ctrl+C ends it)", flush=True)
        server = uvicorn.Server(
            uvicorn.Config(app, log_level="warning", h11_max_incomplete_event_size=LONGEST_HEADERS)
        )
        with contextlib.suppress(KeyboardInterrupt):  # which it raises once it has ended
            server.run(sockets=[listening])
    return DONE


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family)


def _port(text: str) -> int:
    port = at_least(0)(text)
    if port > HIGHEST_PORT:
        raise argparse.ArgumentTypeError(f"must be {HIGHEST_PORT} at most, got {text!r}")
    return port
