"""What an earlier run left: whether a label map is of these inputs, this model and these settings.

A label map says so in its archive's comment, which readers of arrays pass over. Neither threads nor
the size of batches are in it: they change no more than the rounding of single pixels. What `auto`
stands for on a processor is, as label maps of one precision or variant differ from the other's.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import IO

from ..config import Settings
from ..errors import InvalidCaseError
from ..model.manifest import Manifest
from ..model.variant import INT8, has_vnni
from ..system.files import open_regular
from ..system.memory import largest_label_map_bytes
from .archive import OWN_BEGINNING, OWN_COMMENT
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
# Counts the ways in which label maps were made of the same. It is not the version, most of which
# make the same ones: with each, --resume would run whole folders again for nothing.
PREFIX = OWN_COMMENT + b"1 "


def maker_of(manifest: Manifest, precision: str, settings: Settings) -> str:
    """Return what tells a model and its settings from others.

    Args:
        manifest: of the model that runs, whose digests are its variant's.
        precision: in which its other layers run on this processor: f32 or bf16.
        settings: as given.
    """
    overflows = manifest.precision == INT8 and not has_vnni()  # which changes masks
    return json.dumps(
        [
            sorted(manifest.sha256.items()),
            precision,
            overflows,
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


def is_own_label_map(path: Path) -> bool:
    """Say whether a file is a label map of this program, or what a power cut left of one.

    Beginning and comment tell: archives that other programs write, of arrays of this one too, have
    others. One of more than 4 GB is written by NumPy, and not known again.
    """
    return _is_own(path, SEGS_KEY)


def is_own_case(path: Path) -> bool:
    """Say of a case that `convert` made what `is_own_label_map` says of a label map."""
    return _is_own(path, PIXELS_KEY)


def is_own_stream(stream: IO[bytes], key: str = SEGS_KEY) -> bool:
    """Say of an open file what `is_own_label_map` does.

    Args:
        stream: of it, at its beginning.
        key: of the member that it must have.

    Raises:
        OSError: it cannot be read.
    """
    beginning = stream.read(LONGEST_BEGINNING)
    if not beginning:
        return True
    if not beginning.startswith(OWN_BEGINNING) or f"{key}.npy".encode() not in beginning:
        return False
    try:
        with open_case_stream(stream) as opened:
            if not opened.has(key) or len(set(opened.members)) < len(opened.members):
                return False
            if opened.comment.startswith(OWN_COMMENT):
                return True
            # What stands for a case that failed, in which no work is lost.
            return not opened.array(key, 2 * largest_label_map_bytes()).any()
    except (InvalidCaseError, *READ_ERRORS):
        return True


def _is_own(path: Path, key: str) -> bool:
    try:
        with open_regular(path) as stream:
            return is_own_stream(stream, key)
    except OSError:
        return False
