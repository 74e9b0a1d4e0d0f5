"""What the documentation shows can be run."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys

import pytest

from inference.formats.command import build_parser
from tests.conftest import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(language: str) -> list[str]:
    pages = "\n".join(page.read_text() for page in PAGES)
    return re.findall(rf"```{language}\n(.*?)```", pages, re.DOTALL)


@pytest.mark.model
@pytest.mark.parametrize("code", blocks("python"))
def test_python_runs_in_a_checkout(code):
    code = code.replace("from qmedsam import", "from inference import")
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_commands_for_single_files_have_options_that_there_are():
    commands = [
        line.removeprefix("python -m inference ")
        for block in blocks("sh")
        for line in block.splitlines()
        if re.match(r"python -m inference (segment|convert)", line)
    ]
    assert len(commands) == 5
    for command in commands:
        build_parser().parse_args(shlex.split(command))


def test_links_lead_to_files():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
