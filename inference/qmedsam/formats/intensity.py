"""Measured values to the 8 bits that the model was trained on, as the challenge prepared its data.

CT is cut to a window of Hounsfield units; everything else to the 0.5th and 99.5th percentile of
what is not zero, since zeros are mostly air beside the body. Values that are not finite become 0.
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
OF_FILE = "file"
WINDOW_NAMES = (*CT_WINDOWS, PERCENTILES, OF_FILE, AS_IT_IS)
NARROWEST, FARTHEST = 1e-6, 1e9  # in the unit of the values
Limits = tuple[float, float]


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
    is_width = NARROWEST <= window.width <= FARTHEST  # not so of NaN
    if not (separator and is_width and abs(window.level) <= FARTHEST):
        raise WindowError(
            f"Window must be one of {', '.join(WINDOW_NAMES)}, or LEVEL,WIDTH, got {text!r}"
        )
    return window


def find_limits(values: NDArray[Any], window: str | IntensityWindow) -> Limits | None:
    """Return the values between which a window spreads the 8 bits; None leaves them as they are.

    Args:
        values: of an image or volume, any number type; percentiles are of those that are finite
            and not zero.
        window: one of `WINDOW_NAMES`, or level and width. `as-it-is` takes uint8 alone.

    Raises:
        WindowError: values have more than 8 bits and are to stay as they are.
    """
    if window == AS_IT_IS:
        if values.dtype != np.uint8:
            raise WindowError(f"Values must be uint8 to stay as they are, got {values.dtype}")
        return None
    if isinstance(window, str) and window in CT_WINDOWS:
        window = CT_WINDOWS[window]
    if isinstance(window, IntensityWindow):
        return window.level - window.width / 2, window.level + window.width / 2
    present = values[(values != 0) & np.isfinite(values)]
    if present.size == 0:
        return 0.0, 1.0
    exact = present.astype(np.float32) if present.dtype.kind == "f" else present
    ends = np.percentile(exact, [LOWEST_PERCENTILE, HIGHEST_PERCENTILE], overwrite_input=True)
    low, high = float(ends[0]), float(ends[1])
    return low, max(high, low + 1e-6 * max(1.0, abs(low)))


def to_8_bits(values: NDArray[Any], limits: Limits | None) -> NDArray[np.uint8]:
    """Spread the values between limits over 0 to 255; those outside become 0 or 255.

    Those that are not finite become 0.

    Args:
        values: of an image or volume, any number type, two axes at least.
        limits: of `find_limits`.
    """
    if limits is None:
        return np.ascontiguousarray(values, dtype=np.uint8)
    low, high = limits
    scale = np.float32(LARGEST / (high - low))
    found = np.empty(values.shape, dtype=np.uint8)
    for part, target in zip(values, found, strict=True):  # by rows or slices, to save memory
        scaled = (part.astype(np.float32) - np.float32(low)) * scale
        target[...] = np.where(np.isfinite(part), np.clip(np.rint(scaled), 0, LARGEST), 0)
    return found


def describe(window: str | IntensityWindow, limits: Limits | None) -> str:
    """Say which window was used, in a few words."""
    if isinstance(window, IntensityWindow):
        return f"window L {window.level:g} W {window.width:g}"
    if window in (PERCENTILES, OF_FILE) and limits is not None:
        return f"window {window}, {limits[0]:g} to {limits[1]:g}"
    return f"window {window}"
