"""What all measurements begin and end with: a parser, a record kept whole, failures in a line."""

from __future__ import annotations

import argparse
import logging
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness.options import add_path
from qmedsam import InferenceError
from qmedsam.exit_status import NOTHING_RAN

logger = logging.getLogger(__name__)

# What a missing folder or model leads to, and a process that did not end well.
EXPECTED_ERRORS = (OSError, InferenceError, subprocess.CalledProcessError)


def no_options(parser: argparse.ArgumentParser) -> None:
    """Add nothing."""


@dataclass(frozen=True)
class Command:
    """A measurement or report.

    Attributes:
        name: that it has behind `python -m benchmarks`.
        about: the docstring of its module.
        run: prints what it finds, writes the record and returns the exit status.
        add_options: adds its own; --json is added where there is a `record`.
        record: default of --json.
        selecting: names of options that leave a part out, or take other data, unless at default;
            a run with one of them must not overwrite the record of the whole.
        expected: further errors that are said in a line.
    """

    name: str
    about: str | None
    run: Callable[[argparse.Namespace], int]
    add_options: Callable[[argparse.ArgumentParser], None] = no_options
    record: Path | None = None
    selecting: tuple[str, ...] = ()
    expected: tuple[type[Exception], ...] = ()

    def build_parser(self) -> argparse.ArgumentParser:
        """Build the parser of `python -m benchmarks NAME`."""
        parser = argparse.ArgumentParser(
            prog=f"python -m benchmarks {self.name}",
            description=self.about,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        self.add_options(parser)
        if self.record:
            add_path(parser, "--json", self.record, "record of the run")
        return parser

    def main(self, argv: list[str] | None = None) -> int:
        """Run it and return the exit status; an expected failure is said in a line and gives 2."""
        parser = self.build_parser()
        arguments = parser.parse_args(argv)
        for name in self.selecting:
            is_whole = getattr(arguments, name) == parser.get_default(name)
            if arguments.json == self.record and not is_whole:
                option = name.replace("_", "-")
                parser.error(
                    f"--{option} needs a --json of its own: {self.record} is of a whole run"
                )
        logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
        expected: tuple[type[Exception], ...] = EXPECTED_ERRORS + self.expected
        try:
            return self.run(arguments)
        except expected as error:
            logger.error("%s", error)
            return NOTHING_RAN
