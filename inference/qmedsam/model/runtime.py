"""OpenVINO, imported without what a service does without; the package has it from here."""

from __future__ import annotations

import sys

# OpenVINO reports usage through this package where it can be imported, and uses a stub of its
# own where it cannot. A medical service does not phone home.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
# The converter of models is not needed, and takes time to import (docs/decisions.md); OpenVINO does
# without where it is absent. Whoever needs it imports it from its own package.
_CONVERTER = "openvino.tools.ovc"
_has_converter = _CONVERTER in sys.modules
if not _has_converter:
    sys.modules[_CONVERTER] = None  # type: ignore[assignment]

import openvino  # noqa: E402
from openvino import opset13 as ops  # noqa: E402

if not _has_converter:
    del sys.modules[_CONVERTER]

__all__ = ["openvino", "ops"]
