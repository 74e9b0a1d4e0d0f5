"""A section of a page: its heading, what was measured, tables, and where their figures are from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Entry = Mapping[str, Any]


def provenance(record: Entry, text: str = "") -> str:
    """Say by which command, where and when a record was measured."""
    machine = record["machine"]
    features = ", ".join(name.upper().replace("_", "-") for name in machine["features"])
    packages = ", ".join(f"{name} {found}" for name, found in machine["packages"].items())
    return (
        f"*`{record['command']}`, {record['date']}: {machine['cores']} cores of an "
        f"{machine['processor']} ({features}), {machine['memory_gb']} GB, Python "
        f"{machine['python']}, {packages}. {text}*".replace(". *", ".*")
    )


def section(title: str, text: str, *parts: str, record: Entry, note: str = "") -> list[str]:
    """Return the paragraphs of a section; the last is the provenance of its record."""
    return [f"## {title}", text, *parts, provenance(record, note)]
