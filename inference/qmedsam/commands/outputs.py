"""Where a command may write: over nothing that it reads, nor over what no earlier run has left."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Sequence
from pathlib import Path

from ..batch.case_file import open_case
from ..batch.cases import INFO_KEY
from ..batch.results import is_label_map
from ..errors import InvalidCaseError, UsageError
from ..formats.suffixes import DICOM_SUFFIXES, PICTURE_SUFFIXES
from ..system.files import open_regular
from .places import is_same, resolved

# What stands in the beginning of each file of labels and each picture that this program wrote.
MARKS = (
    b'"made_by": "qmedsam',
    b"Software\0QMedSAM",
    b"QMedSAM Service",
    b"label,name,quality,voxels,volume_mm3",
)
LONGEST_BEGINNING = 1 << 16  # bytes


def check_outputs(
    written: Sequence[Path | None], read: Sequence[Path | None], *, overwrites: bool
) -> None:
    """Check where a command writes.

    Args:
        written: files that it writes; None is none.
        read: files that it reads, and folders.
        overwrites: whether other files of the user may be replaced.

    Raises:
        UsageError: a file would be written over one that is read, over another one that is written,
            or over one that is no earlier result.
    """
    outputs = [path for path in written if path is not None]
    inputs = [path for path in read if path is not None]
    for place, path in enumerate(outputs):
        if any(is_same(path, other) for other in outputs[:place]):
            raise UsageError(f"{path} would be written twice; name another file")
        for source in inputs:
            if is_same(path, source) or _is_member(path, source):
                raise UsageError(f"{path} would be written over what is read")
        if path.is_dir():
            raise UsageError(f"{path} must be a file to write, got a folder")
        if path.exists() and not overwrites and not is_own(path):
            raise UsageError(f"{path} is no result of an earlier run; --overwrite replaces it")


def is_own(path: Path) -> bool:
    """Say whether a file is one that this program wrote: labels, a picture or a case."""
    if is_label_map(path) or _is_converted_case(path):
        return True
    try:
        with open_regular(path) as stream:
            beginning = stream.read(LONGEST_BEGINNING)
            if beginning.startswith(b"\x1f\x8b"):
                stream.seek(0)
                with gzip.open(stream) as packed:
                    beginning = packed.read(LONGEST_BEGINNING)
    except (OSError, EOFError, zlib.error):
        return False
    return any(mark in beginning for mark in MARKS)


def _is_converted_case(path: Path) -> bool:
    try:
        with open_case(path) as opened:
            return opened.has(INFO_KEY) and MARKS[0].decode() in str(opened.array(INFO_KEY))
    except InvalidCaseError:
        return False


def _is_member(path: Path, folder: Path) -> bool:
    """Say whether a file is one of a folder that is read, or would be."""
    if not folder.is_dir() or not resolved(path).is_relative_to(resolved(folder)):
        return False
    name = path.name.lower()
    is_picture_of_pictures = name.endswith(PICTURE_SUFFIXES) and any(
        other.name.lower().endswith(PICTURE_SUFFIXES) for other in folder.iterdir()
    )
    return path.exists() or name.endswith(DICOM_SUFFIXES) or is_picture_of_pictures
