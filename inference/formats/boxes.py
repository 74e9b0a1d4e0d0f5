"""Boxes from text: options, JSON and CSV."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..geometry import Boxes
from ..prompts import IMAGE_COLUMNS, VOLUME_COLUMNS
from .scan import FormatError


@dataclass(frozen=True)
class NamedBox:
    """A box as a user wrote it.

    Attributes:
        corners: four or six coordinates of the file.
        name: of the object in it; empty where it has none.
    """

    corners: tuple[float, ...]
    name: str = ""


def parse_box(text: str) -> NamedBox:
    """Read four or six numbers with commas between, after the name of the object and `=` if any.

    Raises:
        FormatError: they are not.
    """
    name, _, numbers = text.rpartition("=")
    try:
        box = NamedBox(tuple(float(value) for value in numbers.split(",")), name.strip())
    except ValueError:
        box = NamedBox(())
    if len(box.corners) not in (IMAGE_COLUMNS, VOLUME_COLUMNS):
        raise FormatError(f"Box must be x0,y0,x1,y1 or x0,y0,z0,x1,y1,z1, got {text!r}")
    return box


def read_boxes(path: Path) -> list[NamedBox]:
    """Read boxes from JSON or CSV.

    JSON is a list, or an object with the list as `boxes`; each is a list of numbers, or an object
    with these as `box` and a `name`. CSV has a row a box; the name of the object may be the last
    value, and the first row may name the columns.

    Raises:
        FormatError: the file cannot be read, or holds something else.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise FormatError(f"{path} cannot be read: {error}") from error
    if path.suffix.lower() == ".json":
        try:
            document = json.loads(text)
            rows = document["boxes"] if isinstance(document, dict) else document
            return [_of_json(row) for row in rows]
        except (ValueError, KeyError, TypeError) as error:
            raise FormatError(f"{path} must be JSON with a list of boxes, got {error!r}") from error
    boxes = []
    for number, row in enumerate(csv.reader(text.splitlines(), skipinitialspace=True), 1):
        has_name = len(row) in (IMAGE_COLUMNS + 1, VOLUME_COLUMNS + 1)
        try:
            corners = tuple(float(value) for value in (row[:-1] if has_name else row))
        except ValueError as error:
            if number > 1:  # the first may name the columns
                raise FormatError(f"{path}, line {number}: must be numbers, got {row}") from error
            continue
        if corners:
            boxes.append(NamedBox(corners, row[-1].strip() if has_name else ""))
    return boxes


def stack_boxes(boxes: Sequence[NamedBox], columns: int) -> Boxes:
    """Return boxes (N, columns).

    Raises:
        FormatError: a box has another number of coordinates.
    """
    for box in boxes:
        if len(box.corners) != columns:
            raise FormatError(
                f"Boxes must have {columns} coordinates for this file, got {list(box.corners)}"
            )
    corners = [box.corners for box in boxes]
    return np.array(corners, dtype=np.float32).reshape(len(boxes), columns)


def _of_json(row: Any) -> NamedBox:
    if isinstance(row, dict):
        return NamedBox(tuple(float(value) for value in row["box"]), str(row.get("name", "")))
    return NamedBox(tuple(float(value) for value in row))
