"""What an earlier run left: whether a label map is of these inputs, this model and these settings.

A label map says so in its archive's comment, which readers of arrays pass over. Neither threads nor
the size of batches are in it: they change no more than the rounding of single pixels. What `auto`
stands for on a processor is, as label maps of one precision or variant differ from the other's.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from ..config import Settings
from ..errors import InvalidCaseError
from ..model.manifest import Manifest
from ..model.variant import INT8, has_vnni
from .case_file import BOXES_KEY, PIXELS_KEY, SEGS_KEY, open_case
from .cases import read_label_map

LONGEST_BEGINNING = 64  # bytes, with the name of the first member
# Counts the ways in which label maps were made of the same. It is not the version, most of which
# make the same ones: with each, --resume would run whole folders again for nothing.
PREFIX = b"qmedsam 1 "


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


def mark_of(case: Path, maker: str) -> bytes:
    """Return what the label map of a case is marked with.

    Args:
        case: of which pixels and boxes count, by their checksums in its directory.
        maker: of `maker_of`.

    Raises:
        InvalidCaseError: the case cannot be read.
    """
    with open_case(case) as opened:
        inputs = opened.checksums(PIXELS_KEY, BOXES_KEY)
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
        with open_case(path) as opened:
            return opened.has(SEGS_KEY)
    except InvalidCaseError:
        return _begins_as_label_map(path)


def _begins_as_label_map(path: Path) -> bool:
    """Say whether a file is empty, or begins as an archive whose first member is `segs`."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as stream:
            beginning = stream.read(LONGEST_BEGINNING)
    except OSError:
        return False
    is_archive = beginning.startswith(b"PK\3\4") and f"{SEGS_KEY}.npy".encode() in beginning
    return is_archive or not beginning
