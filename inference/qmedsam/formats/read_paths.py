"""Which files are read where one is named: what lies in it, is listed in it, or goes with it."""

from __future__ import annotations

from pathlib import Path

from .dicom.sources import DICOMDIR, files_of_path
from .itk_header import LONGEST_HEADER, meta_data_file, nrrd_data_file
from .nifti import partner_of
from .scan import FormatError
from .suffixes import ITK_HEADER_SUFFIXES, ITK_SUFFIXES, NRRD_SUFFIXES


def paths_read(path: Path) -> list[Path]:
    """Return the path of a file or folder, and of all that is read with it.

    Of one that cannot be read there is no more than itself: whoever reads it says so.
    """
    try:
        return [path, *_read_with(path)]
    except (FormatError, OSError):
        return [path]


def _read_with(path: Path) -> list[Path]:
    """Return the other files.

    Raises:
        FormatError, OSError: they cannot be found out.
    """
    if path.is_dir() or path.name.upper() == DICOMDIR:
        return [Path(file.name) for file in files_of_path(path)]
    if not path.is_file():  # a pipe would be waited for
        return []
    other = partner_of(path.name)
    lower = path.name.lower()
    if lower.endswith((*ITK_SUFFIXES, *ITK_HEADER_SUFFIXES)):
        with path.open("rb") as stream:
            header = stream.read(LONGEST_HEADER)
        named = nrrd_data_file if lower.endswith(NRRD_SUFFIXES) else meta_data_file
        other = named(str(path), header)
    return [] if other is None else [path.with_name(other)]
