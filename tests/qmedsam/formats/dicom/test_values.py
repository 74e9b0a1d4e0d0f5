"""What pixels measure: rescales, Hounsfield units, padding, and low values that are bright."""

from __future__ import annotations

import imagecodecs
import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    JPEG2000,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    SecondaryCaptureImageStorage,
)

from qmedsam.formats.dispatch import open_scan
from qmedsam.formats.intensity import WindowError
from qmedsam.formats.scan import FormatError
from tests.qmedsam.formats.dicom.conftest import HW, ct_slice, save, save_jpeg_2000, write_series

TAKEN = "its values are taken as stored."
NOT_HU = "does not say that its values are Hounsfield units; percentiles are the default."


def image(folder, **attributes):
    """Write a slice of the stored values 1024, 1034, ... 1814: 0 to 790 HU."""
    stored = (1024 + 10 * np.arange(80, dtype=np.int16)).reshape(HW)
    return save(ct_slice(**({"PixelData": stored.tobytes()} | attributes)), folder / "a.dcm")


def first_values(path, window=None):
    """Return the values of the first pixels, the window and the remarks of an image."""
    scan = open_scan(path, window)
    return (
        scan._values[0, :2].tolist(),
        scan.window,
        [each[len("a.dcm ") :] for each in scan.remarks],
    )


def test_ct_is_in_hounsfield_units(tmp_path):
    assert first_values(image(tmp_path)) == ([0, 10], "soft-tissue", [])


@pytest.mark.parametrize(
    ("attributes", "values", "remarks"),
    [
        (
            {"RescaleSlope": None, "RescaleIntercept": None},
            [1024, 1034],
            [f"has no RescaleSlope: {TAKEN}", NOT_HU],
        ),
        (
            {"RescaleSlope": "", "RescaleIntercept": ""},
            [1024, 1034],
            [f"has no RescaleSlope: {TAKEN}", NOT_HU],
        ),
        ({"RescaleSlope": ""}, [0, 10], [f"has no RescaleSlope: {TAKEN}", NOT_HU]),
        ({"RescaleIntercept": ""}, [1024, 1034], [f"has no RescaleIntercept: {TAKEN}", NOT_HU]),
        ({"RescaleType": "US"}, [0, 10], [NOT_HU]),
        ({"RescaleType": "HU"}, [0, 10], []),
        ({"Modality": "MR"}, [0, 10], []),
        (
            {"Modality": "MR", "RescaleSlope": None, "RescaleIntercept": None},
            [1024, 1034],
            [],
        ),
        ({"Modality": "MR", "RescaleSlope": ""}, [0, 10], [f"has no RescaleSlope: {TAKEN}"]),
        ({"RescaleSlope": 2, "RescaleIntercept": -1000}, [1048, 1068], []),
    ],
    ids=[
        "absent",
        "empty",
        "empty-slope",
        "empty-intercept",
        "other-unit",
        "unit",
        "mr",
        "mr-absent",
        "mr-empty",
        "slope-of-2",
    ],
)
def test_a_rescale_that_is_missing_changes_nothing_and_is_said(
    tmp_path, attributes, values, remarks
):
    found = first_values(image(tmp_path, **attributes))
    is_ct = attributes.get("Modality", "CT") == "CT"
    window = "soft-tissue" if is_ct and not remarks else "percentiles"
    assert found == (values, window, remarks)


def test_stored_values_are_not_seen_in_a_window_of_hounsfield_units(tmp_path):
    """What was stored as HU + 1024 was all white."""
    pixels = open_scan(image(tmp_path, RescaleSlope=None, RescaleIntercept=None)).pixels
    assert (pixels[0, 0], pixels[-1, -1]) == (0, 255)
    assert len(np.unique(pixels)) == 80


def test_a_window_of_hounsfield_units_is_warned_of_where_there_are_none(tmp_path):
    path = image(tmp_path, RescaleSlope=None, RescaleIntercept=None)
    assert open_scan(path, "lung").remarks[-1] == (
        "a.dcm does not say that its values are Hounsfield units; lung is a window of these."
    )


