"""docs/robustness.md names tests that there are."""

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
