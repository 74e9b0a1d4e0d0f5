"""Pictures: what is read, held to what a second decoder makes of the same file."""

from __future__ import annotations

import io
import struct
import zlib

import cv2
import imagecodecs
import numpy as np
import pytest
from PIL import Image, ImageOps

from qmedsam.formats.dispatch import open_scan
from qmedsam.formats.picture import PictureScan, decode_picture
from qmedsam.formats.scan import FormatError

IMAGE = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)


def read(path) -> PictureScan:
    return PictureScan(path.name, path.read_bytes())


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp"])
def test_colours_and_grey_are_read_as_they_are(tmp_path, suffix):
    colours, grey = tmp_path / f"colours{suffix}", tmp_path / f"grey{suffix}"
    cv2.imwrite(str(colours), IMAGE[..., ::-1])
    cv2.imwrite(str(grey), IMAGE[..., 0])
    np.testing.assert_array_equal(read(colours).pixels, IMAGE)
    np.testing.assert_array_equal(read(grey).pixels, IMAGE[..., 0])


def test_transparency_is_left_out(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.dstack([IMAGE[..., ::-1], IMAGE[..., 0]]))
    np.testing.assert_array_equal(read(tmp_path / "a.png").pixels, IMAGE)


def test_a_picture_that_does_not_fit_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr("qmedsam.formats.scan.largest_array_bytes", lambda: 9999)
    monkeypatch.setattr("qmedsam.formats.picture.DECODERS", {"PNG": None})
    Image.fromarray(IMAGE).save(tmp_path / "a.png")
    with pytest.raises(FormatError, match=r"must hold 2499 values at most .* got 14400"):
        read(tmp_path / "a.png")
    Image.new("L", (20_000, 20_000)).save(tmp_path / "b.png")
    with pytest.raises(FormatError, match=r"b\.png is too large"):
        read(tmp_path / "b.png")


@pytest.mark.parametrize(
    ("side", "message"), [(13_377, r"must be a readable PNG"), (13_378, r"is too large")]
)
def test_a_picture_may_have_178_million_pixels(tmp_path, monkeypatch, side, message):
    """By what the header says: the decoder is not asked for so many."""
    monkeypatch.setattr("qmedsam.formats.scan.largest_array_bytes", lambda: 1 << 40)
    content = saved(Image.new("L", (1, 1)), "PNG")
    header = b"IHDR" + struct.pack(">II", side, side) + content[24:29]
    large = content[:12] + header + struct.pack(">I", zlib.crc32(header)) + content[33:]
    monkeypatch.setattr("qmedsam.formats.picture._values", None)
    with pytest.raises(FormatError, match=rf"a\.png {message}"):
        decode_picture("a.png", large)


def test_16_bits_are_spread_by_percentiles(tmp_path):
    values = np.arange(1, 4801, dtype=np.uint16).reshape(60, 80) * 10
    cv2.imwrite(str(tmp_path / "a.png"), values)
    pixels = read(tmp_path / "a.png").pixels
    assert (pixels.min(), pixels.max(), pixels.dtype) == (0, 255, np.uint8)


def test_what_is_no_picture_is_named(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"text")
    (tmp_path / "a.png").write_bytes(b"text")
    (tmp_path / "empty.jpg").write_bytes(b"")
    for name in ("a.png", "empty.jpg", "missing.tif"):
        with pytest.raises(FormatError, match=name):
            open_scan(tmp_path / name, None)
    with pytest.raises(FormatError, match=r"a\.txt must be DICOM, a folder of it, or end in \.nii"):
        open_scan(tmp_path / "a.txt", None)


def saved(image: Image.Image, kind: str, **options) -> bytes:
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


def by_opencv(content: bytes) -> np.ndarray:
    """Decode as the second decoder does: grey as it is, colours without transparency as RGB."""
    values = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    return values if values.ndim == 2 else values[..., 2::-1]


