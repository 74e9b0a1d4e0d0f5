"""The size of compressed pixels, which is compared before they are decoded."""

from __future__ import annotations

import imagecodecs
import numpy as np
import pytest
from pydicom import pixels
from pydicom.encaps import encapsulate
from pydicom.uid import (
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
)

from qmedsam.formats.dicom.codestreams import Size, size_of
from qmedsam.formats.dispatch import open_scan
from qmedsam.formats.scan import FormatError
from tests.qmedsam.formats.dicom.conftest import HW, ct_slice, save

GREY = np.random.default_rng(0).integers(0, 200, HW, dtype=np.uint8)
LARGER = np.pad(GREY, ((0, 8), (0, 6)))
COLOURS = np.stack([GREY, GREY // 2, GREY // 3], axis=-1)


def jpeg_2000(values, codecformat="J2K"):
    return imagecodecs.jpeg2k_encode(values, codecformat=codecformat, reversible=True, numthreads=1)


def in_boxes(values):
    return jpeg_2000(values, "JP2")


def jpeg(values):
    return imagecodecs.jpeg8_encode(values, level=95)


KINDS = {
    "JPEG 2000": (JPEG2000Lossless, jpeg_2000),
    "JPEG 2000 in boxes": (JPEG2000Lossless, in_boxes),
    "JPEG-LS": (JPEGLSLossless, imagecodecs.jpegls_encode),
    "JPEG": (JPEGBaseline8Bit, jpeg),
    "lossless JPEG": (JPEGLosslessSV1, imagecodecs.ljpeg_encode),
}
KINDS_OF_COLOURS = ("JPEG 2000", "JPEG 2000 in boxes", "JPEG-LS", "JPEG")


def compressed(path, codestreams, syntax, **attributes):
    """Write a file with codestreams as its frames."""
    dataset = ct_slice(
        BitsAllocated=8, BitsStored=8, HighBit=7, PixelRepresentation=0, **attributes
    )
    if len(codestreams) > 1:
        dataset.NumberOfFrames = len(codestreams)
    dataset.PixelData = encapsulate([bytes(each) for each in codestreams])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    return save(dataset, path, syntax)


@pytest.fixture
def undecoded(monkeypatch):
    """Let no decoder be called."""
    for name in ("pixel_array", "iter_pixels"):
        monkeypatch.setattr(pixels, name, lambda *_, **__: pytest.fail("was decoded"))


@pytest.mark.parametrize("kind", KINDS)
def test_the_size_stands_in_the_header(kind):
    _, encode = KINDS[kind]
    assert size_of(bytes(encode(GREY))) == Size(HW, 1)
    assert size_of(bytes(encode(LARGER))) == Size((16, 16), 1)
    if kind in KINDS_OF_COLOURS:
        assert size_of(bytes(encode(COLOURS))) == Size(HW, 3)


@pytest.mark.parametrize("kind", KINDS)
def test_a_header_that_is_cut_off_says_nothing(kind):
    """Nor does what is none."""
    content = bytes(KINDS[kind][1](GREY))
    found = [size_of(content[:length]) for length in range(len(content))]
    first = found.index(Size(HW, 1))
    assert set(found[:first]) == {None}
    assert set(found[first:]) == {Size(HW, 1)}


def test_what_is_no_codestream_says_nothing():
    for content in (b"", b"text" * 9, b"\xff\xd8\xff\xd9", b"\0\0\0\x0cjP  " + bytes(40)):
        assert size_of(content) is None


def test_segments_before_the_size_are_passed_over():
    content = bytes(jpeg(GREY))
    comment = b"\xff\xfe\0\x0d\xff\xc0\0\x0b\x08\0\x01\0\x01\x01."
    assert size_of(content[:2] + b"\xff\xff" + comment + content[2:]) == Size(HW, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_pixels_of_the_size_are_read(tmp_path, kind):
    syntax, encode = KINDS[kind]
    scan = open_scan(compressed(tmp_path / "a.dcm", [encode(GREY)], syntax))
    assert np.abs(scan.values - (GREY - 1024.0)).max() <= (8 if kind == "JPEG" else 0)


@pytest.mark.usefixtures("undecoded")
@pytest.mark.parametrize("kind", KINDS)
def test_pixels_of_another_size_are_refused_undecoded(tmp_path, kind):
    syntax, encode = KINDS[kind]
    path = compressed(tmp_path / "a.dcm", [encode(LARGER)], syntax)
    with pytest.raises(FormatError, match=r"a\.dcm must have compressed .* 8 x 10 of 1, got 16 x"):
        open_scan(path)


@pytest.mark.usefixtures("undecoded")
@pytest.mark.parametrize("kind", KINDS_OF_COLOURS)
def test_pixels_of_more_samples_are_refused_undecoded(tmp_path, kind):
    syntax, encode = KINDS[kind]
    path = compressed(tmp_path / "a.dcm", [encode(COLOURS)], syntax)
    with pytest.raises(FormatError, match=r"it says, 8 x 10 of 1, got 8 x 10 of 3"):
        open_scan(path)


@pytest.mark.usefixtures("undecoded")
def test_pixels_that_do_not_say_their_size_are_refused_undecoded(tmp_path):
    path = compressed(tmp_path / "a.dcm", [b"text" * 9], JPEG2000Lossless)
    with pytest.raises(FormatError, match="8 x 10 of 1, got none that say it"):
        open_scan(path)


def test_of_a_clip_the_frames_that_are_taken_are_compared(tmp_path):
    """Of grey ones all, of colours the one that is chosen."""
    grey = [imagecodecs.jpegls_encode(each) for each in (GREY, GREY, LARGER)]
    path = compressed(tmp_path / "grey.dcm", grey, JPEGLSLossless)
    with pytest.raises(FormatError, match="got 16 x 16 of 1"):
        open_scan(path)
    larger = np.stack([LARGER] * 3, axis=-1)
    colours = [jpeg_2000(each) for each in (COLOURS, COLOURS, larger)]
    path = compressed(
        tmp_path / "colours.dcm",
        colours,
        JPEG2000Lossless,
        SamplesPerPixel=3,
        PhotometricInterpretation="RGB",
        PlanarConfiguration=0,
    )
    assert (open_scan(path, volume=2).pixels == COLOURS).all()
    with pytest.raises(FormatError, match="8 x 10 of 3, got 16 x 16 of 3"):
        open_scan(path, volume=3)
