"""The text at the beginning of NRRD and MetaImage, as far as it says where the values are.

The library that reads these files follows a header to any file that it names, passes over checksums
of packed values, and writes to the terminal where a MetaImage is not whole. All that is found out
before.
"""

from __future__ import annotations

import math
import re
import zlib
from pathlib import PurePath

from .scan import FormatError

NRRD_MAGIC = b"NRRD00"
LONGEST_HEADER = 1 << 20  # bytes
NRRD_END = re.compile(rb"\r?\n\r?\n")
NRRD_DATA_FILE = re.compile(rb"^\s*data\s*file\s*:(.*)$", re.MULTILINE | re.IGNORECASE)
NRRD_ENCODING = re.compile(rb"^\s*encoding\s*:(.*)$", re.MULTILINE | re.IGNORECASE)
NRRD_SKIP = re.compile(rb"^\s*(?:line|byte)\s*skip\s*:", re.MULTILINE | re.IGNORECASE)
NRRD_UNITS = re.compile(rb"^\s*(?:space\s+)?units\s*:(.*)$", re.MULTILINE | re.IGNORECASE)
NRRD_DIRECTIONS = re.compile(rb"^space directions:.*$", re.MULTILINE)
QUOTED = re.compile(rb'"([^"]*)"')
NRRD_PACKED = ("gz", "gzip")
GZIP_WINDOW = 16 + zlib.MAX_WBITS
INFLATED_AT_ONCE = 1 << 22  # bytes
META_FIELD = re.compile(rb"^[ \t]*(\w+)[ \t]*[=:](.*)$", re.MULTILINE)
META_DATA_FILE = "ElementDataFile"  # the last field
META_IN_THE_FILE = "LOCAL"
META_UNIT = "DistanceUnits"
META_UNITS = ("um", "mm", "cm")
UNITS_MM = {
    **{"m": 1e3, "cm": 10.0, "mm": 1.0, "um": 1e-3, "\u00b5m": 1e-3, "\u03bcm": 1e-3, "nm": 1e-6},
    **{"micron": 1e-3, "microns": 1e-3, "meter": 1e3, "micrometer": 1e-3, "millimeter": 1.0},
}
SEVERAL_FILES = "LIST"
META_BYTES = {"CHAR": 1, "SHORT": 2, "INT": 4, "LONG": 4, "LONG_LONG": 8, "FLOAT": 4, "DOUBLE": 8}


def nrrd_data_file(name: str, content: bytes) -> str | None:
    """Return the name of the file with the values, which lies beside this one; None is this one.

    Raises:
        FormatError: it is no NRRD, or the values are in several files or elsewhere.
    """
    if not content.startswith(NRRD_MAGIC):
        raise FormatError(f"{name} must be a readable volume, got something else than NRRD")
    header = NRRD_END.split(content[:LONGEST_HEADER], maxsplit=1)[0]
    found = NRRD_DATA_FILE.search(header)
    return None if found is None else _plain(name, _text(found[1]))


def meta_data_file(name: str, content: bytes) -> str | None:
    """Return what `nrrd_data_file` does of a MetaImage.

    Raises:
        FormatError: it is no MetaImage, or the values are in several files or elsewhere.
    """
    last = _last_field(content)
    if last is None:
        raise FormatError(f"{name} must be a readable volume, got something else than MetaImage")
    # Whoever reads the file must not find another name than this.
    if content.lower().find(META_DATA_FILE.lower().encode()) != last.start(1):
        raise FormatError(f"{name} must say {META_DATA_FILE} once, as the last of its fields")
    other = _text(last[2])
    return None if other.upper() == META_IN_THE_FILE else _plain(name, other)


def nrrd_unit(content: bytes) -> str:
    """Return the unit of places in an NRRD file; empty where it says none, or several."""
    header = NRRD_END.split(content[:LONGEST_HEADER], maxsplit=1)[0]
    found = NRRD_UNITS.search(header)
    units = {_text(each) for each in QUOTED.findall(found[1])} - {""} if found else set()
    return units.pop() if len(units) == 1 else ""


