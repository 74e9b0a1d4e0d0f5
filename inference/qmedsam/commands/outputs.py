"""Where a command may write: over nothing that it reads, nor over what no earlier run has left."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..batch.png import is_own_picture
from ..batch.results import is_own_case, is_own_label_map
from ..errors import UsageError
from ..formats.columns import is_own_table
from ..formats.seal import is_sealed
from ..formats.suffixes import DICOM_SUFFIXES, PICTURE_SUFFIXES
from .places import is_same, resolved


def check_outputs(
    written: Sequence[Path | None], read: Sequence[Path | None], *, overwrites: bool
) -> None:
    """Check where a command writes.

    Args:
        written: files that it writes; None is none.
        read: all files that it reads, and folders.
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
                is_new = source.is_dir() and not path.exists()
                what = f"into {source}, which is read as a whole" if is_new else "over what is read"
                raise UsageError(f"{path} would be written {what}")
        if path.is_dir():
            raise UsageError(f"{path} must be a file to write, got a folder")
        if path.exists() and not overwrites and not is_own(path):
            raise UsageError(
                f"{path} is no result of an earlier run, or was edited since; --overwrite "
                "replaces it"
            )


def is_own(path: Path) -> bool:
    """Say whether a file is as this program wrote it: labels, a picture, statistics or a case.

    One that has been edited is not, whatever it says of its maker.
    """
    if not path.is_file():  # a pipe would be waited for
        return False
    checks = (is_own_label_map, is_own_case, is_own_picture, is_own_table, is_sealed)
    return any(is_own_of_a_kind(path) for is_own_of_a_kind in checks)


def _is_member(path: Path, folder: Path) -> bool:
    """Say whether a file is one of a folder that is read, or would be."""
    if not folder.is_dir() or not resolved(path).is_relative_to(resolved(folder)):
        return False
    name = path.name.lower()
    is_picture_of_pictures = name.endswith(PICTURE_SUFFIXES) and any(
        other.name.lower().endswith(PICTURE_SUFFIXES) for other in folder.iterdir()
    )
    return path.exists() or name.endswith(DICOM_SUFFIXES) or is_picture_of_pictures
