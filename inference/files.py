"""Files that appear whole or not at all.

They are written under a temporary name in the same folder and renamed, so that no reader ever sees
half of one.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def make_writable(folder: Path) -> Path:
    """Make a folder where there is none, and check that files can be written there.

    Raises:
        OSError: they cannot.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        return folder


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file so that it appears whole or not at all."""
    # A name of any length fits; threads write side by side, and containers, whose numbers of
    # processes are the same.
    temporary = path.with_name(f".{os.urandom(8).hex()}.tmp")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
