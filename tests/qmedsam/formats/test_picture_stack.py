"""A folder of pictures as a volume."""

from __future__ import annotations

import json

import imagecodecs
import nibabel
import numpy as np
import pytest
import SimpleITK
import tifffile

from qmedsam.formats.dispatch import open_scan
from qmedsam.formats.scan import FormatError
from qmedsam.formats.writing import write_labels

SLICES = np.random.default_rng(0).integers(0, 256, (12, 6, 8), dtype=np.uint8)


def folder_of(folder, slices, name="slice_{}.png", numbers=None):
    folder.mkdir()
    for number, values in zip(numbers or range(len(slices)), slices, strict=True):
        content = imagecodecs.png_encode(np.ascontiguousarray(values))
        (folder / name.format(number)).write_bytes(content)
    (folder / "notes.txt").write_text("beside the slices")
    (folder / ".hidden.png").write_text("of the system")
    return folder


def test_slices_go_by_the_numbers_in_their_names(tmp_path):
    scan = open_scan(folder_of(tmp_path / "stack", SLICES))
    assert scan.is_volume
    assert scan.remarks == ()
    np.testing.assert_array_equal(scan.pixels, SLICES)
    np.testing.assert_array_equal(scan.boxes_to_pixels([[1, 2, 3, 4, 5, 6]]), [[1, 2, 3, 4, 5, 6]])


def test_more_bits_are_spread_over_the_whole_volume(tmp_path):
    wide = np.arange(1, 577, dtype=np.uint16).reshape(12, 6, 8) * 100
    scan = open_scan(folder_of(tmp_path / "stack", wide))
    assert (scan.pixels[0].max(), scan.pixels[-1].min()) == (20, 235)


def test_grey_that_is_stored_as_colours_is_grey(tmp_path):
    scan = open_scan(folder_of(tmp_path / "stack", np.stack([SLICES] * 3, axis=-1)))
    np.testing.assert_array_equal(scan.pixels, SLICES)


@pytest.mark.parametrize("suffix", [".tif", ".nii.gz"])
def test_labels_lie_where_the_slices_have_them(tmp_path, suffix):
    scan = open_scan(folder_of(tmp_path / "stack", SLICES))
    label_map = (SLICES > 99).astype(np.uint8)
    write_labels(scan, label_map, tmp_path / f"labels{suffix}", notes=scan.notes_of(["disc"]))
    written = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(tmp_path / f"labels{suffix}")))
    np.testing.assert_array_equal(written, label_map)
    if suffix == ".tif":
        with tifffile.TiffFile(tmp_path / "labels.tif") as file:
            notes = json.loads(file.pages[0].description)
    else:
        header = nibabel.load(tmp_path / "labels.nii.gz").header
        notes = json.loads(header.extensions[0].get_content())
        assert header.get_zooms() == (1, 1, 1)
    assert notes["labels"] == {"1": "disc"}


def test_a_gap_in_the_numbers_is_said(tmp_path):
    even = folder_of(tmp_path / "even", SLICES[:3], numbers=[10, 20, 30])
    gap = folder_of(tmp_path / "gap", SLICES[:4], numbers=[1, 2, 3, 5])
    assert open_scan(even).remarks == ()
    assert open_scan(gap).remarks == (
        "Numbers in the names of slices leap from 3 to 5: some may be missing.",
    )


def test_slices_that_are_not_alike_are_named(tmp_path):
    (other := tmp_path / "size").mkdir()
    (other / "1.png").write_bytes(imagecodecs.png_encode(SLICES[0]))
    (other / "2.png").write_bytes(imagecodecs.png_encode(SLICES[0, :4].copy()))
    with pytest.raises(FormatError, match=r"size/2.png must be like 1.png, \(6, 8\) of uint8, got"):
        open_scan(other)
    (other / "2.png").write_bytes(imagecodecs.png_encode(SLICES[0])[:-40])
    with pytest.raises(FormatError, match=r"size/2.png must be a readable PNG image, got: \S"):
        open_scan(other)
    (other / "2.png").rename(other / "2.tif")
    with pytest.raises(FormatError, match=r"size must have slices of one kind, got .png, .tif"):
        open_scan(other)
    colours = np.random.default_rng(0).integers(0, 9, (2, 6, 8, 3), dtype=np.uint8)
    with pytest.raises(FormatError, match=r"slice_0.png must be grey, as slices of a volume"):
        open_scan(folder_of(tmp_path / "colours", colours))


def test_images_and_their_labels_are_not_one_volume(tmp_path):
    folder = folder_of(tmp_path / "both", SLICES[:3], name="img_{:03}.png")
    for path in sorted(folder.glob("img*")):
        (folder / path.name.replace("img", "label")).write_bytes(path.read_bytes())
    with pytest.raises(FormatError, match=r"both must have slices of one volume, .* label_#$"):
        open_scan(folder)


def test_a_slice_that_cannot_be_opened_is_named(tmp_path):
    folder = folder_of(tmp_path / "stack", SLICES)
    (folder / "slice_0.png").unlink()
    (folder / "slice_0.png").symlink_to(tmp_path / "unfetched")
    with pytest.raises(FormatError, match=r"stack cannot be read: .*stack/slice_0\.png"):
        open_scan(folder)


def test_what_lies_beside_slices_is_not_read_whole(tmp_path):
    folder = folder_of(tmp_path / "stack", SLICES)
    with (folder / "movie.bin").open("wb") as stream:
        stream.truncate(1 << 40)
    assert open_scan(folder).pixels.shape == (12, 6, 8)
    (folder / "movie.bin").rename(folder / "slice_12.png")
    with pytest.raises(FormatError, match=r"slice_12\.png must have \d+ bytes at most for this"):
        open_scan(folder)


def test_a_stack_that_does_not_fit_is_refused_at_its_first_slice(tmp_path, monkeypatch):
    folder = folder_of(tmp_path / "stack", SLICES)
    (folder / "slice_1.png").write_text("is not looked at")
    monkeypatch.setattr("qmedsam.formats.scan.largest_array_bytes", lambda: 999)
    with pytest.raises(FormatError, match=r"must hold 249 values at most .* got 576"):
        open_scan(folder)
