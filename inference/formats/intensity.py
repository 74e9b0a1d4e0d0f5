"""Measured values to the 8 bits that the model was trained on, as the challenge prepared its data.

CT is cut to a window of Hounsfield units; everything else to the 0.5th and 99.5th percentile of
what is not zero, since zeros are mostly air beside the body.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InferenceError

LOWEST_PERCENTILE, HIGHEST_PERCENTILE = 0.5, 99.5
LARGEST = 255


class WindowError(InferenceError):
    """A window is no window."""


@dataclass(frozen=True)
class IntensityWindow:
    """The values between which the 8 bits are spread.

    Attributes:
        level: the middle, in the values' own unit.
        width: from the lowest to the highest.
    """

    level: float
    width: float


# Hounsfield units.
CT_WINDOWS = {
    "soft-tissue": IntensityWindow(40, 400),
    "lung": IntensityWindow(-160, 1500),
    "bone": IntensityWindow(400, 1800),
    "brain": IntensityWindow(40, 80),
    "mediastinum": IntensityWindow(40, 350),
}
PERCENTILES = "percentiles"
AS_IT_IS = "as-it-is"
WINDOW_NAMES = (*CT_WINDOWS, PERCENTILES, AS_IT_IS)


def parse_window(text: str) -> str | IntensityWindow:
    """Read the name of a window, or its level and width as `L,W`.

    Raises:
        WindowError: it is neither.
    """
    if text in WINDOW_NAMES:
        return text
    level, separator, width = text.partition(",")
    try:
        window = IntensityWindow(float(level), float(width))
    except ValueError:
        window = IntensityWindow(0, 0)
    if not (separator and np.isfinite([window.level, window.width]).all() and window.width > 0):
        raise WindowError(
            f"Window must be one of {', '.join(WINDOW_NAMES)}, or LEVEL,WIDTH, got {text!r}"
        )
    return window


def to_8_bits(values: NDArray[Any], window: str | IntensityWindow) -> NDArray[np.uint8]:
    """Spread the values of a window over 0 to 255; those outside become 0 or 255.

    Args:
        values: of an image or volume, any number type.
        window: one of `WINDOW_NAMES`, or level and width. `as-it-is` takes uint8 alone.

    Raises:
        WindowError: values have more than 8 bits and are to stay as they are, or are not finite.
    """
    if window == AS_IT_IS:
        if values.dtype != np.uint8:
            raise WindowError(f"Values must be uint8 to stay as they are, got {values.dtype}")
        return np.asarray(values, dtype=np.uint8)
    low, high = _limits(values, window)
    scaled = (values.astype(np.float32) - np.float32(low)) * np.float32(LARGEST / (high - low))
    return np.asarray(np.clip(np.rint(scaled), 0, LARGEST), dtype=np.uint8)


def describe(window: str | IntensityWindow) -> str:
    """Say which window was used, in a few words."""
    if isinstance(window, IntensityWindow):
        return f"window L {window.level:g} W {window.width:g}"
    return f"window {window}"


def _limits(values: NDArray[Any], window: str | IntensityWindow) -> tuple[float, float]:
    if isinstance(window, str) and window in CT_WINDOWS:
        window = CT_WINDOWS[window]
    if isinstance(window, IntensityWindow):
        return window.level - window.width / 2, window.level + window.width / 2
    present = values[values != 0]
    if present.size == 0:
        return 0.0, 1.0
    low, high = np.percentile(present, [LOWEST_PERCENTILE, HIGHEST_PERCENTILE])
    if not np.isfinite([low, high]).all():
        raise WindowError("Values must be finite for their percentiles, got NaN or infinity")
    return float(low), float(max(high, low + 1e-6 * max(1.0, abs(low))))
