"""What the pages promise of themselves: a short README in its order, a citation, every option."""

from __future__ import annotations

import re

import pytest

from qmedsam import cli
from tests.conftest import ROOT
from tests.docs.pages import prose

MOST_WORDS = 900  # of the README, tables and code included
SECTIONS = [
    "Install",
    "A folder",
    "Python",
    "Container",
    "Input and output",
    "Results",
    "Limits",
    "Documentation",
    "Citation and licence",
]


def test_the_readme_is_short_and_in_order():
    text = (ROOT / "README.md").read_text()
    assert len(text.split()) <= MOST_WORDS
    assert re.findall(r"^## (.+)$", prose(ROOT / "README.md"), re.MULTILINE) == SECTIONS


def test_the_citation_leaves_the_version_to_the_package():
    lines = (ROOT / "CITATION.cff").read_text().splitlines()
    keys = {line.partition(":")[0] for line in lines if re.match(r"[\w-]+:", line)}
    assert {"cff-version", "message", "title", "authors", "preferred-citation"} <= keys
    assert not keys & {"version", "date-released", "commit"}


def test_the_page_of_commands_has_every_option_and_no_other():
    helps = "".join(cli.build_parser(name).format_help() for name in cli.COMMANDS)
    assert options_in(prose(ROOT / "docs" / "cli.md")) == options_in(helps)


def options_in(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)) - {"--help"}


@pytest.mark.parametrize("name", ["architecture.md", "decisions.md"])
def test_modules_that_a_page_names_are_there(name):
    """Paths are of the package, of training or of the repository."""
    text = (ROOT / "docs" / name).read_text()
    named = set(re.findall(r"`([\w./-]+/[\w-]+\.(?:py|toml))`", text))
    assert len(named) > 15
    roots = [ROOT, ROOT / "inference" / "qmedsam"]
    missing = {path for path in named if not any((root / path).is_file() for root in roots)}
    assert not missing
