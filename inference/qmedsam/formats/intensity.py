"""Measured values to the 8 bits that the model was trained on, as the challenge prepared its data.

CT is cut to a window of Hounsfield units; everything else to the 0.5th and 99.5th percentile of
what is not zero, since zeros are mostly air beside the body. What is no measurement becomes 0:
values that are not finite, and the lowest and highest of a float, which stand for a missing one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InferenceError

LOWEST_PERCENTILE, HIGHEST_PERCENTILE = 0.5, 99.5
LARGEST = 255
# More of what is not zero than this below the limits is no tail: values are few, as in a phantom.
MOST_BELOW = 0.05
SENTINELS = (float(np.finfo(np.float32).max), float(np.finfo(np.float64).max))
FARTHEST = float(np.finfo(np.float64).max) / 4  # so that a width is finite, too
# Of widths, of widths beside their limits, and of limits.
NARROWEST_IN_FLOAT32, NARROWEST_SHARE_IN_FLOAT32, FARTHEST_IN_FLOAT32 = 1e-30, 1e-4, 1e30


class WindowError(InferenceError):
    """A window is no window."""


@dataclass(frozen=True)
class IntensityWindow:
    """The values between which the 8 bits are spread.

    Attributes:
        level: the middle, in the values' own unit.
        width: from the lowest to the highest.

    Raises:
        WindowError: they are not finite, or the width is none beside the level.
    """

    level: float
    width: float

    def __post_init__(self) -> None:
        low, high = self.limits
        if not (low < high and low >= -FARTHEST and high <= FARTHEST):  # so of NaN, too
            raise WindowError(
                "Level and width must be finite, and the width greater than 0 and not lost beside "
                f"the level, got {self.level:g} and {self.width:g}"
            )

    @property
    def limits(self) -> tuple[float, float]:
        """The lowest and the highest value."""
        return self.level - self.width / 2, self.level + self.width / 2


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
Limits = tuple[float, float]


def parse_window(text: str) -> str | IntensityWindow:
    """Read the name of a window, or its level and width as `L,W`.

    Raises:
        WindowError: it is neither.
    """
    if text in WINDOW_NAMES:
        return text
    level, _, width = text.partition(",")
    try:
        return IntensityWindow(float(level), float(width))
    except (ValueError, WindowError) as error:
        raise WindowError(
            f"Window must be one of {', '.join(WINDOW_NAMES)}, or LEVEL,WIDTH, got {text!r}"
        ) from error


def check_window(window: str | IntensityWindow) -> None:
    """Check that a window is one.

    Raises:
        WindowError: it is not; text with a level and width is for `parse_window`.
    """
    is_name = isinstance(window, str) and window in WINDOW_NAMES
    if not (is_name or isinstance(window, IntensityWindow)):
        raise WindowError(
            f"Window must be one of {', '.join(WINDOW_NAMES)}, or IntensityWindow(level, width), "
            f"got {window!r}"
        )


def is_measured(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Say which values are measurements: finite, and not the lowest or highest of a float."""
    if values.dtype.kind != "f":
        return np.ones(values.shape, dtype=np.bool_)
    measured = np.isfinite(values)
    for sentinel in SENTINELS:
        if sentinel <= float(np.finfo(values.dtype).max):
            measured &= (values != sentinel) & (values != -sentinel)
    return np.asarray(measured)


def find_limits(values: NDArray[Any], window: str | IntensityWindow) -> Limits | None:
    """Return the values between which a window spreads the 8 bits; None leaves them as they are.

    Args:
        values: of an image or volume, any number type; percentiles are of those that are measured
            and not zero. Where those are so few different ones that a limit is none of a tail,
            zero is within the limits, too, so that the lowest are told from it; two values become
            0 and 255.
        window: one of `WINDOW_NAMES`, or level and width. `as-it-is` takes uint8 alone.

    Raises:
        WindowError: it is no window, or values have more than 8 bits and are to stay as they are.
    """
    check_window(window)
    if window == AS_IT_IS:
        if values.dtype != np.uint8:
            raise WindowError(f"Values must be uint8 to stay as they are, got {values.dtype}")
        return None
    if isinstance(window, str) and window in CT_WINDOWS:
        window = CT_WINDOWS[window]
    if isinstance(window, IntensityWindow):
        return window.limits
    measured = is_measured(values)
    is_zero = values == 0
    present = values[measured & ~is_zero]
    if present.size == 0:
        return 0.0, 1.0
    low, high = _percentiles(present)  # which leaves them in another order
    if is_zero.any() and (present <= low).sum() > MOST_BELOW * present.size:
        low, high = min(low, 0.0), max(high, 0.0)
    if low >= high:
        low, high = float(present.min()), float(present.max())
    low, high = max(low, -FARTHEST), min(high, FARTHEST)
    return low, high if low < high else low + abs(low)


def to_8_bits(values: NDArray[Any], limits: Limits | None) -> NDArray[np.uint8]:
    """Spread the values between limits over 0 to 255; those outside become 0 or 255.

    Those that are no measurement become 0.

    Args:
        values: of an image or volume, any number type, two axes at least.
        limits: of `find_limits`.
    """
    if limits is None:
        return np.ascontiguousarray(values, dtype=np.uint8)
    low, high = limits
    kind = np.result_type(values.dtype, np.float32)  # float64 of what float32 would round
    if not _is_safe_in_float32(low, high):
        kind = np.dtype(np.float64)
    bottom, width = kind.type(low), kind.type(high - low)
    found = np.empty(values.shape, dtype=np.uint8)
    with np.errstate(over="ignore", invalid="ignore"):  # of values far outside, and NaN
        for part, target in zip(values, found, strict=True):  # by rows or slices, to save memory
            scaled = (part.astype(kind) - bottom) / width * LARGEST
            target[...] = np.where(is_measured(part), np.clip(np.rint(scaled), 0, LARGEST), 0)
    return found


def describe(window: str | IntensityWindow, limits: Limits | None) -> str:
    """Say which window was used, in a few words."""
    if isinstance(window, IntensityWindow):
        return f"window L {window.level:g} W {window.width:g}"
    if window in (PERCENTILES, OF_FILE) and limits is not None:
        return f"window {window}, {limits[0]:g} to {limits[1]:g}"
    return f"window {window}"


def _is_safe_in_float32(low: float, high: float) -> bool:
    farthest = max(abs(low), abs(high))
    is_wide = high - low > max(NARROWEST_IN_FLOAT32, NARROWEST_SHARE_IN_FLOAT32 * farthest)
    return is_wide and farthest < FARTHEST_IN_FLOAT32


def _percentiles(present: NDArray[Any]) -> Limits:
    """Return the percentiles of values that are measured, at least one."""
    exact = present.astype(np.float32) if present.dtype == np.float16 else present
    with np.errstate(over="ignore", invalid="ignore"):
        ends = np.percentile(exact, [LOWEST_PERCENTILE, HIGHEST_PERCENTILE], overwrite_input=True)
    if not np.isfinite(ends).all():  # a difference of two values is beyond their type
        ends = np.array([present.min(), present.max()])
    return float(ends[0]), float(ends[1])
