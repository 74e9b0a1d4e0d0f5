"""What is written with a label map: how values became 8 bits, and the names of the objects."""

from __future__ import annotations

import gzip
import io
import json
import re
from dataclasses import dataclass
from pathlib import Path

from .seal import MAKER, OPEN_SEAL
from .suffixes import GZIP_SUFFIX
from .unpacking import UNPACKING_ERRORS

IN_FILE = b'{"made_by": "qmedsam '  # how notes begin that stand as text in a file
LINE = re.compile(r"qmedsam [^ ,]+, (.+)")
NRRD_SUFFIX = ".nrrd"
LONGEST_BEGINNING = 1 << 20  # bytes of a file, within which they stand


def clean_name(name: str) -> str:
    """Return a name that can be written, with a replacement character for half a letter.

    JSON may have such surrogates, and an argument that is not in UTF-8.
    """
    return name.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _unnamed(label: int) -> str:
    """Return what an object without a name is called."""
    return f"Object {label}"


@dataclass(frozen=True)
class LabelNotes:
    """What is written with a label map.

    Attributes:
        window: how values became 8 bits.
        names: of the objects, in the order of their labels; an empty one is that of its number.
        has_seal: whether they leave room for a `seal`, as files have that may be edited.
    """

    window: str
    names: tuple[str, ...] = ()
    has_seal: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "window", clean_name(self.window))
        object.__setattr__(self, "names", tuple(map(clean_name, self.names)))

    def name(self, label: int) -> str:
        """Return the name of an object by its label, counted from 1."""
        named = self.names[label - 1] if label <= len(self.names) else ""
        return named or _unnamed(label)

    def line(self) -> str:
        """Return how the labels were made, for a short field of a header."""
        return f"{MAKER}, {self.window}"

    @classmethod
    def from_line(cls, line: str) -> LabelNotes | None:
        """Return the window of what `line` returned, without names; None of other text."""
        made = LINE.fullmatch(line)
        return None if made is None else cls(made[1])

    @classmethod
    def from_json(cls, text: str) -> LabelNotes | None:
        """Return what `as_json` wrote, where a file has it; None of other text."""
        try:
            document = json.loads(text)
            names = {int(label): str(name) for label, name in document["labels"].items()}
            window = document["window"]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None
        if not isinstance(window, str) or sorted(names) != list(range(1, len(names) + 1)):
            return None
        in_order = ((label, names[label]) for label in sorted(names))
        return cls(window, tuple("" if name == _unnamed(i) else name for i, name in in_order))

    def as_json(self) -> str:
        """Return all of it."""
        names = {label: self.name(label) for label in range(1, len(self.names) + 1)}
        maker = OPEN_SEAL if self.has_seal else {"made_by": MAKER}
        return json.dumps({**maker, "window": self.window, "labels": names})


def written_notes(path: Path) -> LabelNotes | None:
    """Return the notes that a label map of this program has as text; None where there are none.

    Args:
        path: of a file in NIfTI, NRRD, MetaImage, PNG or TIFF.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as stream:
        beginning = stream.read(LONGEST_BEGINNING)
    if path.name.lower().endswith(GZIP_SUFFIX):
        beginning = _unpacked(beginning)
    if path.name.lower().endswith(NRRD_SUFFIX):  # which doubles backslashes
        beginning = beginning.replace(b"\\\\", b"\\")
    place = beginning.find(IN_FILE)
    if place < 0:
        return None
    try:
        document, _ = json.JSONDecoder().raw_decode(beginning[place:].decode("latin-1"))
    except (ValueError, RecursionError):
        return None
    return LabelNotes.from_json(json.dumps(document))


def _unpacked(beginning: bytes) -> bytes:
    """Unpack the beginning of what is packed."""
    try:
        with gzip.open(io.BytesIO(beginning)) as stream:
            return stream.read(LONGEST_BEGINNING)
    except UNPACKING_ERRORS:
        return b""
