"""Tables in Markdown, and the line that says where their figures are from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tabulate import tabulate

MEMORY_EXCEEDED = "MLE"
Entry = Mapping[str, Any]


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a Markdown table; columns of numbers, but for the first, are aligned to the right."""
    columns = list(zip(*rows, strict=True))
    aligned = ["left", *("right" if _is_numeric(column) else "left" for column in columns[1:])]
    return tabulate(rows, header, tablefmt="pipe", disable_numparse=True, colalign=aligned)


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


def _is_numeric(column: Sequence[str]) -> bool:
    """Say whether each cell begins like a number, or is a word for a missing one."""
    return all(cell[:1] in "~+-0123456789" or cell == MEMORY_EXCEEDED for cell in column)
