"""TIFF: layouts, bit depths and compressions, written by tifffile and read back as they were."""

from __future__ import annotations

import cv2
import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from qmedsam.formats.picture import PictureScan
from qmedsam.formats.scan import FormatError
from qmedsam.formats.tiff import decode_tiff

COLOURS = np.random.default_rng(0).integers(0, 65536, (24, 40, 3), dtype=np.uint16)
GREY = np.ascontiguousarray(COLOURS[..., 0])
COMPRESSIONS = [None, "zlib", "lzw", "packbits", "lzma", "zstd"]
LOSSY = ["jpeg", "webp", "jpeg2000"]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.tif"


def decoded(path) -> np.ndarray:
    return decode_tiff(path.name, path.read_bytes()).values


@pytest.mark.parametrize("planes", ["contig", "separate"])
@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_colours_of_16_bits_are_the_same_in_one_plane_or_three(path, planes, compression):
    stored = COLOURS if planes == "contig" else COLOURS.transpose(2, 0, 1)
    tifffile.imwrite(path, stored, photometric="rgb", planarconfig=planes, compression=compression)
    np.testing.assert_array_equal(decoded(path), COLOURS)


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("is_big", [False, True], ids=["classic", "bigtiff"])
def test_either_byte_order_and_size_of_offsets_is_read(path, byteorder, is_big):
    tifffile.imwrite(path, GREY, byteorder=byteorder, bigtiff=is_big)
    np.testing.assert_array_equal(decoded(path), GREY)


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (np.uint8, [255, 254, 55, 0]),
        (np.uint16, [65535, 65534, 65335, 65280]),
        (np.int16, [-1, -2, -201, -256]),
        (np.float32, [0, -1, -200, -255]),
    ],
)
def test_where_white_is_zero_values_are_inverted(path, dtype, expected):
    values = np.array([[0, 1, 200, 255]], dtype=dtype)
    tifffile.imwrite(path, values, photometric="miniswhite")
    np.testing.assert_array_equal(decoded(path), [expected])


def test_white_is_zero_of_12_bits_is_inverted_within_12_bits(path):
    tifffile.imwrite(path, np.array([[0, 5, 4095]], np.uint16), photometric="miniswhite",
                     bitspersample=12)  # fmt: skip
    np.testing.assert_array_equal(decoded(path), [[4095, 4090, 0]])


@pytest.mark.parametrize(
    ("bits", "expected"),
    [
        (1, [0, 255]),
        (2, [0, 85, 170, 255]),
        (3, [0, 36, 73, 109]),
        (4, [0, 17, 34, 51]),
        (5, [0, 8, 16, 25]),
        (6, [0, 4, 8, 12]),
        (7, [0, 2, 4, 6]),
    ],
)
def test_grey_of_few_bits_is_spread_over_8(path, bits, expected):
    values = np.arange(len(expected), dtype=np.uint8)[None]
    tifffile.imwrite(path, values, bitspersample=bits)
    np.testing.assert_array_equal(decoded(path), [expected])


def test_black_and_white_is_inverted_where_white_is_zero(path):
    pixels = np.array([[0, 255, 255, 0, 0]], dtype=np.uint8)
    Image.fromarray(pixels).convert("1").save(path, compression="group4")
    with tifffile.TiffFile(path) as file:
        assert file.pages[0].photometric == 1
    np.testing.assert_array_equal(decoded(path), pixels)
    tifffile.imwrite(path, pixels > 0, photometric="miniswhite", bitspersample=1)
    np.testing.assert_array_equal(decoded(path), 255 - pixels)


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.uint32, np.float16, np.float64])
def test_other_numbers_stay_as_they_are(path, dtype):
    values = np.arange(12, dtype=dtype).reshape(3, 4) * 10
    tifffile.imwrite(path, values)
    assert decoded(path).dtype == dtype
    np.testing.assert_array_equal(decoded(path), values)


def test_a_palette_becomes_its_colours(path):
    table = np.random.default_rng(1).integers(0, 256, (3, 256)).astype(np.uint16)
    index = (GREY >> 8).astype(np.uint8)
    expected = table[:, index].transpose(1, 2, 0)
    for scale in (257, 1):  # of 16 bits, as it should be, and of 8, as some have it
        tifffile.imwrite(path, index, photometric="palette", colormap=table * np.uint16(scale))
        np.testing.assert_array_equal(decoded(path), expected)


