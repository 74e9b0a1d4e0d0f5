"""Which of several series is taken, and which broken files matter to it."""

from __future__ import annotations

import pytest

from qmedsam.formats.dispatch import open_scan
from qmedsam.formats.scan import FormatError, SeveralSeriesError
from tests.qmedsam.formats.dicom.conftest import SERIES_UID, ct_slice, save, write_series


def two_series(folder):
    """Write five slices of series 3 and, in a folder beside them, two of series 4."""
    write_series(folder / "three")
    for number in range(2):
        dataset = ct_slice(number + 5, SeriesInstanceUID="1.2.9", SeriesNumber=4)
        dataset.SeriesDescription = "second\x1b"
        save(dataset, folder / "four" / f"IM{number}.dcm")
    return folder


def test_without_a_choice_series_are_listed(tmp_path):
    folder = two_series(tmp_path / "study")
    with pytest.raises(SeveralSeriesError, match="choose with --series, got 2: ") as caught:
        open_scan(folder)
    assert caught.value.choices == (
        ("1.2.9", "4: CT 'second\\x1b', 2 files"),
        (SERIES_UID, "3: CT, 5 files"),
    )


@pytest.mark.parametrize("series", ["3", SERIES_UID])
def test_a_series_is_chosen_by_number_or_uid(tmp_path, series):
    assert open_scan(two_series(tmp_path / "study"), series=series).pixels.shape == (5, 8, 10)


def test_of_series_with_one_number_only_these_are_listed(tmp_path):
    folder = two_series(tmp_path / "study")
    save(ct_slice(9, SeriesInstanceUID="1.2.10", SeriesNumber=4), folder / "nine.dcm")
    with pytest.raises(SeveralSeriesError, match="got 2: 4: ") as caught:
        open_scan(folder, series="4")
    assert {uid for uid, _ in caught.value.choices} == {"1.2.9", "1.2.10"}


def test_a_series_that_is_not_there_is_said(tmp_path):
    with pytest.raises(FormatError, match=r"must hold a series 7, got 4: .*; 3: CT, 5 files"):
        open_scan(two_series(tmp_path / "study"), series="7")
    with pytest.raises(FormatError, match="must hold a series 7, got 3: CT, 5 files"):
        open_scan(tmp_path / "study" / "three", series="7")


def test_a_broken_file_of_another_series_does_not_matter(tmp_path):
    folder = two_series(tmp_path / "study")
    path = folder / "four" / "IM1.dcm"
    whole = path.read_bytes()
    for length in (len(whole) - 1, len(whole) - 200, 300, 10):  # with its series, and without
        path.write_bytes(whole[:length])
        assert open_scan(folder, series="3").pixels.shape == (5, 8, 10)
        with pytest.raises(FormatError, match=r"four/IM1\.dcm"):
            open_scan(folder, series="4")


def test_a_broken_file_that_may_be_of_the_series_stops_the_run(tmp_path):
    folder = two_series(tmp_path / "study")
    for number in (5, 6):
        path = folder / "three" / f"IM000{number}.dcm"
        path.write_bytes((folder / "four" / "IM1.dcm").read_bytes()[:300])
    with pytest.raises(FormatError, match=r"IM0005\.dcm must have pixels.* \(1 more like it\)"):
        open_scan(folder, series="3")


def test_a_number_that_cannot_be_read_is_no_number(tmp_path):
    folder = two_series(tmp_path / "study")
    dataset = ct_slice(9, SeriesInstanceUID="1.2.10", SeriesNumber=None)
    save(dataset, folder / "nine.dcm")
    with pytest.raises(SeveralSeriesError, match=r"got 3: .*\?: CT, 1 files"):
        open_scan(folder)
    assert open_scan(folder, series="1.2.10").pixels.shape == (8, 10)
