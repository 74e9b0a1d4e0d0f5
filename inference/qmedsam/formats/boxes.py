"""Boxes from text: options, JSON and CSV."""

from __future__ import annotations

import csv
import json
import reprlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..core.geometry import Boxes
from ..core.prompts import IMAGE_COLUMNS, VOLUME_COLUMNS
from .label_notes import clean_name
from .scan import FormatError

NAME, LABEL = "name", "label"  # two words for one thing
ORDERS = (["x0", "y0", "x1", "y1"], ["x0", "y0", "z0", "x1", "y1", "z1"])
COLUMN_NAMES = {NAME: NAME, LABEL: NAME} | {
    written: f"{axis}{end}"
    for axis in "xyz"
    for end, word in enumerate(("min", "max"))
    for written in (f"{axis}{end}", f"{axis}_{word}", f"{axis}{word}")
}


@dataclass(frozen=True)
class NamedBox:
    """A box as a user wrote it.

    Attributes:
        corners: four or six coordinates of the file.
        name: of the object in it, as of `clean_name`; empty where it has none.
        source: where it was written, for messages.
    """

    corners: tuple[float, ...]
    name: str = ""
    source: str = field(default="Box", compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", clean_name(self.name))


def parse_box(text: str) -> NamedBox:
    """Read four or six numbers with commas between, after the name of the object and `=` if any.

    Raises:
        FormatError: they are not.
    """
    name, _, numbers = text.rpartition("=")
    try:
        corners = tuple(float(value) for value in numbers.split(","))
        box = NamedBox(corners, name.strip(), f"--box {text}")
    except ValueError:
        box = NamedBox(())
    if len(box.corners) not in (IMAGE_COLUMNS, VOLUME_COLUMNS):
        raise FormatError(f"Box must be x0,y0,x1,y1 or x0,y0,z0,x1,y1,z1, got {text!r}")
    return box


def read_boxes(path: Path) -> list[NamedBox]:
    """Read boxes from JSON or CSV.

    JSON is a list, or an object with the list as `boxes`; each is a list of numbers, or an object
    with these as `box` and a `name` or `label`, which may be null. CSV has a row a box, with commas
    or semicolons; the name of the object may be the last value. Its first row may name the columns,
    in any order: x0, y0, perhaps z0, x1, y1, perhaps z1, perhaps name or label; also x_min and so
    on.

    Raises:
        FormatError: the file cannot be read, or holds something else.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise FormatError(f"{path} cannot be read: {error}") from error
    boxes = _of_json(path, text) if path.suffix.lower() == ".json" else _of_csv(path, text)
    if not boxes:
        raise FormatError(f"{path} must have a box, got none")
    return boxes


def stack_boxes(boxes: Sequence[NamedBox], columns: int, why: str) -> Boxes:
    """Return boxes (N, columns).

    Args:
        boxes: of which each must have so many numbers.
        columns: four or six.
        why: so many, for the message.

    Raises:
        FormatError: a box has another number of them.
    """
    for box in boxes:
        if len(box.corners) != columns:
            names = next(order for order in ORDERS if len(order) == columns)
            found = ", ".join(f"{value:g}" for value in box.corners)
            raise FormatError(
                f"{box.source} must have {columns} numbers ({', '.join(names)}) {why}, got "
                f"{len(box.corners)}: {found}"
            )
    corners = [box.corners for box in boxes]
    return np.array(corners, dtype=np.float32).reshape(len(boxes), columns)


def _of_json(path: Path, text: str) -> list[NamedBox]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path} must be JSON with a list of boxes, got: {error}") from error
    rows = document.get("boxes", document) if isinstance(document, dict) else document
    if not isinstance(rows, list):
        raise FormatError(f"{path} must be JSON with a list of boxes, got {reprlib.repr(document)}")
    return [_of_json_row(f"{path}, box {number},", row) for number, row in enumerate(rows, 1)]


def _of_json_row(source: str, row: Any) -> NamedBox:
    is_named = isinstance(row, dict)
    corners = row.get("box") if is_named else row
    try:
        if not isinstance(corners, list) or any(type(each) not in (int, float) for each in corners):
            raise FormatError(f"{source} must be a list of numbers, got {reprlib.repr(row)}")
        numbers = tuple(float(value) for value in corners)
    except OverflowError as error:
        raise FormatError(f"{source} must be numbers of 64 bits, got: {error}") from error
    return NamedBox(numbers, _name_of_json(source, row) if is_named else "", source)


def _name_of_json(source: str, row: dict[str, Any]) -> str:
    """Return the name of an object; null is none.

    Raises:
        FormatError: it is neither text nor a whole number.
    """
    name = row.get(NAME)
    name = row.get(LABEL) if name is None else name
    if name is not None and type(name) not in (str, int):
        raise FormatError(f"{source} must have text for a name, got {reprlib.repr(name)}")
    return "" if name is None else str(name).strip()


def _of_csv(path: Path, text: str) -> list[NamedBox]:
    first, _, _ = text.partition("\n")
    reader = csv.reader(text.splitlines(), delimiter=";" if ";" in first else ",")
    boxes: list[NamedBox] = []
    columns: list[str] | None = None
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            if reader.line_num == 1 and not any(_is_number(cell) for cell in cells):
                columns = _columns(path, cells) if any(cells) else None
            elif any(cells):
                boxes.append(_of_row(f"{path}, line {reader.line_num},", cells, columns))
    except (csv.Error, ValueError) as error:
        raise FormatError(f"{path}, line {reader.line_num}: {error}") from error
    return boxes


def _columns(path: Path, cells: list[str]) -> list[str]:
    """Return the columns by the names that are used here.

    Raises:
        FormatError: they are named in another way.
    """
    found = [COLUMN_NAMES.get(cell.lower(), "") for cell in cells]
    if sorted(found) not in [sorted([*order, *more]) for order in ORDERS for more in ([], [NAME])]:
        raise FormatError(
            f"{path}, line 1: columns must be {', '.join(ORDERS[0])} or {', '.join(ORDERS[1])}, "
            f"and perhaps name, got {cells}"
        )
    return found


def _of_row(source: str, cells: list[str], columns: list[str] | None) -> NamedBox:
    """Read a row of a table.

    Raises:
        ValueError: it is no box.
    """
    if columns is None:
        has_name = len(cells) in (IMAGE_COLUMNS + 1, VOLUME_COLUMNS + 1)
        corners, name = (cells[:-1], cells[-1]) if has_name else (cells, "")
    else:
        if len(cells) != len(columns):
            raise ValueError(f"must have {len(columns)} values, got {cells}")
        by_name = dict(zip(columns, cells, strict=True))
        order = ORDERS[1] if "z0" in by_name else ORDERS[0]
        corners, name = [by_name[column] for column in order], by_name.get(NAME, "")
    if not all(_is_number(corner) for corner in corners):
        raise ValueError(f"must be numbers, got {corners}")
    return NamedBox(tuple(float(corner) for corner in corners), name, source)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