def test_a_capture_of_8_bits_is_not_in_hounsfield_units(tmp_path):
    stored = np.arange(80, dtype=np.uint8).reshape(HW) + 100
    path = save(
        ct_slice(
            BitsAllocated=8,
            BitsStored=8,
            HighBit=7,
            PixelRepresentation=0,
            RescaleSlope=1,
            RescaleIntercept=0,
            PixelData=stored.tobytes(),
        ),
        tmp_path / "a.dcm",
    )
    assert first_values(path) == ([100, 101], "percentiles", [NOT_HU])


def test_8_bits_that_are_rescaled_may_be(tmp_path):
    path = save(
        ct_slice(
            BitsAllocated=8,
            BitsStored=8,
            HighBit=7,
            PixelRepresentation=0,
            RescaleSlope=8,
            PixelData=bytes([128, 130] * 40),
        ),
        tmp_path / "a.dcm",
    )
    assert first_values(path) == ([0, 16], "soft-tissue", [])


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"RescaleSlope": 0}, "RescaleSlope must be a number other than 0, got 0"),
        ({"RescaleSlope": "1e300"}, "RescaleSlope must be a number other than 0, got 1e"),
        ({"RescaleIntercept": "1e300"}, "RescaleIntercept must be a level of what is measured"),
        ({"RescaleSlope": [1, 2]}, r"RescaleSlope must be a number, got 1\S*\\2"),
        ({"BitsStored": 0}, "BitsStored|pixels"),
        ({"BitsAllocated": 12}, "must have"),
        ({"SamplesPerPixel": 2}, "SamplesPerPixel must be 1 or 3, got 2"),
        ({"Rows": 0}, "Rows must be a whole number above 0, got 0"),
        ({"Columns": None}, "Columns must be a whole number above 0, got nothing"),
        ({"NumberOfFrames": 0}, "NumberOfFrames must be a whole number above 0, got 0"),
        ({"NumberOfFrames": 2}, "must have 320 bytes of pixels, got 160, it may have been cut"),
        ({"NumberOfFrames": 2**31 - 1}, "NumberOfFrames must be 100000 at most"),
    ],
)
def test_what_cannot_be_right_is_named(tmp_path, attributes, message):
    with pytest.raises(FormatError, match=rf"a\.dcm.*({message})"):
        open_scan(image(tmp_path, **attributes))


@pytest.mark.parametrize(
    ("center", "width", "message"),
    [
        (40, 0, "WindowWidth must be a number above 0, got 0"),
        (40, -5, "WindowWidth must be a number above 0, got -5"),
        ("1e300", 100, "WindowCenter must be a level of what is measured"),
        ([40, 50], [0, 80], r"WindowWidth must be a number above 0, got 0\S*\\80"),
    ],
)
def test_a_window_of_the_file_that_is_none_is_named(tmp_path, center, width, message):
    path = image(tmp_path, WindowCenter=center, WindowWidth=width)
    open_scan(path)  # who does not ask for it does without
    with pytest.raises(FormatError, match=rf"a\.dcm: {message}"):
        open_scan(path, "file")


def test_a_file_without_a_window_has_none_to_offer(tmp_path):
    with pytest.raises(WindowError, match="a window of their own"):
        open_scan(image(tmp_path, WindowCenter="", WindowWidth=""), "file")


def test_one_slice_whose_low_values_are_bright_is_seen_as_it_says(tmp_path):
    def change(number, dataset):
        if number == 2:
            dataset.PhotometricInterpretation = "MONOCHROME1"
        dataset.RescaleIntercept = -1024 + 1000  # 0, 100, ... 400 HU

    scan = open_scan(write_series(tmp_path / "ct", change=change))
    # Soft tissue is 400 from -160 on: 0 HU is 102, 100 HU 166, 200 HU 230 or, inverted, 25.
    assert scan.pixels[:, 0, 0].tolist() == [102, 166, 25, 255, 255]
    assert scan.remarks == (
        "IM0002.dcm has low values bright or dark where other slices have it the other way round: "
        "each is seen as its own file says.",
    )


