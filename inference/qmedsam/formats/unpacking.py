"""Packed files, unpacked within the memory limit."""

from __future__ import annotations

import gzip
import zipfile
import zlib
from pathlib import PurePosixPath
from typing import BinaryIO

from ..system.memory import largest_array_bytes

UNPACKING_ERRORS = (OSError, EOFError, ValueError, zlib.error, zipfile.BadZipFile, RuntimeError)
KINDS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
MOST_MEMBERS = 100_000


def unpack_gzip(packed: BinaryIO) -> bytes:
    """Unpack gzip within the memory limit.

    Raises:
        ValueError: there is more.
        OSError, EOFError, zlib.error: it is broken.
    """
    limit = largest_array_bytes()
    with gzip.open(packed) as stream:
        plain = stream.read(limit + 1)
    if len(plain) > limit:
        raise ValueError(f"it unpacks to more than the {limit} bytes that the memory limit allows")
    return plain


def unpack_zip(packed: BinaryIO) -> dict[str, bytes]:
    """Unpack the visible files of a zip archive, by their names in it, within the memory limit.

    Nothing is written: a name that leads elsewhere is only a name.

    Raises:
        ValueError: there is more, or very many files, or one that is packed in an unusual way.
        OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error: it is broken, or needs a
            password.
    """
    limit = largest_array_bytes()
    with zipfile.ZipFile(packed) as archive:
        members = [
            each
            for each in archive.infolist()
            if not each.is_dir() and not _is_hidden(each.filename)
        ]
        if len(members) > MOST_MEMBERS:
            raise ValueError(f"it has {len(members)} files, more than {MOST_MEMBERS}")
        if sum(each.file_size for each in members) > limit:  # beyond which nothing is unpacked
            raise ValueError(
                f"it unpacks to more than the {limit} bytes that the memory limit allows"
            )
        for each in members:
            if each.compress_type not in KINDS:  # others unpack without a limit
                raise ValueError(f"{each.filename} is neither stored nor deflated")
        return {each.filename: archive.read(each) for each in members}


def _is_hidden(name: str) -> bool:
    """Whether a file or a folder on the way to it begins with a dot, or is of macOS alone."""
    parts = PurePosixPath(name).parts
    return any((part.startswith(".") and part != "..") or part == "__MACOSX" for part in parts)
