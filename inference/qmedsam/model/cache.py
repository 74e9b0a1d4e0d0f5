"""Compiled models as files, so that the next start is quicker.

OpenVINO has a cache of its own; docs/decisions.md says why it is not used.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from ..system.deflate import deflate
from ..system.files import make_writable, write_bytes
from ..system.processor import processor_flags

logger = logging.getLogger(__name__)

CHECKSUM_BYTES = 4  # of the rest, at the beginning of a file
OWNER_WRITES, OWNER_WRITES_FOLDER = 0o644, 0o755  # permissions; others may read
FOLDER = os.O_DIRECTORY
FILE = os.O_NOFOLLOW | os.O_NONBLOCK  # neither a link nor, with waiting for it, a pipe


def cache_key(
    *, runtime: str, processor: str, precision: str, digests: Mapping[str, str], rewriting: int
) -> str:
    """Return a name for all that a compiled model depends on.

    Virtual machines give processors of different instruction sets one name, so that these count.
    The number of threads does not: a compiled model runs on as many as it is read for.

    Args:
        runtime: version of OpenVINO.
        processor: its name.
        precision: of the layers that are not in int8.
        digests: of the model's files.
        rewriting: which way of putting graphs on grids.
    """
    described = json.dumps(
        [runtime, [processor, *sorted(processor_flags())], precision, dict(digests), rewriting],
        sort_keys=True,
    )
    return hashlib.sha256(described.encode()).hexdigest()[:16]


class ModelCache:
    """Compiled models in a folder of their own.

    Args:
        folder: named by `cache_key`; need neither exist nor be writable.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._is_refused = False

    def load(self, name: str) -> bytes | None:
        """Return what was stored under a name; None where nothing is, or it is damaged.

        A compiled model is run as it is, so that neither is there anything where others than this
        user and the administrator may write.
        """
        try:
            with self._opened_folder() as folder:
                content = None if folder is None else self._read(name, folder)
        except OSError:
            return None
        if content is None:
            return None
        checksum, blob = content[:CHECKSUM_BYTES], content[CHECKSUM_BYTES:]
        if _checksum(blob) != checksum:
            logger.warning("Cached model %s is damaged, and compiled anew", self._path(name))
            return None
        return blob

    def is_writable(self) -> bool:
        """Whether something can be stored; a model is put into bytes only then."""
        try:
            self._folder.parent.mkdir(OWNER_WRITES_FOLDER, parents=True, exist_ok=True)
            self._folder.mkdir(OWNER_WRITES_FOLDER, exist_ok=True)
            with self._opened_folder() as folder:
                if folder is None:
                    return False
                make_writable(self._folder)
                return True
        except OSError as error:
            logger.info("Compiled models are not cached: %s", error)
            return False

    @contextmanager
    def _opened_folder(self) -> Iterator[int | None]:
        """Give the folder; None where others may write it, or put another in its place.

        Raises:
            OSError: there is none, or a link where it should be.
        """
        parent = self._folder.parent
        with _opened(parent, FOLDER) as above:
            if not self._is_own(above, parent):
                yield None
                return
            with _opened(self._folder.name, FOLDER | os.O_NOFOLLOW, above) as folder:
                yield folder if self._is_own(folder, self._folder) else None

    def _read(self, name: str, folder: int) -> bytes | None:
        """Return the content of a file; what is read is what was looked at, whatever its name."""
        path = self._path(name)
        with _opened(path.name, FILE, folder) as file:
            if not self._is_own(file, path):
                return None
            with open(file, "rb", closefd=False) as stream:
                return stream.read()

    def _is_own(self, opened: int, path: Path) -> bool:
        """Say whether what is open is nobody else's, and say it once where it is not."""
        if _is_own(os.fstat(opened)):
            return True
        if not self._is_refused:
            logger.warning(
                "Compiled models in %s are not used: others may write %s",
                self._folder.parent,
                path,
            )
        self._is_refused = True
        return False

    def store(self, name: str, blob: bytes) -> None:
        """Keep a compiled model where `is_writable`.

        Raises:
            OSError: it cannot be written; the next start compiles again.
        """
        write_bytes(self._path(name), _checksum(blob) + blob, OWNER_WRITES)

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.blob"


@contextmanager
def _opened(path: Path | str, flags: int, folder: int | None = None) -> Iterator[int]:
    """Open a file or folder to read, in a folder that is open, or where the path says."""
    opened = os.open(path, os.O_RDONLY | flags, dir_fd=folder)
    try:
        yield opened
    finally:
        os.close(opened)


def _is_own(status: os.stat_result) -> bool:
    """Say whether a file or folder is this user's or the administrator's, and written by no other.

    As with OpenSSH, a group that may write is others, whoever is in it. In a folder with the sticky
    bit, as /tmp has it, others cannot touch what is not theirs.
    """
    is_folder = stat.S_ISDIR(status.st_mode)
    if status.st_uid not in (0, os.geteuid()) or not (is_folder or stat.S_ISREG(status.st_mode)):
        return False
    is_shared = bool(status.st_mode & (stat.S_IWGRP | stat.S_IWOTH))
    return not is_shared or (is_folder and bool(status.st_mode & stat.S_ISVTX))


def _checksum(blob: bytes) -> bytes:
    """Return the CRC-32: against damage; whoever may write here may write any digest."""
    return int(deflate.crc32(blob)).to_bytes(CHECKSUM_BYTES, "big")
