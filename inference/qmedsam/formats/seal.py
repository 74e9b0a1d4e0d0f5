"""Whether a file is still as this program wrote it: a digest of it, which stands in it.

Programs that edit labels keep what they do not know of a file, so that what it says of its maker is
no proof. The digest is of all bytes of the file, unpacked, with zeros in its own place.
"""

from __future__ import annotations

import hashlib
import io
import re
import zlib
from pathlib import Path

from ..system.memory import largest_array_bytes
from ..version import __version__
from .unpacking import UNPACKING_ERRORS, unpack_gzip

MAKER = f"qmedsam {__version__}"
OPEN_SEAL = {"made_by": MAKER, "sha256": "0" * 64}  # to be written as JSON; `seal` puts a digest in
DIGEST = re.compile(rb'"made_by": "qmedsam [^"]*",\s+"sha256": "([0-9a-f]{64})"')
GZIP_MAGIC = b"\x1f\x8b"
PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
PNG_FRAME = 12  # bytes of a chunk beside its data: length and name before it, checksum behind


def seal(content: bytes) -> bytes:
    """Return a file with its digest where `OPEN_SEAL` stands in it; others as they are."""
    found = DIGEST.search(content)
    if found is None or found[1].decode() != OPEN_SEAL["sha256"]:
        return content
    return _with(content, found, hashlib.sha256(content).hexdigest().encode())


def is_sealed(path: Path) -> bool:
    """Say whether a file has its own digest; one that has been edited has not.

    What is larger than fits in memory has none.
    """
    try:
        if path.stat().st_size > largest_array_bytes():
            return False
        content = path.read_bytes()
        if content.startswith(GZIP_MAGIC):
            content = unpack_gzip(io.BytesIO(content))
    except (*UNPACKING_ERRORS, MemoryError):
        return False
    return any(_is_digest(content, found) for found in DIGEST.finditer(content))


def _is_digest(content: bytes, found: re.Match[bytes]) -> bool:
    unsealed = _with(content, found, OPEN_SEAL["sha256"].encode())
    return hashlib.sha256(unsealed).hexdigest().encode() == found[1]


def _with(content: bytes, found: re.Match[bytes], digest: bytes) -> bytes:
    """Return a file with another digest in place of the one that was found."""
    first, last = found.span(1)
    changed = b"".join([content[:first], digest, content[last:]])
    return _with_checksum(changed, first) if content.startswith(PNG_MAGIC) else changed


def _with_checksum(png: bytes, place: int) -> bytes:
    """Return a PNG with the right checksum of the chunk in which a place lies."""
    start = len(PNG_MAGIC)
    while True:
        end = start + PNG_FRAME + int.from_bytes(png[start : start + 4], "big")
        if place < end:
            break
        start = end
    checksum = zlib.crc32(png[start + 4 : end - 4]).to_bytes(4, "big")
    return b"".join([png[: end - 4], checksum, png[end:]])
