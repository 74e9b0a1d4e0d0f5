"""Pictures as files, which say what made them.

Readers of PNG pass over the text.
"""

from __future__ import annotations

import zlib
from pathlib import Path

import cv2

from .overlay import Picture

PNG_HEADER_BYTES = 8 + 25  # the signature and the first chunk, behind which others may come
_SOFTWARE = b"tEXtSoftware\0QMedSAM"  # a chunk: its length without the name, and a checksum
PNG_MARK = b"".join(
    [(len(_SOFTWARE) - 4).to_bytes(4, "big"), _SOFTWARE, zlib.crc32(_SOFTWARE).to_bytes(4, "big")]
)


def encode_png(picture: Picture) -> bytes:
    """Encode (h, w, 3) RGB as PNG, which says what made it."""
    encoded, buffer = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    if not encoded:
        raise ValueError(f"Picture of shape {picture.shape} cannot be encoded")
    content = buffer.tobytes()
    return content[:PNG_HEADER_BYTES] + PNG_MARK + content[PNG_HEADER_BYTES:]


def is_own_picture(path: Path) -> bool:
    """Say whether a file is a picture that `encode_png` made."""
    try:
        with path.open("rb") as stream:
            return stream.read(PNG_HEADER_BYTES + len(PNG_MARK)).endswith(PNG_MARK)
    except OSError:
        return False
