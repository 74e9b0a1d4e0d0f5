"""Files of DICOM, wherever they lie: in folders, in a zip archive, or listed in a DICOMDIR.

A file is opened when it is read, so that a folder of many series is not in memory at once.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

import pydicom
from pydicom.errors import InvalidDicomError

from ...system.files import printable
from ..folder import open_file, visible_files
from ..scan import FormatError
from ..suffixes import GZIP_SUFFIX, PACKED_DICOM_SUFFIXES, ZIP_SUFFIX
from ..unpacking import UNPACKING_ERRORS, unpack_gzip, unpack_zip
from .attributes import Attributes, reason, without_warnings

DICOMDIR = "DICOMDIR"


@dataclass(frozen=True)
class SourceFile:
    """A file that may be DICOM.

    Attributes:
        name: for messages.
        open: opens it for reading; whoever calls it closes the stream.
        is_named: whether the name is its own, by which it can be told from a note.
    """

    name: str
    open: Callable[[], BinaryIO]
    is_named: bool = True


def uploaded_files(name: str, contents: Sequence[bytes]) -> list[SourceFile]:
    """Return files whose contents are in memory, and whose names are not known but for one."""
    return [
        SourceFile(
            f"{name}, file {number} of {len(contents)},", partial(io.BytesIO, content), False
        )
        for number, content in enumerate(contents, 1)
    ]


def files_of_bytes(name: str, content: bytes) -> list[SourceFile]:
    """Return a file whose content is in memory, unpacked, or the files of an archive.

    Raises:
        FormatError: it cannot be unpacked.
    """
    if name.lower().endswith(ZIP_SUFFIX):
        return _members(name, io.BytesIO(content))
    if name.lower().endswith(GZIP_SUFFIX):
        try:
            content = unpack_gzip(io.BytesIO(content))
        except (*UNPACKING_ERRORS, MemoryError) as error:
            raise _broken_archive(name, error) from error
    return [SourceFile(name, partial(io.BytesIO, content))]


def files_of_path(path: Path) -> list[SourceFile]:
    """Return the files of a folder and the folders in it, of a DICOMDIR or archive, or a file.

    They are those of `visible_files` of a folder, of which some may be no files.

    Raises:
        FormatError: they cannot be read.
        OSError: likewise.
    """
    if path.is_dir():
        return [_file_of_path(each) for each in visible_files(path)]
    if path.name.upper() == DICOMDIR:
        return [_file_of_path(each) for each in _listed(path)]
    if path.name.lower().endswith(ZIP_SUFFIX):
        with path.open("rb") as stream:
            return _members(str(path), stream)
    return [_file_of_path(path)]


def _members(name: str, packed: BinaryIO) -> list[SourceFile]:
    """Return the files of a zip archive.

    Raises:
        FormatError: it cannot be unpacked.
    """
    try:
        members = unpack_zip(packed)
    except (*UNPACKING_ERRORS, MemoryError) as error:
        raise _broken_archive(name, error) from error
    return [
        SourceFile(f"{name}/{each}", partial(io.BytesIO, members[each])) for each in sorted(members)
    ]


def _broken_archive(name: str, error: BaseException) -> FormatError:
    return FormatError(f"{name} must be a readable archive, got: {reason(error)}")


def _listed(path: Path) -> list[Path]:
    """Return the files that a DICOMDIR lists, each once, whether they are there or not.

    Raises:
        FormatError: it cannot be read, or lists what does not lie beside it.
    """
    try:
        with without_warnings():
            directory = Attributes(pydicom.dcmread(path), str(path))
    except InvalidDicomError as error:
        raise FormatError(f"{path} must be a DICOMDIR, got something else") from error
    except Exception as error:  # of a broken one, any
        raise FormatError(f"{path} must be a readable DICOMDIR, got: {reason(error)}") from error
    records = directory.items("DirectoryRecordSequence")
    found = [record.values("ReferencedFileID") for record in records]
    listed = [_beside(path, [str(part) for part in parts]) for parts in found if parts]
    return sorted({os.path.realpath(each): each for each in listed}.values())


def _beside(directory: Path, parts: list[str]) -> Path:
    """Return the path of a file that a DICOMDIR lists.

    Discs have names in capitals, which some systems show as small letters.

    Raises:
        FormatError: it does not lie beside the DICOMDIR or in a folder there.
    """
    folder = directory.parent
    found = folder.joinpath(*parts)
    if not Path(os.path.realpath(found)).is_relative_to(os.path.realpath(folder)):
        raise FormatError(f"{directory} must list files beside it, got {printable(found)}")
    small = folder.joinpath(*(part.lower() for part in parts))
    return small if small.is_file() and not found.is_file() else found


def _file_of_path(path: Path) -> SourceFile:
    if path.name.lower().endswith(PACKED_DICOM_SUFFIXES):
        return SourceFile(str(path), partial(_unpacked, path))
    return SourceFile(str(path), partial(open_file, path))


def _unpacked(path: Path) -> BinaryIO:
    """Open what a file packed by gzip holds.

    Raises:
        OSError: it cannot be read or unpacked.
    """
    try:
        with open_file(path) as stream:
            return io.BytesIO(unpack_gzip(stream))
    except (*UNPACKING_ERRORS, MemoryError) as error:
        raise OSError(f"it cannot be unpacked: {reason(error)}") from error