def test_a_palette_of_two_colours_becomes_these(path):
    colours = (257 * 10, 257 * 200, 257 * 20, 257 * 100, 257 * 30, 0)  # by channel
    tifffile.imwrite(path, GREY > 9999, photometric="minisblack",
                     extratags=[(320, "H", 6, colours, True)])  # fmt: skip
    with tifffile.TiffFile(path, mode="r+b") as file:
        file.pages[0].tags[262].overwrite(3)
    expected = np.where((GREY > 9999)[..., None], [200, 100, 0], [10, 20, 30])
    np.testing.assert_array_equal(decoded(path), expected)


@pytest.mark.parametrize("alpha", ["unassalpha", "assocalpha", "unspecified"])
def test_transparency_is_left_out_and_does_not_blacken(path, alpha):
    stored = np.dstack([COLOURS, np.zeros_like(GREY)])
    tifffile.imwrite(path, stored, photometric="rgb", extrasamples=[alpha])
    np.testing.assert_array_equal(decoded(path), COLOURS)
    grey = np.dstack([GREY, np.zeros_like(GREY)])
    if alpha != "unspecified":
        tifffile.imwrite(path, grey, photometric="minisblack", planarconfig="contig",
                         extrasamples=[alpha])  # fmt: skip
        np.testing.assert_array_equal(decoded(path), GREY)


def test_tiles_and_predictors_are_read(path):
    tifffile.imwrite(path, COLOURS, photometric="rgb", tile=(16, 16), compression="lzw",
                     predictor=True)  # fmt: skip
    np.testing.assert_array_equal(decoded(path), COLOURS)
    values = GREY.astype(np.float32) / 7
    tifffile.imwrite(path, values, tile=(16, 16), compression="zlib", predictor=3)
    np.testing.assert_array_equal(decoded(path), values)


def test_jpeg_within_tiff_is_seen_as_by_libtiff(path):
    smooth = cv2.resize((COLOURS >> 8).astype(np.uint8)[::8, ::8], (40, 24))
    tifffile.imwrite(path, smooth, photometric="ycbcr", compression="jpeg", subsampling=(2, 2))
    by_libtiff = np.asarray(Image.open(path).convert("RGB")).astype(int)
    assert np.abs(decoded(path).astype(int) - by_libtiff).max() <= 1


@pytest.mark.parametrize("compression", ["webp", "jpeg2000"])
def test_other_pictures_within_tiff_are_the_same(path, compression):
    colours = (COLOURS >> 8).astype(np.uint8)
    options = {"level": 0} if compression == "jpeg2000" else {"lossless": True}
    tifffile.imwrite(path, colours, photometric="rgb", compression=compression,
                     compressionargs=options)  # fmt: skip
    np.testing.assert_array_equal(decoded(path), colours)


def test_the_largest_level_of_a_pyramid_is_taken(path):
    with tifffile.TiffWriter(path) as file:
        file.write(COLOURS, photometric="rgb", tile=(16, 16), subifds=1)
        file.write(COLOURS[::2, ::2], photometric="rgb", tile=(16, 16), subfiletype=1)
    assert decode_tiff("a.tif", path.read_bytes()).remarks == ()
    np.testing.assert_array_equal(decoded(path), COLOURS)
    with tifffile.TiffWriter(path) as file:  # as a slide scanner does: levels that are not marked
        for step in (2, 1, 4):
            file.write(COLOURS[::step, ::step], photometric="rgb", tile=(16, 16), metadata=None)
    found = decode_tiff("a.tif", path.read_bytes())
    np.testing.assert_array_equal(found.values, COLOURS)
    assert found.remarks == ("Of 3 pages the largest is taken, 40 x 24 pixels.",)


@pytest.mark.parametrize("is_first", [False, True], ids=["thumbnail-last", "thumbnail-first"])
def test_a_thumbnail_or_a_mask_is_no_second_page(path, is_first):
    def write_small(file):
        file.write(GREY[::4, ::4], subfiletype=1, metadata=None)
        file.write(GREY > 9, subfiletype=4, photometric="mask", metadata=None)

    with tifffile.TiffWriter(path) as file:
        if is_first:
            write_small(file)
        file.write(GREY, metadata=None)
        if not is_first:
            write_small(file)
    found = decode_tiff("a.tif", path.read_bytes())
    np.testing.assert_array_equal(found.values, GREY)
    assert found.remarks == ()