def by_pillow(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


GREY = np.ascontiguousarray(IMAGE[..., 0])
WIDE = np.random.default_rng(1).integers(0, 65536, (60, 80, 3), dtype=np.uint16)
SMOOTH = cv2.resize(IMAGE[::20, ::20], (80, 60))
ALPHA = np.dstack([IMAGE, GREY])
FEW = Image.fromarray(SMOOTH).quantize(4)  # colours, a palette

CORPUS = {
    "png-black-white": (saved(Image.fromarray(GREY > 99), "PNG"), by_opencv),
    "png-grey": (saved(Image.fromarray(GREY), "PNG"), by_opencv),
    "png-grey-16": (imagecodecs.png_encode(WIDE[..., 0].copy()), by_opencv),
    "png-rgb": (saved(Image.fromarray(IMAGE), "PNG"), by_opencv),
    "png-rgb-16": (imagecodecs.png_encode(WIDE), by_opencv),
    "png-rgba-16": (imagecodecs.png_encode(np.dstack([WIDE, WIDE[..., :1]])), by_opencv),
    "png-rgba": (saved(Image.fromarray(ALPHA), "PNG"), by_opencv),
    "png-palette": (saved(FEW, "PNG"), by_opencv),
    "png-palette-2-bits": (saved(FEW, "PNG", bits=2), by_opencv),
    "png-palette-transparent": (saved(FEW, "PNG", transparency=0), by_opencv),
    "jpeg-grey": (saved(Image.fromarray(SMOOTH[..., 0].copy()), "JPEG"), by_opencv),
    "jpeg": (saved(Image.fromarray(SMOOTH), "JPEG"), by_opencv),
    "jpeg-progressive": (saved(Image.fromarray(SMOOTH), "JPEG", progressive=True), by_opencv),
    "jpeg-not-subsampled": (saved(Image.fromarray(SMOOTH), "JPEG", subsampling=0), by_opencv),
    "bmp-black-white": (saved(Image.fromarray(GREY > 99), "BMP"), by_opencv),
    "bmp-grey": (saved(Image.fromarray(GREY), "BMP"), by_opencv),
    "bmp-palette": (saved(FEW, "BMP"), by_opencv),
    "bmp": (saved(Image.fromarray(IMAGE), "BMP"), by_opencv),
    "bmp-rgba": (saved(Image.fromarray(ALPHA), "BMP"), by_opencv),
    "gif": (saved(FEW, "GIF"), by_opencv),
    "webp": (saved(Image.fromarray(IMAGE), "WEBP", lossless=True), by_opencv),
    "webp-lossy": (saved(Image.fromarray(SMOOTH), "WEBP"), by_opencv),
    "webp-rgba": (saved(Image.fromarray(ALPHA), "WEBP", lossless=True, exact=True), by_opencv),
    "jp2-grey": (saved(Image.fromarray(GREY), "JPEG2000"), by_opencv),
    "jp2-grey-16": (imagecodecs.jpeg2k_encode(WIDE[..., 0].copy(), level=0), by_opencv),
    "jp2": (saved(Image.fromarray(IMAGE), "JPEG2000"), by_pillow),
    "jp2-rgb-16": (imagecodecs.jpeg2k_encode(WIDE, level=0), by_opencv),
    "jp2-rgba": (saved(Image.fromarray(ALPHA), "JPEG2000"), by_pillow),
    "j2k-lossy": (
        saved(Image.fromarray(SMOOTH), "JPEG2000", no_jp2=True, irreversible=True),
        by_pillow,
    ),
}


@pytest.mark.parametrize("name", CORPUS)
def test_two_decoders_see_the_same(name):
    content, second = CORPUS[name]
    found = decode_picture(name, content)
    expected = second(content)
    assert (found.values.shape, found.values.dtype) == (expected.shape, expected.dtype)
    np.testing.assert_array_equal(found.values, expected)
    assert found.remarks == ()


def test_grey_with_transparency_is_its_grey():
    content = saved(Image.merge("LA", [Image.fromarray(GREY), Image.new("L", (80, 60))]), "PNG")
    np.testing.assert_array_equal(decode_picture("a.png", content).values, GREY)


def test_a_jpeg_for_print_is_seen_in_rgb():
    content = saved(Image.fromarray(SMOOTH).convert("CMYK"), "JPEG", quality=95)
    found = decode_picture("a.jpg", content).values
    assert np.abs(found.astype(int) - by_opencv(content)).max() <= 3


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_of_what_moves_the_first_frame_is_taken(kind):
    frames = [FEW.convert("RGB"), Image.fromarray(255 - SMOOTH)]
    options = {"lossless": True} if kind == "WEBP" else {}
    content = saved(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    found = decode_picture("a", content)
    np.testing.assert_array_equal(found.values, np.asarray(frames[0]))
    assert found.remarks == ("Of 2 frames the first is taken.",)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photograph_is_seen_as_viewers_show_it(kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = saved(Image.fromarray(SMOOTH), kind, exif=exif)
    scan = PictureScan("photo", content)
    turned = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    np.testing.assert_array_equal(scan.pixels, np.asarray(turned))
    assert scan.label_shape == ((80, 60) if orientation > 4 else (60, 80))
    if orientation == 6:
        assert scan.remarks == (
            "The file's orientation turns it by 90 degrees to the right: boxes and labels are of "
            "the picture as viewers show it, 60 x 80 pixels.",
        )
    assert len(scan.remarks) == (orientation > 1)


@pytest.mark.parametrize("name", [name for name in CORPUS if "-" not in name])
def test_a_picture_that_is_cut_off_is_named(name):
    content, _ = CORPUS[name]
    with pytest.raises(FormatError, match=rf"{name}\.img must be a readable .+, got: .+"):
        decode_picture(f"{name}.img", content[: len(content) // 2])


def test_a_broken_orientation_turns_nothing():
    content = saved(Image.fromarray(SMOOTH), "PNG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    np.testing.assert_array_equal(decode_picture("a.png", content).upright(), SMOOTH)


def test_a_palette_of_jpeg_2000_becomes_its_colours():
    """A file of grey gets a palette in its header, as no library at hand writes one."""
    index = np.asarray(FEW)
    table = np.array([[10, 20, 30], [200, 100, 0], [1, 2, 3], [255, 0, 9]], np.uint8)
    content = saved(Image.fromarray(index), "JPEG2000")
    start = content.index(b"jp2h") - 4
    end = start + int.from_bytes(content[start : start + 4])
    palette = struct.pack(">HB3B", 4, 3, 7, 7, 7) + table.tobytes()
    columns = b"".join(struct.pack(">HBB", 0, 1, column) for column in range(3))
    is_srgb = content[start + 8 : end].replace(struct.pack(">I", 17), struct.pack(">I", 16))
    inside = is_srgb + box_of(b"pclr", palette) + box_of(b"cmap", columns)
    found = decode_picture("a.jp2", content[:start] + box_of(b"jp2h", inside) + content[end:])
    np.testing.assert_array_equal(found.values, table[index])


def box_of(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", 8 + len(content)) + kind + content
