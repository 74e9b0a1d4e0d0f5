"""The values of a DICOM dataset, each read within one net.

pydicom converts a value when it is asked for, and of one that is broken it raises what it likes.
Here that is one sentence with the file, the attribute, what was expected and what came.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pydicom.datadict import tag_for_keyword
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence as DicomSequence

from ...system.files import printable
from ..scan import FormatError

LIBRARIES = ("pydicom", "highdicom")
GOT = ", got "  # in a message, before what came
LONGEST_SHOWN = 60  # characters of what came
LONGEST_REASON = 200  # characters of what a library says
SEVERAL = (MultiValue, DicomSequence, list, tuple)  # what pydicom has several values in
Dataset = Any  # pydicom's, whose attributes are the file's


class Attributes:
    """Attributes of a dataset by their keywords; one that has no value is one that is not there.

    Args:
        dataset: of pydicom.
        name: of the file, for messages.
    """

    def __init__(self, dataset: Dataset, name: str) -> None:
        self.dataset = dataset
        self.name = name

    def has(self, keyword: str) -> bool:
        """Whether an attribute is there, with a value or without."""
        return tag_for_keyword(keyword) in self.dataset

    def values(self, keyword: str) -> list[Any]:
        """Return the values of an attribute; none where it has none.

        Raises:
            FormatError: they cannot be read.
        """
        try:
            value = self.dataset[keyword].value if self.has(keyword) else None
            found = list(value) if isinstance(value, SEVERAL) else [value]
        except Exception as error:  # of a broken value, any
            raise FormatError(
                f"{self.name}: {keyword} must be readable, got: {reason(error)}"
            ) from error
        return [each for each in found if each is not None and each not in ("", b"")]

    def numbers(self, keyword: str, count: int) -> tuple[float, ...] | None:
        """Return so many finite numbers; None where there is no value.

        Raises:
            FormatError: they are something else.
        """
        values = self.values(keyword)
        if not values:
            return None
        if len(values) == count:
            numbers = tuple(_number(value) for value in values)
            if all(math.isfinite(number) for number in numbers):
                return numbers
        expected = f"{count} numbers" if count > 1 else "a number"
        raise self.wrong(keyword, expected)

    def number(self, keyword: str) -> float | None:
        """Return a finite number; None where there is no value.

        Raises:
            FormatError: it is something else.
        """
        found = self.numbers(keyword, 1)
        return None if found is None else found[0]

    def first_number(self, keyword: str) -> float | None:
        """Return the first of finite numbers; None where there is no value.

        Raises:
            FormatError: they are something else.
        """
        found = self.numbers(keyword, max(1, len(self.values(keyword))))
        return None if found is None else found[0]

    def count(self, keyword: str, default: int) -> int:
        """Return a whole number above 0; the default where there is no value.

        Raises:
            FormatError: it is something else.
        """
        found = self.number(keyword)
        if found is None:
            return default
        if found < 1 or found != int(found):
            raise self.wrong(keyword, "a whole number above 0")
        return int(found)

    def text(self, keyword: str) -> str:
        """Return the text of an attribute, several values with a backslash between, or "".

        Raises:
            FormatError: it cannot be read.
        """
        values = self.values(keyword)
        if any(_is_item(value) for value in values):
            raise self.wrong(keyword, "text")
        return "\\".join(_text(value) for value in values).strip("\0 ")

    def lenient(self, keyword: str) -> str:
        """Return the text of an attribute, or "" where it cannot be read."""
        try:
            return self.text(keyword)
        except FormatError:
            return ""

    def shown(self, keyword: str) -> str:
        """Return the text of an attribute for a message, or "" where it cannot be read."""
        return printable(self.lenient(keyword))[:LONGEST_SHOWN]

    def items(self, keyword: str) -> list[Attributes]:
        """Return the items of a sequence.

        Raises:
            FormatError: it is none.
        """
        items = self.values(keyword)
        if not all(_is_item(item) for item in items):
            raise self.wrong(keyword, "a sequence")
        return [Attributes(item, self.name) for item in items]

    def wrong(self, keyword: str, expected: str) -> FormatError:
        """Return an error: the value of an attribute is not what was expected."""
        return FormatError(f"{self.name}: {keyword} must be {expected}{GOT}{self._got(keyword)}")

    def _got(self, keyword: str) -> str:
        values = [
            "a sequence" if _is_item(value) else printable(str(value))
            for value in self.values(keyword)
        ]
        return "\\".join(values)[:LONGEST_SHOWN] or "nothing"


@contextmanager
def without_warnings() -> Iterator[None]:
    """Keep the warnings of the libraries to themselves: what matters is checked and said here."""
    loggers = {logging.getLogger(name): logging.getLogger(name).level for name in LIBRARIES}
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        for logger, level in loggers.items():
            logger.setLevel(level)


def reason(error: BaseException) -> str:
    """Return what a library says of an error, on one line of bounded length."""
    text = " ".join(str(error).split()) or type(error).__name__
    return printable(text)[:LONGEST_REASON]


def _is_item(value: Any) -> bool:
    """Say whether a value is an item of a sequence; pydicom makes its text of all that is in it."""
    return hasattr(value, "walk")


def _text(value: Any) -> str:
    """Return a value as text; numbers without the digits that are but their rounding."""
    return f"{value:.9g}" if isinstance(value, float) else str(value)


def _number(value: Any) -> float:
    """Return a number, and what is none as NaN."""
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan
