"""Compiled models as files, so that the next start is quicker.

OpenVINO has a cache of its own; docs/decisions.md says why it is not used.
"""

from __future__ import annotations

import hashlib
import json
import logging
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

    def load(self, name: str) -> bytes | None:
        """Return what was stored under a name; None where nothing is, or it is damaged."""
        path = self._path(name)
        try:
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
            make_writable(self._folder)
        except OSError as error:
            logger.info("Compiled models are not cached: %s", error)
            return False
        return True

    def store(self, name: str, blob: bytes) -> None:
        """Keep a compiled model where `is_writable`.

        Raises:
            OSError: it cannot be written; the next start compiles again.
        """
        write_bytes(self._path(name), _checksum(blob) + blob)

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.blob"


def _checksum(blob: bytes) -> bytes:
    """Return the CRC-32: against damage; whoever may write here may write any digest."""
    return int(deflate.crc32(blob)).to_bytes(CHECKSUM_BYTES, "big")
