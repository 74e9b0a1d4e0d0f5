"""What `make` would run, and what CI makes."""

from __future__ import annotations

import os
import re
import subprocess
from functools import cache

from tests.conftest import ROOT
from tests.docs.pages import CONTINUED, Command

CI = ROOT / ".github" / "workflows" / "ci.yml"
BIN = re.compile(r"\.venv(-check)?/bin/")


def recipe(command: Command) -> list[Command]:
    """Return the lines that a `make` with targets and variables would run.

    Those of targets that are there already are not among them.
    """
    return list(_recipe(tuple(command.words[1:])))


@cache
def run_by_ci() -> set[str]:
    """Return the lines of the targets that CI makes."""
    made = re.findall(r"^ *- run: (make .+)$", CI.read_text(), re.MULTILINE)
    assert made, f"{CI.name} makes nothing"
    return {line.text for text in made for line in recipe(Command(text, CI.name))}


@cache
def _recipe(words: tuple[str, ...]) -> tuple[Command, ...]:
    # These tests may run below a make, whose options are not for this one.
    environment = {name: value for name, value in os.environ.items() if name != "MAKEFLAGS"}
    result = subprocess.run(
        ["make", "--dry-run", "--no-print-directory", *words],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, f"make {' '.join(words)}: {result.stderr}"
    lines = BIN.sub("", CONTINUED.sub(" ", result.stdout)).splitlines()
    return tuple(Command(line.strip(), "Makefile") for line in lines)