def test_a_lookup_table_gives_the_values(tmp_path):
    table = Dataset()
    table.LUTDescriptor = [4, 1024, 16]
    table["LUTDescriptor"].VR = "US"
    table.ModalityLUTType = "US"
    table.LUTData = np.array([7, 8, 9, 10], np.uint16).tobytes()
    table["LUTData"].VR = "OW"
    path = image(
        tmp_path,
        ModalityLUTSequence=[table],
        RescaleSlope=None,
        RescaleIntercept=None,
        PixelRepresentation=0,
        PixelData=np.full(HW, 1026, np.uint16).tobytes(),
    )
    assert first_values(path) == ([9, 9], "percentiles", [NOT_HU])


def test_the_slope_of_a_slice_without_anything_may_be_0(tmp_path):
    def change(number, dataset):
        dataset.Modality, dataset.RescaleIntercept = "PT", 0
        if number == 1:
            dataset.RescaleSlope, dataset.PixelData = 0, bytes(160)

    scan = open_scan(write_series(tmp_path / "pt", 3, change))
    assert scan._values[:, 0, 0].tolist() == [24, 0, 224]


def test_the_slope_of_each_slice_is_its_own(tmp_path):
    """PET is stored with a slope for each slice."""

    def change(number, dataset):
        dataset.Modality, dataset.RescaleIntercept = "PT", 0
        dataset.RescaleSlope = number + 1

    scan = open_scan(write_series(tmp_path / "pt", 3, change))
    assert scan._values[:, 0, 0].tolist() == [24, 2 * 124, 3 * 224]
    assert (scan.window, scan.remarks) == ("percentiles", ())


def test_padding_may_be_a_range_of_values(tmp_path):
    stored = (1024 + 10 * np.arange(80, dtype=np.int16)).reshape(HW)
    stored[0, :4] = -2001, -2000, -1990, -1989
    path = image(
        tmp_path,
        PixelData=stored.tobytes(),
        PixelPaddingValue=-2000,
        PixelPaddingRangeLimit=-1990,
    )
    scan = open_scan(path, "percentiles")
    assert np.isnan(scan._values[0, :4]).tolist() == [False, True, True, False]
    assert scan.remarks == ("2 values are no measurement and are seen as 0.",)


def test_padding_is_dark_where_low_values_are_bright(tmp_path):
    stored = (1024 + 10 * np.arange(80, dtype=np.int16)).reshape(HW)
    stored[0] = -2000
    path = image(
        tmp_path,
        PhotometricInterpretation="MONOCHROME1",
        PixelData=stored.tobytes(),
        PixelPaddingValue=-2000,
    )
    pixels = open_scan(path).pixels
    assert pixels[0].tolist() == [0] * 10
    assert pixels[1, 0] == 255 - round((100 + 160) * 255 / 400)


def test_the_lowest_float_is_dark_where_low_values_are_bright(tmp_path):
    stored = np.arange(80, dtype=np.float32).reshape(HW)
    stored[0] = -np.finfo(np.float32).max
    dataset = ct_slice(
        PhotometricInterpretation="MONOCHROME1",
        PixelData=None,
        BitsAllocated=32,
        RescaleSlope=None,
        RescaleIntercept=None,
        Modality="MR",
    )
    for keyword in ("BitsStored", "HighBit", "PixelRepresentation"):
        delattr(dataset, keyword)
    dataset.FloatPixelData = stored.tobytes()
    pixels = open_scan(save(dataset, tmp_path / "a.dcm")).pixels
    assert pixels[0].tolist() == [0] * 10
    assert (pixels[1, 0], pixels[-1, -1]) == (255, 0)


def eight_bits(pixels: np.ndarray, interpretation: str, **attributes) -> Dataset:
    """Return an image of 8 bits, (H, W) or (H, W, 3)."""
    found = ct_slice(SOPClassUID=SecondaryCaptureImageStorage, RescaleSlope=None, Modality="OT")
    del found.RescaleIntercept
    found.Rows, found.Columns = pixels.shape[:2]
    found.SamplesPerPixel = pixels.shape[2] if pixels.ndim == 3 else 1
    if pixels.ndim == 3:
        found.PlanarConfiguration = 0
    found.PhotometricInterpretation = interpretation
    found.BitsAllocated = found.BitsStored = 8
    found.HighBit, found.PixelRepresentation = 7, 0
    found.PixelData = pixels.tobytes()
    for keyword, value in attributes.items():
        setattr(found, keyword, value)
    found["PixelData"].VR = "OB"
    return found


