"""Pictures as files, which say what made them.

Readers of PNG pass over the text.
"""

from __future__ import annotations

import io
import zlib
from pathlib import Path

import cv2

from ..system.files import open_regular
from .overlay import Picture

PNG_HEADER_BYTES = 8 + 25  # the signature and the first chunk, behind which others may come
PNG_END = b"\0\0\0\0IEND\xaeB`\x82"


def _chunk(content: bytes) -> bytes:
    """Return a chunk: its length without the name, the name and what it says, and a checksum."""
    length, checksum = len(content) - 4, zlib.crc32(content)
    return length.to_bytes(4, "big") + content + checksum.to_bytes(4, "big")


SOFTWARE = _chunk(b"tEXtSoftware\0QMedSAM")


def encode_png(picture: Picture, mark: bytes = b"") -> bytes:
    """Encode (h, w, 3) RGB as PNG, which says what made it and, if that is given, of what."""
    encoded, buffer = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    if not encoded:
        raise ValueError(f"Picture of shape {picture.shape} cannot be encoded")
    content = buffer.tobytes()
    return content[:PNG_HEADER_BYTES] + _said(mark) + content[PNG_HEADER_BYTES:]


def is_own_picture(path: Path) -> bool:
    """Say whether a file is a picture that `encode_png` made."""
    try:
        with open_regular(path) as stream:
            return stream.read(PNG_HEADER_BYTES + len(SOFTWARE)).endswith(SOFTWARE)
    except OSError:
        return False


def is_picture_of(path: Path, mark: bytes) -> bool:
    """Say whether a file is a whole picture that `encode_png` made with a mark."""
    said = _said(mark)
    try:
        with open_regular(path) as stream:
            is_marked = stream.read(PNG_HEADER_BYTES + len(said)).endswith(said)
            stream.seek(-len(PNG_END), io.SEEK_END)
            return is_marked and stream.read() == PNG_END
    except OSError:
        return False


def _said(mark: bytes) -> bytes:
    return SOFTWARE + (_chunk(b"tEXtComment\0" + mark) if mark else b"")
