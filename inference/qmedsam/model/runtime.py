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

__all__ = ["openvino", "ops", "said_by"]

NO_THREAD = "Resource temporarily unavailable"  # in the words of the C library
PLACES = ("Exception from ", "Check '")  # how lines begin that name places in OpenVINO's source


def said_by(error: RuntimeError) -> str:
    """Return in a line what OpenVINO says, without the places in its source that it went through.

    Where no thread can be started its words name no cause; the limit that is one is named then.
    """
    lines = [line.strip() for line in str(error).splitlines()]
    if any(NO_THREAD in line for line in lines):
        return "no thread can be started, the limit on processes is reached (ulimit -u)"
    said = [line for line in lines if line and not line.startswith(PLACES)]
    return "; ".join(said or filter(None, lines))
