"""All benchmarks need what benchmarks/requirements.txt installs."""

from __future__ import annotations

import pytest

pytest.importorskip("nncf", reason="benchmarks/requirements.txt is not installed")


def pytest_collection_modifyitems(items):
    for item in items:
        if "/tests/benchmarks/" in str(item.path):
            item.add_marker(pytest.mark.training)
