"""Where a frame lies, as its file says it."""

from __future__ import annotations

import numpy as np
import pytest
from pydicom.dataset import Dataset

from qmedsam.formats.dicom.attributes import Attributes
from qmedsam.formats.dicom.planes import groups_of, plane_of, spacing_of
from qmedsam.formats.scan import FormatError
from tests.qmedsam.formats.dicom.conftest import ct_slice


def of_image(**attributes) -> Attributes:
    return Attributes(ct_slice(**attributes), "a.dcm")


def test_a_plane_has_a_position_and_directions():
    plane = plane_of(of_image(ImageOrientationPatient=[0, 1, 0, 0, 0, -1]), [])
    assert plane is not None
    assert plane.position.tolist() == [1, 2, 0]
    assert plane.along_row.tolist() == [0, 1, 0]
    assert plane.along_column.tolist() == [0, 0, -1]
    assert plane.normal.tolist() == [-1, 0, 0]
    assert spacing_of(of_image(), []) == (0.7, 0.5)


@pytest.mark.parametrize("keyword", ["ImagePositionPatient", "ImageOrientationPatient"])
@pytest.mark.parametrize("value", [None, ""])
def test_what_is_not_said_is_no_plane(keyword, value):
    assert plane_of(of_image(**{keyword: value}), []) is None


def test_distances_of_pixels_may_be_missing():
    assert spacing_of(of_image(PixelSpacing=None), []) is None


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("ImagePositionPatient", [1, 2]),
        ("ImagePositionPatient", [1, 2, "1e7"]),
        ("ImageOrientationPatient", [1, 0, 0, 0, 1]),
        ("ImageOrientationPatient", [0, 0, 0, 0, 0, 0]),
        ("ImageOrientationPatient", [1, 0, 0, 1, 0, 0]),
        ("ImageOrientationPatient", [1, 0, 0, 0, 2, 0]),
        ("ImageOrientationPatient", [1, 0, 0, 0, "1e200", 0]),
    ],
)
def test_what_is_no_plane_is_named(keyword, value):
    with pytest.raises(FormatError, match=f"a.dcm: {keyword} must be"):
        plane_of(of_image(**{keyword: value}), [])


@pytest.mark.parametrize("value", [[0, 1], [-1, 1], [1], ["1e9", 1]])
def test_what_is_no_distance_is_named(value):
    with pytest.raises(FormatError, match=r"a\.dcm: PixelSpacing must be"):
        spacing_of(of_image(PixelSpacing=value), [])


def item(**attributes) -> Dataset:
    found = Dataset()
    for keyword, value in attributes.items():
        setattr(found, keyword, value)
    return found


def test_of_an_enhanced_file_a_frame_says_more_than_all_together():
    attributes = Attributes(
        item(
            SharedFunctionalGroupsSequence=[
                item(
                    PlaneOrientationSequence=[item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])],
                    PixelMeasuresSequence=[item(PixelSpacing=[3, 4])],
                )
            ],
            PerFrameFunctionalGroupsSequence=[
                item(
                    PlanePositionSequence=[item(ImagePositionPatient=[0, 0, z])],
                    **({"PixelMeasuresSequence": [item(PixelSpacing=[5, 6])]} if z else {}),
                )
                for z in (0, 7)
            ],
        ),
        "a.dcm",
    )
    groups = groups_of(attributes, 2)
    planes = [plane_of(attributes, each) for each in groups]
    assert [plane.position[2] for plane in planes if plane is not None] == [0, 7]
    np.testing.assert_array_equal(planes[1].along_column, [0, 1, 0])
    assert [spacing_of(attributes, each) for each in groups] == [(3, 4), (5, 6)]
    assert plane_of(attributes, groups[0][1:]) is None  # without a position
    with pytest.raises(FormatError, match="NumberOfFrames must be 2, as many as there are"):
        groups_of(attributes, 3)


def test_a_file_that_is_not_enhanced_has_no_groups():
    assert groups_of(of_image(), 2) == [[], []]