def test_a_stack_is_refused_however_it_is_written(path):
    stack = np.stack([GREY, GREY, GREY])
    tifffile.imwrite(path, stack, photometric="minisblack")
    with pytest.raises(FormatError, match=r"a\.tif must have one page, got 3"):
        decoded(path)
    tifffile.imwrite(path, stack, imagej=True, metadata={"axes": "ZYX"})
    with tifffile.TiffFile(path) as file:
        offset = file.pages[0].offset
        order = "big" if file.byteorder == ">" else "little"
    content = bytearray(path.read_bytes())  # ImageJ has one directory for stacks above 4 GB
    entries = int.from_bytes(content[offset : offset + 2], order)
    content[offset + 2 + 12 * entries : offset + 6 + 12 * entries] = bytes(4)
    path.write_bytes(content)
    with pytest.raises(FormatError, match="must have one page, got 3"):
        decoded(path)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_orientation_shows_the_picture_as_viewers_do(path, orientation):
    tifffile.imwrite(path, GREY, extratags=[(274, "H", 1, orientation, True)])
    scan = PictureScan("a.tif", path.read_bytes(), None)
    expected = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED)
    tifffile.imwrite(path, expected)
    np.testing.assert_array_equal(scan.pixels, PictureScan("a", path.read_bytes(), None).pixels)
    assert len(scan.remarks) == (orientation != 1)


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        (np.zeros((4, 5), np.complex64), {}, "integers or floats, got complex64"),
        (np.zeros((4, 5, 4), np.uint8), {"photometric": "separated"}, "got SEPARATED"),
        (np.zeros((4, 5, 3), np.uint8), {"photometric": "cielab"}, "got CIELAB"),
        (np.zeros((4, 5, 3), np.uint8), {"photometric": "ycbcr"}, "got YCBCR"),
        (
            np.zeros((4, 5, 5), np.uint8),
            {"photometric": "minisblack", "planarconfig": "contig"},
            "one channel, or those of RGB, got 5",
        ),
        (
            np.zeros((4, 5, 2), np.uint8),
            {"photometric": "minisblack", "planarconfig": "contig"},
            "one channel, or those of RGB, got 2",
        ),
    ],
)
def test_what_is_neither_grey_nor_colour_is_refused(path, values, options, message):
    tifffile.imwrite(path, values, **options)
    with pytest.raises(FormatError, match=rf"a\.tif must .*{message}"):
        decoded(path)


@pytest.mark.parametrize("compression", [*COMPRESSIONS, *LOSSY])
@pytest.mark.parametrize("tile", [None, (16, 16)], ids=["strips", "tiles"])
@pytest.mark.parametrize("missing", [900, 20])
def test_a_file_that_is_cut_off_is_refused(path, compression, tile, missing):
    colours = (COLOURS >> 8).astype(np.uint8) if compression in LOSSY else COLOURS
    tifffile.imwrite(path, colours, photometric="rgb", compression=compression, tile=tile)
    path.write_bytes(path.read_bytes()[:-missing])
    with pytest.raises(FormatError, match=r"a\.tif must be a readable TIFF image, got"):
        decoded(path)


@pytest.mark.parametrize("tag", [324, 325], ids=["offset", "size"])
def test_a_tile_that_is_left_out_is_not_taken_for_black(path, tag):
    tifffile.imwrite(path, GREY, tile=(16, 16), compression="zlib")
    with tifffile.TiffFile(path, mode="r+b") as file:
        values = list(file.pages[0].tags[tag].value)
        file.pages[0].tags[tag].overwrite([*values[:-1], 0])
    with pytest.raises(FormatError, match="got 5 of 6 strips or tiles: others are cut off or left"):
        decoded(path)


def test_a_picture_that_does_not_fit_is_refused_before_it_is_decoded(path, monkeypatch):
    monkeypatch.setattr("qmedsam.formats.scan.largest_array_bytes", lambda: 9999)
    monkeypatch.setattr(tifffile.TiffPage, "asarray", None)
    tifffile.imwrite(path, COLOURS, photometric="rgb")
    with pytest.raises(FormatError, match=r"must hold 2499 values at most .* got 2880"):
        decoded(path)


def test_imagecodecs_has_the_decoders_that_are_promised():
    names = ("ZSTD", "LZW", "WEBP", "JPEG2K", "JPEG8", "LZMA", "PACKBITS", "PACKINTS", "CCITTFAX4")
    assert all(getattr(imagecodecs, name).available for name in names)
