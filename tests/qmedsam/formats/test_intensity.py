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

LARGEST = float(np.finfo(np.float64).max)


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
        (IntensityWindow(20_000, 1e-9), [19_999, 20_000, 20_001], [0, 128, 255]),
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


@pytest.mark.parametrize(
    ("unit", "dtype"),
    [
        *[(unit, np.float32) for unit in (1e-42, 1e-9, 1.0, 1e9, 1e35)],
        *[(unit, np.float64) for unit in (1e-300, 1e-42, 1e-9, 1.0, 1e9, 1e35, 1e300)],
    ],
)
def test_percentiles_are_relative_to_the_values(unit, dtype):
    values = (np.arange(1, 257).reshape(16, 16) * unit).astype(dtype)
    found = seen(values, "percentiles").astype(int)
    # The 0.5th percentile is 2.275, the 99.5th 254.725.
    np.testing.assert_allclose(
        found, np.clip((np.arange(1, 257).reshape(16, 16) - 2.275) / 0.99, 0, 255), atol=0.6
    )


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64, np.float16, np.float64])
@pytest.mark.parametrize("ones", [1, 5, 50, 99, 999, 1000], ids=lambda count: f"{count}-in-1000")
def test_of_two_values_one_is_black_and_one_white(dtype, ones):
    for low, high in [(0, 1), (1, 2), (0, 100), (5, 7), (-3, 0), (-3, -2)]:
        if low < 0 and dtype is np.uint8:
            continue
        values = np.full(1000, low, dtype)
        values[:ones] = high
        expected = np.where(np.arange(1000) < ones, 255, 0)
        if ones < 1000:
            np.testing.assert_array_equal(seen(values, "percentiles"), expected)


def test_a_few_values_are_all_told_from_each_other_and_from_zero():
    values = np.repeat([0, 100, 200], [600, 200, 200])
    assert seen(values, "percentiles")[[0, 600, 800]].tolist() == [0, 128, 255]
    assert seen(-values, "percentiles")[[0, 600, 800]].tolist() == [255, 128, 0]


@pytest.mark.parametrize(("lowest", "expected"), [(50, 0), (51, 26)])
def test_zero_is_told_from_the_lowest_values_if_these_are_more_than_5_percent(lowest, expected):
    """Of a thousand that are not zero; the 99.5th percentile is 100."""
    values = np.repeat([0, 10, 50, 100], [99, lowest, 900 - lowest, 100])
    assert seen(values, "percentiles")[[0, 99, -1]].tolist() == [0, expected, 255]


@pytest.mark.parametrize(
    "missing",
    [-float(np.finfo(np.float32).max), float(np.finfo(np.float32).max), -LARGEST, np.nan, -np.inf],
)
@pytest.mark.parametrize("window", ["percentiles", "soft-tissue"])
def test_values_in_place_of_missing_ones_count_for_nothing(missing, window):
    values = np.arange(1.0, 301.0).reshape(20, 15)
    expected = seen(values, window)
    for dtype in (np.float32, np.float64):
        if dtype is np.float32 and abs(float(missing)) == LARGEST:
            continue
        half = np.vstack([values, np.full((20, 15), missing)]).astype(dtype)
        found = seen(half, window)
        np.testing.assert_array_equal(found[:20], expected)
        assert not found[20:].any()


def test_wide_integers_keep_small_differences():
    values = np.array([2**31 + 1, 2**31 + 2, 2**31 + 3], dtype=np.uint32)
    assert seen(values, IntensityWindow(2**31 + 2, 2)).tolist() == [0, 128, 255]
    far = np.array([-(2**62), 0, 2**62])
    assert seen(far, IntensityWindow(0, 2.0**63)).tolist() == [0, 128, 255]


@pytest.mark.parametrize("value", [0, 7, -3.5, 1e-300, 1.7e308])
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


@pytest.mark.parametrize("window", ["lungs", "40,400", "", (40, 400), 40, None, np.zeros(2)])
def test_what_is_no_window_is_refused_with_the_choices(window):
    values = np.ones((2, 2))
    with pytest.raises(WindowError, match=r"one of soft-tissue, lung, .* or IntensityWindow\("):
        find_limits(values, window)


@pytest.mark.parametrize(
    ("level", "width"), [(40, 0), (40, -1), (np.nan, 1), (0, np.inf), (1e300, 1), (0, 1.7e308)]
)
def test_a_width_is_finite_and_more_than_nothing(level, width):
    with pytest.raises(WindowError, match="Level and width must be finite, and the width greater"):
        IntensityWindow(level, width)


def test_windows_are_read_from_text():
    assert parse_window("1e-9,2e-9") == IntensityWindow(1e-9, 2e-9)
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
