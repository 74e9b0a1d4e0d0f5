"""Deflate and CRC-32 by ISA-L where it is installed, else by zlib: the same contents, sooner."""

from __future__ import annotations

import zlib
from typing import Any

try:
    from isal import isal_zlib
except ImportError:  # a processor or an installation without it
    isal_zlib = None  # type: ignore[assignment]

deflate: Any = isal_zlib or zlib
DeflateError: type[Exception] = deflate.error
