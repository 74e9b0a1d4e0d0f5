"""Which data sets a training may see."""

from __future__ import annotations

import pytest

from tests.conftest import SHARED_DATA
from training.data.index import FileEntry, ModalityIndex
from training.data.terms import described, permitted, read_terms
from training.data.volumes import DataError

pytestmark = pytest.mark.training

INDEX = {
    "CT": ModalityIndex(
        tuple(FileEntry(f"CT/{name}/a.npz", 0, 0, (0,)) for name in ("Free", "Research", "Unknown"))
    ),
    "US": ModalityIndex((FileEntry("US/a.npz", 0, 0, (0,)), FileEntry("US/b.npz", 0, 0, (0,)))),
}
TOML = """
["CT/Free"]
of = "A"
terms = "CC BY 4.0"
use = "any"
["CT/Research"]
of = "B"
terms = "CC BY-NC 4.0"
use = "non-commercial"
"""


@pytest.fixture
def terms(tmp_path):
    (tmp_path / "terms.toml").write_text(TOML)
    return read_terms(tmp_path)


@pytest.mark.parametrize(
    ("rule", "folders"),
    [
        ("all", ["CT/Free", "CT/Research", "CT/Unknown", "US"]),
        ("not forbidden", ["CT/Free", "CT/Unknown", "US"]),
        ("allowed", ["CT/Free"]),
    ],
)
def test_a_rule_leaves_folders_out(terms, rule, folders):
    kept = permitted(INDEX, terms, rule)
    assert [folder for part in kept.values() for folder in part.datasets] == folders


def test_nothing_left_is_an_error():
    with pytest.raises(DataError, match="Every folder"):
        permitted(INDEX, {}, "allowed")


def test_the_account_names_cases_and_terms(terms):
    assert described(INDEX, terms) == {
        "CT/Free": "1 cases, A: CC BY 4.0",
        "CT/Research": "1 cases, B: CC BY-NC 4.0",
        "CT/Unknown": "1 cases, terms not stated",
        "US": "2 cases, terms not stated",
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a = ", "must be TOML with a table"),
        ('[CT]\nof = "A"\nterms = "MIT"\nuse = "yes"', "CT: use must be 'any', 'non-commercial'"),
        ('[CT]\nof = "A"\nuse = "any"', "CT: Key 'terms' is missing"),
    ],
    ids=["syntax", "value", "key"],
)
def test_what_are_no_terms_is_named(tmp_path, text, message):
    (tmp_path / "terms.toml").write_text(text)
    with pytest.raises(DataError, match=message):
        read_terms(tmp_path)


def test_all_folders_of_the_project_s_training_data_have_terms():
    root = SHARED_DATA / "train"
    if not root.is_dir():
        pytest.skip("the training data is not here")
    terms = read_terms(root)
    folders = {path.relative_to(root).parent.as_posix() for path in root.rglob("*.npz")}
    assert folders <= terms.keys()
