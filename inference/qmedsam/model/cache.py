"""Compiled models as files, so that the next start is quicker.

OpenVINO has a cache of its own; docs/decisions.md says why it is not used.
"""

from __future__ import annotations

import grp
import hashlib
import json
import logging
import os
import pwd
import stat
from collections.abc import Mapping
from pathlib import Path

from ..system.deflate import deflate
from ..system.files import make_writable, write_bytes
from ..system.processor import processor_flags

logger = logging.getLogger(__name__)

CHECKSUM_BYTES = 4  # of the rest, at the beginning of a file


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
        path = self._path(name)
        try:
            if not self._is_trusted(path):
                return None
            content = path.read_bytes()
        except OSError:
            return None
        checksum, blob = content[:CHECKSUM_BYTES], content[CHECKSUM_BYTES:]
        if _checksum(blob) != checksum:
            logger.warning("Cached model %s is damaged, and compiled anew", path)
            return None
        return blob

    def is_writable(self) -> bool:
        """Whether something can be stored; a model is put into bytes only then."""
        try:
            _close(make_writable(self._folder))
            return self._is_trusted(self._folder)
        except OSError as error:
            logger.info("Compiled models are not cached: %s", error)
            return False

    def _is_trusted(self, path: Path) -> bool:
        """Say whether no other user may have written what is at a path, or put it there.

        Raises:
            OSError: there is nothing.
        """
        for place in dict.fromkeys([self._folder.parent, self._folder, path]):
            if not _is_own(place):
                if not self._is_refused:
                    logger.warning(
                        "Compiled models in %s are not used: others may write %s",
                        self._folder.parent,
                        place,
                    )
                self._is_refused = True
                return False
        return True

    def store(self, name: str, blob: bytes) -> None:
        """Keep a compiled model where `is_writable`.

        Raises:
            OSError: it cannot be written; the next start compiles again.
        """
        write_bytes(self._path(name), _checksum(blob) + blob)
        _close(self._path(name))

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.blob"


def _is_own(path: Path) -> bool:
    """Say whether a file or folder is this user's or the administrator's, and written by no other.

    In a folder with the sticky bit, as /tmp has it, others cannot touch what is not theirs.

    Raises:
        OSError: there is nothing.
    """
    status = path.stat()
    if status.st_uid not in (0, os.geteuid()):
        return False
    is_shared = bool(status.st_mode & stat.S_IWOTH)
    if status.st_mode & stat.S_IWGRP:
        is_shared = is_shared or not _is_private(status.st_gid)
    return not is_shared or bool(stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX)


def _is_private(group: int) -> bool:
    """Say whether a group is the administrator's, or of this user alone and called the same."""
    try:
        return group == 0 or grp.getgrgid(group).gr_name == pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return False


def _close(path: Path) -> None:
    """Let no other user write a file or folder, if it is this user's."""
    status = path.stat()
    if status.st_uid == os.geteuid():
        path.chmod(stat.S_IMODE(status.st_mode) & ~(stat.S_IWGRP | stat.S_IWOTH))


def _checksum(blob: bytes) -> bytes:
    """Return the CRC-32: against damage; whoever may write here may write any digest."""
    return int(deflate.crc32(blob)).to_bytes(CHECKSUM_BYTES, "big")