def test_a_palette_becomes_its_colours(tmp_path):
    index = np.arange(80, dtype=np.uint8).reshape(HW) % 3
    tables = {"Red": (10, 200, 1), "Green": (20, 100, 2), "Blue": (30, 0, 255)}
    dataset = eight_bits(index, "PALETTE COLOR")
    for colour, values in tables.items():
        setattr(dataset, f"{colour}PaletteColorLookupTableDescriptor", [3, 0, 16])
        table = (np.array(values, np.uint16) << 8).tobytes()
        setattr(dataset, f"{colour}PaletteColorLookupTableData", table)
        dataset[f"{colour}PaletteColorLookupTableDescriptor"].VR = "US"
    scan = open_scan(save(dataset, tmp_path / "a.dcm"))
    expected = np.array([tables["Red"], tables["Green"], tables["Blue"]]).T[index]
    np.testing.assert_array_equal(scan.pixels, expected)
    assert scan.window == "as-it-is"


@pytest.mark.parametrize(
    ("ybr", "rgb"),
    [((76, 85, 255), (255, 0, 0)), ((150, 44, 21), (0, 255, 0)), ((99, 128, 128), (99, 99, 99))],
    ids=["red", "green", "grey"],
)
def test_luminance_and_chrominance_become_rgb(tmp_path, ybr, rgb):
    dataset = eight_bits(np.full((*HW, 3), ybr, np.uint8), "YBR_FULL")
    found = open_scan(save(dataset, tmp_path / "a.dcm")).pixels
    assert np.abs(found.astype(int) - rgb).max() <= 2


GRADIENT = (np.indices((16, 24)).sum(axis=0) * 6).astype(np.uint8)


@pytest.mark.parametrize(
    ("syntax", "encode", "apart"),
    [
        (JPEGBaseline8Bit, lambda values: imagecodecs.jpeg8_encode(values, level=98), 3),
        (JPEGLosslessSV1, imagecodecs.ljpeg_encode, 0),
        (JPEGLSLossless, imagecodecs.jpegls_encode, 0),
        (JPEG2000Lossless, lambda values: codestream(values, reversible=True), 0),
        (JPEG2000, lambda values: codestream(values, level=60), 3),
    ],
    ids=["jpeg", "jpeg-lossless", "jpeg-ls", "jpeg-2000-lossless", "jpeg-2000"],
)
def test_compressed_values_are_those_that_were_compressed(tmp_path, syntax, encode, apart):
    dataset = eight_bits(GRADIENT, "MONOCHROME2")
    dataset.PixelData = encapsulate([encode(GRADIENT)])
    found = open_scan(save(dataset, tmp_path / "a.dcm", syntax))._values
    assert np.abs(found.astype(int) - GRADIENT).max() <= apart


def codestream(values: np.ndarray, **options) -> bytes:
    return imagecodecs.jpeg2k_encode(values, codecformat="j2k", **options)


@pytest.mark.parametrize("has_sign", [0, 1])
def test_whether_values_have_a_sign_is_what_their_jpeg_2000_data_say(tmp_path, has_sign):
    stored = np.arange(-40, 40, dtype=np.int16).reshape(HW)
    packed = imagecodecs.jpeg2k_encode(stored, reversible=True, codecformat="j2k")
    dataset = ct_slice(PixelRepresentation=has_sign, RescaleIntercept=0)
    path = save_jpeg_2000(dataset, tmp_path / "a.dcm", packed)
    np.testing.assert_array_equal(open_scan(path).values, stored)


@pytest.mark.parametrize("keyword", ["SamplesPerPixel", "PhotometricInterpretation"])
def test_what_decoding_needs_is_named_where_it_is_missing(tmp_path, keyword):
    path = save(ct_slice(**{keyword: None}), tmp_path / "a.dcm")
    with pytest.raises(FormatError, match=rf"a\.dcm: {keyword} must be said of pixels, got noth"):
        open_scan(path)
