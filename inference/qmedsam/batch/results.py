"""What an earlier run left: whether a label map is of these inputs, this model and these settings.

A label map says so in its archive's comment, which readers of arrays pass over. Neither threads nor
the size of batches are in it: they change no more than the rounding of single pixels.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import IO

from ..config import Settings
from ..errors import InvalidCaseError
from ..model.manifest import Manifest
from ..system.files import open_regular
from .case_file import (
    BOXES_KEY,
    PIXELS_KEY,
    READ_ERRORS,
    SEGS_KEY,
    CaseFile,
    open_case,
    open_case_stream,
)
from .cases import INFO_KEY, read_label_map

LONGEST_BEGINNING = 64  # bytes, with the name of the first member
PREFIX = b"qmedsam 1 "  # counts the ways in which label maps were made of the same


def maker_of(manifest: Manifest, settings: Settings) -> str:
    """Return what tells a model and its settings from others."""
    return json.dumps(
        [
            sorted(manifest.sha256.items()),
            settings.precision,
            settings.volume_prompt,
            settings.regions,
        ]
    )


def mark_of(case: CaseFile, maker: str) -> bytes:
    """Return what the label map and the picture of a case are marked with.

    Args:
        case: of which what is segmented and what is copied count, by checksums in its directory.
        maker: of `maker_of`.
    """
    inputs = case.checksums(PIXELS_KEY, BOXES_KEY, INFO_KEY)
    return PREFIX + hashlib.sha256(f"{inputs} {maker}".encode()).hexdigest().encode()


def is_result(path: Path, mark: bytes) -> bool:
    """Say whether a file is a whole label map that has a mark."""
    try:
        with open_case(path) as opened:
            if opened.comment != mark:
                return False
        read_label_map(path)
    except InvalidCaseError:
        return False
    return True


def is_label_map(path: Path) -> bool:
    """Say whether a file is a label map, whatever made it, or what a power cut left of one."""
    try:
        with open_regular(path) as stream:
            return is_label_map_stream(stream)
    except OSError:
        return False


def is_label_map_stream(stream: IO[bytes]) -> bool:
    """Say the same of what is in a stream.

    Raises:
        OSError: it cannot be read.
    """
    try:
        with open_case_stream(stream) as opened:
            return opened.has(SEGS_KEY)
    except (InvalidCaseError, *READ_ERRORS):
        stream.seek(0)
        return _begins_as_label_map(stream.read(LONGEST_BEGINNING))


def _begins_as_label_map(beginning: bytes) -> bool:
    """Say whether a file is empty, or begins as an archive whose first member is `segs`."""
    is_archive = beginning.startswith(b"PK\3\4") and f"{SEGS_KEY}.npy".encode() in beginning
    return is_archive or not beginning
