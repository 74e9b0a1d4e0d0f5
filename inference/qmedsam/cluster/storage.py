"""Folders of cases and label maps, shared or behind a URL, by fsspec.

A folder that all machines see is used as it is. Of any other, a worker fetches a case into a folder
of its own and puts the label map back whole or not at all.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

from fsspec import filesystem
from fsspec.core import url_to_fs

from ..batch.case_file import READ_ERRORS
from ..batch.cases import Outline, is_case_name, list_cases, read_outline, read_outline_of
from ..batch.results import is_own_stream
from ..errors import InferenceError
from ..system.files import TEMPORARY_NAME, make_writable, remove_leftovers

LOCAL = ("file", "local")
# A file appears there when it is whole; elsewhere it is renamed when it is.
WHOLE_AT_ONCE = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "memory"}
BLOCK_BYTES = 1 << 16  # of what is read at once of the headers of a case


class StorageError(InferenceError):
    """A folder cannot be used; the message names it."""


@dataclass(frozen=True)
class Storage:
    """A folder.

    Attributes:
        url: of fsspec, or a path.
    """

    url: str

    @property
    def folder(self) -> Path | None:
        """The folder, where it is one of this machine's file system."""
        file_system, path = self._opened()
        return Path(path or "/") if set(_protocols(file_system)) & set(LOCAL) else None

    def is_same(self, other: Storage) -> bool:
        """Whether another folder is this one by another spelling."""
        if self.folder is not None and other.folder is not None:
            try:
                return self.folder.samefile(other.folder)
            except OSError:  # one is not there yet
                return self.folder == other.folder
        mine, others = self._opened(), other._opened()
        is_kind = bool(set(_protocols(mine[0])) & set(_protocols(others[0])))
        return is_kind and mine[1].strip("/") == others[1].strip("/")

    def way_to(self, other: Storage) -> PurePath | None:
        """Return the relative path of another folder that is in this one; None where it is not."""
        if self.folder is not None and other.folder is not None:
            mine, others = PurePath(self.folder.resolve()), PurePath(other.folder.resolve())
        else:
            (my_system, my_path), (other_system, other_path) = self._opened(), other._opened()
            if not set(_protocols(my_system)) & set(_protocols(other_system)):
                return None
            mine, others = (PurePosixPath("/", path) for path in (my_path, other_path))
        return others.relative_to(mine) if others.is_relative_to(mine) else None

    def names(self) -> list[str]:
        """Return the names of the cases in it.

        Raises:
            StorageError: it cannot be read.
        """
        with _said(f"Folder {self.url} cannot be read"):
            if self.folder is not None:
                return [path.name for path in list_cases(self.folder)]
            file_system, path = self._opened()
            file_system.invalidate_cache()
            found = [str(each).rpartition("/")[2] for each in file_system.ls(path, detail=False)]
        return sorted(name for name in found if is_case_name(name))

    def outline(self, name: str) -> Outline | None:
        """Return the shape and the boxes of a case; None where they cannot be read."""
        if self.folder is not None:
            return read_outline(self.folder / name)
        file_system, path = self._opened()
        try:
            with (
                _said(f"File {name} cannot be read"),
                file_system.open(f"{path}/{name}", "rb", block_size=BLOCK_BYTES) as stream,
            ):
                return read_outline_of(stream)
        except StorageError:  # the worker that gets it will say what is wrong
            return None

    def make(self) -> None:
        """Make the folder where there is none.

        Raises:
            StorageError: it cannot be written.
        """
        with _said(f"Folder {self.url} cannot be written"):
            if self.folder is not None:
                make_writable(self.folder)
            else:
                file_system, path = self._opened()
                file_system.makedirs(path, exist_ok=True)

    def tidy(self) -> None:
        """Remove what lost workers left half written."""
        if self.folder is not None:
            remove_leftovers(self.folder)

    def fetch(self, name: str, target: Path) -> bool:
        """Copy a file here; False where there is none."""
        file_system, path = self._opened()
        try:
            file_system.get_file(f"{path}/{name}", str(target))
        except FileNotFoundError:
            target.unlink(missing_ok=True)
            return False
        return True

    def put(self, source: Path) -> None:
        """Copy a file there, under its name, so that it appears whole or not at all."""
        file_system, path = self._opened()
        target = f"{path}/{source.name}"
        if set(_protocols(file_system)) & WHOLE_AT_ONCE:
            file_system.put_file(str(source), target)
            return
        temporary = f"{path}/{TEMPORARY_NAME.format(os.urandom(8).hex())}"
        file_system.put_file(str(source), temporary)
        file_system.mv(temporary, target)

    def holds_label_map(self, name: str) -> bool | None:
        """Say whether a file is a label map of an earlier run; None where there is no such file."""
        file_system, path = self._opened()
        if not file_system.exists(f"{path}/{name}"):
            return None
        try:
            with file_system.open(f"{path}/{name}", "rb", block_size=BLOCK_BYTES) as stream:
                return is_own_stream(stream)
        except READ_ERRORS:
            return False

    def discard(self, name: str) -> None:
        """Remove the label map of an earlier run, if there is one of that name."""
        if self.holds_label_map(name):
            file_system, path = self._opened()
            file_system.rm_file(f"{path}/{name}")

    def _opened(self) -> tuple[Any, str]:
        if "://" not in self.url:
            return filesystem("file"), str(Path(self.url).absolute())
        with _said(f"Folder {self.url} cannot be used"):
            file_system, path = url_to_fs(self.url)
        return file_system, str(path).rstrip("/")


