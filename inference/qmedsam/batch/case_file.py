"""The archive of a case, open for reading: the one reader for service, training and scoring.

Members are read when they are asked for, the headers of arrays without their values, and one slice
without the volume. What is wrong with a file is said by an `InvalidCaseError`; the caller names it.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from numpy.typing import NDArray

from ..errors import InvalidCaseError
from ..system.deflate import DeflateError
from ..system.files import open_regular, printable
from .archive import ArrayHeader, check_directory, read_array, read_header, read_slice

# Members of a case: pixels, boxes, truth, what was found, and the size of a voxel.
PIXELS_KEY, BOXES_KEY, GTS_KEY, SEGS_KEY, SPACING_KEY = "imgs", "boxes", "gts", "segs", "spacing"
NAMED_MEMBERS = 10  # of an archive, in a message
UNBOUNDED = 1 << 62  # bytes; for files of one's own, to train on and to score
# What NumPy and zipfile raise on a file that is broken in one way or another.
READ_ERRORS = (
    OSError,
    ValueError,
    EOFError,
    KeyError,
    NotImplementedError,  # a compression method that zipfile does not know
    RuntimeError,  # an encrypted member
    MemoryError,  # a header that promises more than fits
    OverflowError,  # or more than can be counted
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
    DeflateError,
)


class CaseFile:
    """The members of an open archive; made by `open_case` and its like.

    Args:
        stream: of the archive's bytes.
        archive: the same, opened.
    """

    def __init__(self, stream: IO[bytes], archive: zipfile.ZipFile) -> None:
        self._stream = stream
        self._archive = archive

    def has(self, key: str) -> bool:
        """Whether there is an array of that name."""
        return f"{key}.npy" in self._archive.NameToInfo

    @property
    def comment(self) -> bytes:
        """The comment of the archive."""
        return self._archive.comment

    @property
    def members(self) -> list[str]:
        """The names of what is in the archive, `.npy` included, in order."""
        return self._archive.namelist()

    def checksums(self, *keys: str) -> str:
        """Return what tells the content of arrays from that of others, without reading it.

        Args:
            keys: their names; one that there is not is told as such.
        """
        found = (self._archive.NameToInfo.get(f"{key}.npy") for key in keys)
        return " ".join(
            "none" if one is None else f"{one.CRC:08x}-{one.file_size}" for one in found
        )

    def header(self, key: str) -> ArrayHeader:
        """Read what an array says of itself before its values.

        Raises:
            InvalidCaseError: there is no such array, or it cannot be read.
        """
        with self._reading(key) as member:
            return read_header(self._stream, self._archive, member)

    def array(self, key: str, most_bytes: int = UNBOUNDED) -> NDArray[Any]:
        """Read an array, which cannot be written to.

        Args:
            key: its name.
            most_bytes: that it may be inflated to.

        Raises:
            InvalidCaseError: there is no such array, or it cannot be read, or is larger.
        """
        with self._reading(key) as member:
            return read_array(self._stream, self._archive, member, most_bytes=most_bytes)

    def slice(self, key: str, z: int) -> NDArray[Any]:
        """Read one slice of an array (D, H, W); see `archive.read_slice`.

        Raises:
            InvalidCaseError: there is no such array, or it cannot be read.
        """
        with self._reading(key) as member:
            return read_slice(self._stream, self._archive, member, z)

    @contextmanager
    def _reading(self, key: str) -> Iterator[str]:
        """Yield the name of a member; what goes wrong inside is an InvalidCaseError."""
        if not self.has(key):
            raise InvalidCaseError(self._missing(key))
        try:
            yield f"{key}.npy"
        except READ_ERRORS as error:
            found = str(error) or type(error).__name__
            raise InvalidCaseError(f"Member {key!r} cannot be read: {found}") from error

    def _missing(self, key: str) -> str:
        members = self._archive.namelist()
        if key in members:
            return f"Member {key!r} must be an array, got bytes"
        named = [printable(member.removesuffix(".npy")) for member in members[:NAMED_MEMBERS]]
        more = f" and {len(members) - NAMED_MEMBERS} more" if len(members) > NAMED_MEMBERS else ""
        names = (", ".join(named) or "nothing") + more
        return f"File must have a member {key!r}, got {names}"


@contextmanager
def open_case(path: Path) -> Iterator[CaseFile]:
    """Open the archive of a case.

    Raises:
        InvalidCaseError: it is no regular file, or no archive, or what is done with it fails.
    """
    try:
        if not path.is_file():  # a pipe would be waited for
            found = "something else" if path.exists() else "nothing"
            raise InvalidCaseError(f"File must be a regular file, got {found}")
        with open_regular(path) as stream, open_case_stream(stream) as case:
            yield case
    except READ_ERRORS as error:
        raise InvalidCaseError(f"File must be a readable .npz archive, got: {error}") from error


@contextmanager
def open_case_stream(stream: IO[bytes]) -> Iterator[CaseFile]:
    """Open the archive in a stream; what goes wrong with it is one of READ_ERRORS.

    Raises:
        InvalidCaseError: it is no archive.
    """
    if not zipfile.is_zipfile(stream):
        raise InvalidCaseError("File must be a .npz archive, got none or a part of one")
    check_directory(stream)
    with zipfile.ZipFile(stream) as archive:
        yield CaseFile(stream, archive)


@contextmanager
def open_case_bytes(content: bytes) -> Iterator[CaseFile]:
    """Open the archive of a case from the content of its file; see `open_case`."""
    try:
        with open_case_stream(io.BytesIO(content)) as case:
            yield case
    except READ_ERRORS as error:
        raise InvalidCaseError(f"File must be a readable .npz archive, got: {error}") from error
