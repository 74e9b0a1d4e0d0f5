"""The pages of the documentation: their commands, programs, links and headings."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from tests.conftest import ROOT

FOLDERS = ("benchmarks", "deploy", "docs", "examples", "models")
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted(path for folder in FOLDERS for path in (ROOT / folder).glob("*.md")),
    *sorted((ROOT / "docs" / "studies").glob("*.md")),
]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
CONTINUED = re.compile(r"\\\n\s*")
# Commands in the middle of a sentence, some without the options that they need.
IN_A_SENTENCE = re.compile(
    r"`((?:\w+=\S+ )*"
    r"(?:qmedsam|python|sh predict\.sh|make|pip install|torchrun|docker \w+|curl) [^`]+)`"
)
# They say what was run, with models that are not there or by programs that were not kept.
RECORDS = re.compile(r"results\.md|\d{4}-\d\d-\d\d-.+\.md")
ASSIGNMENT = re.compile(r"\w+=")
OUTPUT_OPTIONS = ("-o", "--output", "--output-dir", "--overlay-dir", "--preview", "--report")


@dataclass(frozen=True)
class Command:
    """A line as a shell takes it, continuations joined.

    Attributes:
        page: the first one that has it.
        before: what its block does before it to make folders.
        is_in_sentence: whether it may lack options.
    """

    text: str
    page: str
    before: tuple[str, ...] = ()
    is_in_sentence: bool = False

    @property
    def words(self) -> list[str]:
        """Return its words without those that set a variable, and without a comment."""
        words = shlex.split(self.text, comments=True)
        return words[len(self._assignments(words)) :]

    @property
    def plain(self) -> str:
        """Return its words in one line, to be compared with how commands begin."""
        return " ".join(self.words)

    @property
    def outputs(self) -> list[str]:
        """Return the files and folders that it says it writes."""
        assignments = self._assignments(shlex.split(self.text, comments=True))
        return [
            *(text.removeprefix("OUTPUT_DIR=") for text in assignments if "OUTPUT_DIR" in text),
            *named_outputs(self.words),
        ]

    @staticmethod
    def _assignments(words: list[str]) -> list[str]:
        first = next((i for i, word in enumerate(words) if not ASSIGNMENT.match(word)), len(words))
        return words[:first]


def named_outputs(words: list[str]) -> list[str]:
    return [value for option, value in pairwise(words) if option in OUTPUT_OPTIONS]


def blocks(page: Path, language: str) -> list[str]:
    return [code for name, code in FENCE.findall(page.read_text()) if name == language]


def prose(page: Path) -> str:
    return FENCE.sub("", page.read_text())


def find_commands() -> list[Command]:
    """Return the commands of all pages, each once, as a block has it where one does."""
    found: dict[str, Command] = {}
    for find in (_in_blocks, _in_sentences):
        for page in PAGES:
            for command in find(page, str(page.relative_to(ROOT))):
                found.setdefault(" ".join(shlex.split(command.text, comments=True)), command)
    return list(found.values())


def _in_blocks(page: Path, name: str) -> Iterator[Command]:
    for block in blocks(page, "sh"):
        before: tuple[str, ...] = ()
        for line in CONTINUED.sub(" ", block).splitlines():
            text = line.strip().removeprefix("$ ")
            if not shlex.split(text, comments=True):
                continue
            yield Command(text, name, before)
            if text.startswith("mkdir "):
                before = (*before, text)


def _in_sentences(page: Path, name: str) -> Iterator[Command]:
    if not RECORDS.fullmatch(page.name):
        for text in IN_A_SENTENCE.findall(prose(page)):
            yield Command(" ".join(text.split()), name, is_in_sentence=True)


def links(page: Path) -> Iterator[tuple[Path, str]]:
    """Yield the file and the heading, or nothing for it, of each link within the repository."""
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if "://" not in target:
            path, _, anchor = target.partition("#")
            yield (page.parent / path if path else page), anchor


def anchors(page: Path) -> set[str]:
    """Return the anchors of the headings of a page, as GitHub makes them."""
    found: list[str] = []
    for heading in re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE):
        anchor = re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")
        before = found.count(anchor)
        found += [anchor, f"{anchor}-{before}"] if before else [anchor]
    return set(found)
