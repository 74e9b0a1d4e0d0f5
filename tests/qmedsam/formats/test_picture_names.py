"""What names of pictures say."""

from __future__ import annotations

import pytest

from qmedsam.formats.picture_names import find_gaps, in_order, numbers_of
from qmedsam.formats.scan import FormatError


def test_names_go_by_their_numbers():
    assert in_order(["s10.png", "S9.png", "s1.png"]) == ["s1.png", "S9.png", "s10.png"]


@pytest.mark.parametrize(
    ("names", "numbers"),
    [
        (["one.png"], []),
        (["1.png", "2.png"], ["1", "2"]),
        (["s1.jp2", "s2.jp2"], ["1", "2"]),
        (["S1.png", "s2.PNG"], ["1", "2"]),
        (["IM-0001-0001.png", "IM-0001-0002.png"], ["0001", "0002"]),
        (["s_1_of_2.png", "s_2_of_2.png"], ["1", "2"]),
        (["s1_at_2.5mm.png", "s2_at_0mm.png"], ["1", "2"]),
        (["z1.5.png", "z10.25.png"], ["1.5", "10.25"]),
        (["a1.png", "A1.png"], []),
    ],
)
def test_one_number_tells_slices_of_a_volume_apart(names, numbers):
    assert numbers_of("ct", names) == numbers


@pytest.mark.parametrize(
    ("names", "patterns"),
    [
        (["img_0.png", "img_1.png", "label_0.png", "label_1.png"], "img_#, label_#"),
        (["scan.png", "scan1.png"], "scan, scan#"),
        (["a.png", "b.png"], "a, b"),
        (["IM-1-1.png", "IM-1-2.png", "IM-2-1.png", "IM-2-2.png"], "im-1-#, im-2-#"),
        (["IM-1-1.png", "IM-1-2.png", "IM-2-3.png"], "im-1-#, im-2-#"),
        (["a1.png", "b1.png", "c1.png", "d1.png"], "a#, b#, c#, ..."),
    ],
)
def test_names_of_several_volumes_are_refused(names, patterns):
    with pytest.raises(FormatError) as caught:
        numbers_of("ct", names)
    assert str(caught.value) == (
        f"ct must have slices of one volume, whose names differ in their number, got {patterns}"
    )


@pytest.mark.parametrize(
    ("numbers", "gaps"),
    [
        ([], ""),
        (["10", "20", "30"], ""),
        (["1", "2", "3", "5"], "3 to 5"),
        (["1", "2", "4", "6", "8", "10"], "2 to 4, 4 to 6, 6 to 8, ..."),
        (["1.5", "10.25"], ""),
    ],
)
def test_a_gap_in_numbers_is_said(numbers, gaps):
    said = f"Numbers in the names of slices leap from {gaps}: some may be missing." if gaps else ""
    assert find_gaps(numbers) == said
