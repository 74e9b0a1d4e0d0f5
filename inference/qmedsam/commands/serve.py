"""`qmedsam serve`: the page to draw boxes on, and its REST interface."""

from __future__ import annotations

import argparse
import socket

from ..errors import UsageError
from ..exit_status import DONE, OF_SERVERS
from ..options import add_model_options, at_least, read_settings
from ..segmenter import Segmenter
from .extras import needs_extra

HELP = "serve a page to draw boxes on and see masks, on this machine"
EXAMPLES = """\
  qmedsam serve
  qmedsam serve --port 0 --max-upload 2048 --volume-prompt hybrid"""
EXTRA = "web"
LOCAL = "127.0.0.1"
HIGHEST_PORT = 65535
EXIT_STATUS = OF_SERVERS


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
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


def execute(arguments: argparse.Namespace) -> int:
    """Serve until stopped."""
    with needs_extra(EXTRA):  # not at the top, for the help is there without it
        from ..web.server import serve
    with _listen(arguments.host, arguments.port) as listening:
        segmenter = Segmenter(arguments.model_dir, read_settings(arguments))
        host, port = arguments.host, listening.getsockname()[1]
        named = f"[{host}]" if ":" in host else host
        print(f"Serving http://{named}:{port} (Ctrl+C ends it)", flush=True)
        serve(segmenter, listening, host=host, most_bytes=arguments.max_upload << 20)
    return DONE


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except (OSError, UnicodeError) as error:  # the latter from a host that is no name
        raise UsageError(f"Address {host} cannot be listened on: {error}") from error


def _port(text: str) -> int:
    port = at_least(0)(text)
    if port > HIGHEST_PORT:
        raise argparse.ArgumentTypeError(f"must be {HIGHEST_PORT} at most, got {text!r}")
    return port
