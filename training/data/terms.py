"""The terms of data sets, by their folders, and which of them a training may see.

They stand in a `terms.toml` in the root of the data, else in the one beside this file, which tells
of what the networks of this repository were trained on.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from training.data.index import DataIndex, without
from training.data.volumes import DataError
from training.settings import CheckedSettings, explain

TERMS_FILE = "terms.toml"
Use = Literal["any", "non-commercial", "not stated"]
TermsRule = Literal["all", "not forbidden", "allowed"]
# What commercial use must be, so that a data set is seen.
SEEN: dict[TermsRule, tuple[Use, ...]] = {
    "all": ("any", "non-commercial", "not stated"),
    "not forbidden": ("any", "not stated"),
    "allowed": ("any",),
}


class Terms(CheckedSettings):
    """The terms of a folder.

    Attributes:
        of: which data sets it holds.
        terms: in words, or the name of a licence.
        use: whether it may be commercial.
    """

    of: str
    terms: str
    use: Use


def read_terms(root: Path) -> dict[str, Terms]:
    """Return the terms of the folders of training data, by their places below the root.

    Raises:
        DataError: the file is no TOML, or says something else than terms.
    """
    own = root / TERMS_FILE
    path = own if own.is_file() else Path(__file__).with_name(TERMS_FILE)
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} must be TOML with a table for each folder: {error}") from error
    found = {}
    for folder, table in document.items():
        try:
            found[folder] = Terms.model_validate(table)
        except ValidationError as error:
            raise DataError(f"{path}, {folder}: {explain(error, Terms)}") from error
    return found


def permitted(index: DataIndex, terms: Mapping[str, Terms], rule: TermsRule) -> DataIndex:
    """Return an index without the folders that a rule leaves out; without terms is "not stated".

    Raises:
        DataError: nothing is left.
    """
    folders = [folder for part in index.values() for folder in part.datasets]
    return without(index, [folder for folder in folders if _use(terms, folder) not in SEEN[rule]])


def described(index: DataIndex, terms: Mapping[str, Terms]) -> dict[str, str]:
    """Return what a training saw, for its account: cases and terms by folder."""
    return {
        folder: f"{len(places)} cases, {_words(terms, folder)}"
        for part in index.values()
        for folder, places in part.datasets.items()
    }


def _use(terms: Mapping[str, Terms], folder: str) -> Use:
    return terms[folder].use if folder in terms else "not stated"


def _words(terms: Mapping[str, Terms], folder: str) -> str:
    return f"{terms[folder].of}: {terms[folder].terms}" if folder in terms else "terms not stated"
