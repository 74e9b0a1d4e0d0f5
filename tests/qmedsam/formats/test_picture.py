"""Pictures: PNG, TIFF, BMP and JPEG."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from PIL import Image

from qmedsam.formats.dispatch import open_scan
from qmedsam.formats.picture import PictureScan
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


def test_several_pages_are_refused(tmp_path):
    page = Image.fromarray(IMAGE[..., 0])
    page.save(tmp_path / "a.tif", save_all=True, append_images=[page, page])
    with pytest.raises(FormatError, match=r"a\.tif must have one page, got 3"):
        read(tmp_path / "a.tif")


def test_a_picture_that_does_not_fit_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr("qmedsam.formats.scan.largest_array_bytes", lambda: 9999)
    monkeypatch.setattr(cv2, "imdecode", None)
    Image.fromarray(IMAGE).save(tmp_path / "a.png")
    with pytest.raises(FormatError, match=r"must hold 2499 values at most .* got 14400"):
        read(tmp_path / "a.png")
    Image.new("L", (20_000, 20_000)).save(tmp_path / "b.png")
    with pytest.raises(FormatError, match=r"b\.png is too large"):
        read(tmp_path / "b.png")


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
