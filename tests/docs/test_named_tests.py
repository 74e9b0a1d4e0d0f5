"""docs/robustness.md and the table of faults name tests that there are."""

from __future__ import annotations

import re

from tests.conftest import ROOT


def test_each_test_that_the_page_names_is_there():
    page = (ROOT / "docs" / "robustness.md").read_text()
    source = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    named = set(re.findall(r"`(test_\w+)`", page))
    assert len(named) > 30
    assert named <= set(re.findall(r"def (test_\w+)\(", source))
    for path in re.findall(r"`(tests/[\w/]+\.py)`", page):
        assert (ROOT / path).is_file()


def test_so_is_each_of_the_table_of_faults():
    page = (ROOT / "docs" / "studies" / "2026-11-29-real-files.md").read_text()
    named = re.findall(r"`([\w/]+\.py)::(test_\w+)`", page)
    assert len(named) > 60
    for path, test in named:
        source = (ROOT / "tests" / "qmedsam" / path).read_text()
        assert f"def {test}(" in source, f"{path}::{test}"