def meta_unit(content: bytes) -> str:
    """Return what `nrrd_unit` does of a MetaImage."""
    fields = META_FIELD.finditer(content, 0, min(len(content), LONGEST_HEADER))
    found = next((_text(each[2]) for each in fields if _text(each[1]) == META_UNIT), "")
    return found if found in META_UNITS else ""


def with_nrrd_unit(content: bytes, unit: str, axes: int) -> bytes:
    """Return an NRRD file that SimpleITK wrote with the unit of its places."""
    line = b"space units:" + b' "%s"' % unit.encode() * axes
    return NRRD_DIRECTIONS.sub(lambda found: found[0] + b"\n" + line, content, count=1)


def check_nrrd_values(name: str, content: bytes, other: bytes | None) -> None:
    """Check that packed values are whole; the library checks that there are enough of others.

    Args:
        name: of the file, for messages.
        content: of the file.
        other: content of the file that has the values; None is this one.

    Raises:
        FormatError: they are not.
    """
    header, *rest = NRRD_END.split(content, maxsplit=1)
    encoding = NRRD_ENCODING.search(header)
    is_packed = encoding is not None and _text(encoding[1]).lower() in NRRD_PACKED
    if is_packed and not NRRD_SKIP.search(header):
        _check_stream(name, (rest or [b""])[0] if other is None else other, GZIP_WINDOW)


def check_meta_header(name: str, content: bytes, other: bytes | None) -> None:
    """Check that a MetaImage says what its values are, and that these are whole.

    Args:
        name: of the file, for messages.
        content: of the file.
        other: content of the file that has the values; None is this one.

    Raises:
        FormatError: it does not, or they are not.
    """
    last = _last_field(content)
    assert last is not None  # as there is none without it
    header, end = content[: last.end()], last.end() + 1
    fields = {_text(each[1]): _text(each[2]) for each in META_FIELD.finditer(header)}
    try:
        sides = [int(side) for side in fields["DimSize"].split()]
        if len(sides) != int(fields["NDims"]) or min(sides) < 1:
            raise ValueError(f"{fields['DimSize']} for {fields['NDims']} axes")
        kind = fields["ElementType"].removeprefix("MET_").removesuffix("_ARRAY")
        size = META_BYTES[kind.removeprefix("U")] * int(fields.get("ElementNumberOfChannels", 1))
        packed = int(fields.get("CompressedDataSize", 0))
    except (ValueError, KeyError) as error:
        raise FormatError(
            f"{name} must be a readable volume with NDims, DimSize and ElementType, got {error}"
        ) from error
    is_packed = fields.get("CompressedData", "").upper() == "TRUE"
    needed = packed if is_packed else size * math.prod(sides)
    values = content[end:] if other is None else other
    if needed > len(values):
        raise FormatError(
            f"{name} must be a readable volume, got {len(values)} bytes of {needed}: it is cut off"
        )
    if is_packed:
        _check_stream(name, values, zlib.MAX_WBITS)


def _check_stream(name: str, packed: bytes, window_bits: int) -> None:
    """Check that packed values have an end, and the checksum that it says; none are kept.

    Raises:
        FormatError: they are broken or cut off.
    """
    inflater = zlib.decompressobj(window_bits)
    try:
        while packed and not inflater.eof:
            inflater.decompress(packed, INFLATED_AT_ONCE)
            packed = inflater.unconsumed_tail
    except zlib.error as error:
        raise FormatError(
            f"{name} must be a readable volume, got broken values: {error}"
        ) from error
    if not inflater.eof:
        raise FormatError(f"{name} must be a readable volume, got packed values that are cut off")


def _last_field(content: bytes) -> re.Match[bytes] | None:
    """Return the field with which the header of a MetaImage ends; None if it is no MetaImage."""
    fields = META_FIELD.finditer(content, 0, min(len(content), LONGEST_HEADER))
    return next((each for each in fields if _text(each[1]) == META_DATA_FILE), None)


def _plain(name: str, other: str) -> str:
    """Return the name of a file beside another one.

    Raises:
        FormatError: it is a path, or stands for several.
    """
    if not other or PurePath(other).name != other or "%" in other or other == SEVERAL_FILES:
        raise FormatError(f"{name} must have its values in one file beside it, got {other!r}")
    return other


def _text(value: bytes) -> str:
    return value.decode("utf-8", errors="replace").strip()