def absolute_storage(text: str) -> Storage:
    """Return the folder of a URL or a path, which need not be absolute as a user writes it.

    Raises:
        StorageError: it cannot be used.
    """
    folder = Storage(text).folder
    return Storage(text if folder is None else str(folder))


@contextmanager
def staged(
    inputs: Storage,
    outputs: Storage,
    name: str,
    *,
    keeps_earlier: bool = False,
    overwrites: bool = False,
) -> Iterator[tuple[Path, Path]]:
    """Give a case as a file here, and the folder for its label map, which is put back at the end.

    Args:
        inputs: has the case.
        outputs: gets the label map.
        name: of the case.
        keeps_earlier: a label map that is there already is given as well.
        overwrites: a file that is no label map of an earlier run is replaced, too.

    Raises:
        StorageError: there is such a file.
    """
    if inputs.folder is not None and outputs.folder is not None:
        yield inputs.folder / name, outputs.folder
        return
    with TemporaryDirectory(prefix="qmedsam-") as scratch:
        case, output_dir = Path(scratch) / "in" / name, Path(scratch) / "out"
        case.parent.mkdir()
        output_dir.mkdir()
        label_map = output_dir / name
        inputs.fetch(name, case)
        if keeps_earlier:
            outputs.fetch(name, label_map)
        before = _stamp(label_map)
        yield case, output_dir
        after = _stamp(label_map)
        if after is None:  # the case has failed, and what an earlier run left of it is not its own
            outputs.discard(name)
        elif after != before:
            if not overwrites and outputs.holds_label_map(name) is False:
                raise StorageError(
                    f"{outputs.url}/{name} must be a label map of an earlier run to be replaced, "
                    "and is something else; --overwrite replaces it"
                )
            outputs.put(label_map)


@contextmanager
def _said(what: str) -> Iterator[None]:
    """Raise whatever a file system raises as a StorageError that begins with what cannot be done.

    `Exception`, as each has the errors of its own library, such as those of botocore, Azure and
    Google: they have no other base in common, and are not installed where they are not needed.
    """
    try:
        yield
    except StorageError:
        raise
    except Exception as error:
        raise StorageError(f"{what}: {error}") from error


def _stamp(path: Path) -> tuple[int, int] | None:
    """Return what changes when a file is written anew."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns


def _protocols(file_system: Any) -> tuple[str, ...]:
    protocol = file_system.protocol
    return (protocol,) if isinstance(protocol, str) else tuple(protocol)
