"""Measured values to 8 bits."""

from __future__ import annotations

import numpy as np
import pytest

from qmedsam.formats.intensity import (
    IntensityWindow,
    WindowError,
    describe,
    find_limits,
    parse_window,
    to_8_bits,
)


def seen(values, window) -> np.ndarray:
    rows = np.atleast_2d(values)
    return to_8_bits(rows, find_limits(rows, window)).reshape(np.shape(values))


@pytest.mark.parametrize(
    ("window", "values", "expected"),
    [
        ("soft-tissue", [-1000, -160, 40, 240, 3000], [0, 0, 128, 255, 255]),
        ("lung", [-910, -160, 590], [0, 128, 255]),
        ("bone", [-500, 400, 1300], [0, 128, 255]),
        ("brain", [0, 40, 80], [0, 128, 255]),
        ("mediastinum", [-135, 40, 215], [0, 128, 255]),
        (IntensityWindow(10, 20), [0, 10, 20], [0, 128, 255]),
    ],
)
def test_a_window_is_spread_over_8_bits(window, values, expected):
    assert seen(np.array(values, dtype=np.int16), window).tolist() == expected


def test_percentiles_are_those_of_what_is_not_zero():
    values = np.concatenate([np.zeros(9000), np.arange(1, 1001)])
    found = seen(values, "percentiles")
    low, high = np.percentile(np.arange(1, 1001), [0.5, 99.5])
    assert found[values <= low].max() == 0
    assert found[values >= high].min() == 255
    middle = found[np.abs(values - (low + high) / 2) < 1]
    assert set(middle.tolist()) <= {127, 128}


@pytest.mark.parametrize("value", [0, 7, -3.5])
def test_one_value_everywhere_has_percentiles(value):
    assert seen(np.full((3, 4), value), "percentiles").shape == (3, 4)


def test_8_bits_may_stay_and_others_may_not():
    values = np.arange(4, dtype=np.uint8)
    assert seen(values, "as-it-is").tolist() == [0, 1, 2, 3]
    with pytest.raises(WindowError, match="got int16"):
        seen(values.astype(np.int16), "as-it-is")


@pytest.mark.parametrize("window", ["percentiles", "soft-tissue"])
def test_values_that_are_not_finite_count_for_nothing(window):
    values = np.arange(1.0, 301.0).reshape(20, 15)
    expected = seen(values, window)
    broken = np.vstack([values, np.full((3, 15), np.nan), np.full((1, 15), np.inf)])
    found = seen(broken, window)
    np.testing.assert_array_equal(found[:20], expected)
    assert not found[20:].any()


def test_windows_are_read_from_text():
    assert parse_window("lung") == "lung"
    assert parse_window("-600,1500") == IntensityWindow(-600, 1500)
    assert describe("percentiles", (12, 900.5)) == "window percentiles, 12 to 900.5"
    assert describe("lung", (-910, 590)) == "window lung"
    assert describe(IntensityWindow(-600, 1500), None) == "window L -600 W 1500"


@pytest.mark.parametrize(
    "text", ["", "liver", "40", "40,0", "40,-5", "nan,5", "1,2,3", "40,inf", "40,1e-20", "1e39,1"]
)
def test_other_text_is_no_window(text):
    with pytest.raises(WindowError, match="Window must be one of soft-tissue"):
        parse_window(text)
