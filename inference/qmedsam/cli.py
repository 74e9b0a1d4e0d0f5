"""The command line: which command runs, its logging and its exit status.

Standard error takes all messages; standard output stays free. Options without a command are those
of `run`, for the folder is what most people have.
"""

from __future__ import annotations

import argparse
import gc
import logging
import sys
from importlib import import_module
from typing import Protocol, cast

from . import exit_status
from .errors import InferenceError
from .system.files import one_line
from .system.signals import Stopped
from .version import __version__

logger = logging.getLogger(__name__)

COMMANDS = ("run", "segment", "convert", "serve", "cluster")
WITHOUT_NAME = "run"
NO_THREAD = "can't start new thread"  # in the words of Python
DESCRIPTION = "Segment what is in boxes, in images and volumes, on an ordinary processor."
EPILOG = f"""\
Without a command, options are those of {WITHOUT_NAME}: qmedsam -i cases -o masks.
Each command has its own help and examples: qmedsam segment --help.

{exit_status.OF_FOLDERS}"""


class Command(Protocol):
    """What a module of `commands` has.

    Attributes:
        HELP: what the command does, in a line.
        EXAMPLES: command lines, one a line.
        EXIT_STATUS: what its exit statuses mean.
    """

    HELP: str
    EXAMPLES: str
    EXIT_STATUS: str

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """Add the options of the command."""

    def execute(self, arguments: argparse.Namespace) -> int:
        """Run the command; return the exit status.

        Raises:
            InferenceError: nothing can run.
            Stopped: by a signal, before there was anything to tell of.
        """


def main(argv: list[str] | None = None) -> int:
    """Run a command; see the exit status in the help."""
    words = sys.argv[1:] if argv is None else argv
    if words and words[0] in COMMANDS:
        name, words = words[0], words[1:]
    elif words and words[0].startswith("-") and words[0] not in ("-h", "--help", "--version"):
        name = WITHOUT_NAME
    else:
        _build_index().parse_args(words)  # ends here, with a list of the commands or an error
        raise AssertionError("No command was named")
    arguments = build_parser(name).parse_args(words)
    _set_up_logging(arguments)
    try:
        return load(name).execute(arguments)
    except InferenceError as error:
        logger.error("%s", error)
        return exit_status.NOTHING_RAN
    except Stopped as stop:
        logger.error("Stopped by %s before the first case", stop)
        return stop.status
    except MemoryError as error:
        logger.error("Memory is not enough: %s", str(error) or "no more is given")
        return exit_status.NOTHING_RAN
    except RuntimeError as error:
        if str(error) != NO_THREAD:
            raise
        logger.error("No thread can be started: the limit on processes is reached (ulimit -u)")
        return exit_status.NOTHING_RAN


def build_parser(name: str = WITHOUT_NAME) -> argparse.ArgumentParser:
    """Build the parser of a command."""
    command = load(name)
    parser = argparse.ArgumentParser(
        prog=f"qmedsam {name}",
        description=f"{command.HELP[0].upper()}{command.HELP[1:]}.",
        epilog=f"examples:\n{command.EXAMPLES}\n\n{command.EXIT_STATUS}",
        formatter_class=_HelpFormatter,
    )
    command.add_options(parser)
    _add_version(parser)
    return parser


def load(name: str) -> Command:
    """Import a command, which the others do without.

    Importing leaves hardly any garbage, and looking for it takes 0.013 s.
    """
    is_on = gc.isenabled()
    gc.disable()
    try:
        return cast(Command, import_module(f".commands.{name}", __package__))
    finally:
        if is_on:
            gc.enable()


class _HelpFormatter(argparse.HelpFormatter):
    """Keeps the lines of the examples, and breaks those of other texts."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if "\n" in text else super()._fill_text(text, width, indent)


class _LineFormatter(logging.Formatter):
    """Writes a message as one line, whatever names and texts of others it has in it.

    Those with line breaks would look like messages of their own; a traceback is indented.
    """

    def format(self, record: logging.LogRecord) -> str:
        lines = [f"{record.levelname}: {one_line(record.getMessage())}"]
        if record.exc_info:
            traceback = self.formatException(record.exc_info).split("\n")
            lines += [f"  {one_line(line)}" for line in traceback]
        return "\n".join(lines)


def _build_index() -> argparse.ArgumentParser:
    """Build the parser of what comes before a command, which shows all of them."""
    parser = argparse.ArgumentParser(
        prog="qmedsam",
        usage="qmedsam [COMMAND] OPTION...",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=_HelpFormatter,
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name in COMMANDS:
        commands.add_parser(name, help=load(name).HELP, add_help=False)
    _add_version(parser)
    return parser


def _add_version(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--version", action="version", version=f"qmedsam {__version__}")


def _set_up_logging(arguments: argparse.Namespace) -> None:
    level = logging.INFO if getattr(arguments, "verbose", False) else logging.WARNING
    level = logging.ERROR if getattr(arguments, "quiet", False) else level
    # What libraries log and warn of is for their developers; users get a sentence of the package.
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(logging.Filter(__name__.partition(".")[0]))
    handler.setFormatter(_LineFormatter())
    logging.basicConfig(level=level, handlers=[handler])
    logging.captureWarnings(True)
