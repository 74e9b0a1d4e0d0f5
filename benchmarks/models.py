"""Where the quantized models lie that are compared, and what they are called."""

from __future__ import annotations

from pathlib import Path

NNCF_DIR, NNCF_TITLE = Path("runs/nncf_int8"), "NNCF int8"
OWN_INT8_DIR, OWN_INT8_TITLE = Path("models/int8"), "QAT int8"
