"""The command `qmedsam serve`."""

from __future__ import annotations

import argparse
import logging

import uvicorn

from ..errors import InferenceError
from ..options import add_model_options, at_least, read_settings
from ..segmenter import Segmenter
from .app import create_app

logger = logging.getLogger(__name__)

DONE, FAILED = 0, 2
LOCAL = "127.0.0.1"


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
    parser.add_argument("--port", type=at_least(0), default=8000, help="(default: %(default)s)")
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
    try:
        segmenter = Segmenter(arguments.model_dir, read_settings(arguments))
    except InferenceError as error:
        logger.error("%s", error)
        return FAILED
    hosts = ["localhost", LOCAL] if arguments.host == LOCAL else ["*"]
    app = create_app(segmenter, hosts=hosts, most_bytes=arguments.max_upload << 20)
    print(f"Serving http://{arguments.host}:{arguments.port} (Ctrl+C ends it)", flush=True)
    uvicorn.run(app, host=arguments.host, port=arguments.port, log_level="warning")
    return DONE
