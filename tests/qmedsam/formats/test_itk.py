"""NRRD and MetaImage, and every format of volumes read back by SimpleITK."""

from __future__ import annotations

import bz2
import itertools
import json
import re

import numpy as np
import pytest
import SimpleITK

from qmedsam.formats.conversion import read_labels
from qmedsam.formats.dispatch import open_scan, read_scan
from qmedsam.formats.intensity import IntensityWindow
from qmedsam.formats.scan import FormatError
from qmedsam.formats.writing import write_labels

SAME = IntensityWindow(127.5, 255)  # the window in which values stay as they are
SHAPE = (7, 8, 5)  # i, j, k
VALUES = np.random.default_rng(0).integers(1, 250, SHAPE).astype(np.int16)
LOW, HIGH = (1, 2, 0), (3, 4, 2)  # of a block of voxels
BLOCK = tuple(slice(low, high + 1) for low, high in zip(LOW, HIGH, strict=True))
DIRECTIONS = [
    np.array(rows)
    for axes in itertools.permutations(np.eye(3))
    for rows in itertools.product(*([axis, -axis] for axis in axes))
]
IDENTITY = np.eye(3)
ANGLE = np.deg2rad(20)
OBLIQUE = np.array(
    [[np.cos(ANGLE), -np.sin(ANGLE), 0], [np.sin(ANGLE), np.cos(ANGLE), 0], [0, 0, 1]]
)


@pytest.fixture(autouse=True)
def no_warnings_of_itk():
    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)


def image_of(values, direction=IDENTITY, spacing=(2, 3, 4.5)):
    image = SimpleITK.GetImageFromArray(values.T)
    image.SetSpacing(spacing)
    image.SetOrigin((10, -20, 30.5))
    image.SetDirection(direction.ravel().tolist())
    return image


def values_of(image) -> np.ndarray:
    return SimpleITK.GetArrayFromImage(image).T


@pytest.mark.parametrize("direction", [*DIRECTIONS, OBLIQUE], ids=lambda each: str(each.tolist()))
@pytest.mark.parametrize(
    ("suffix", "output"),
    [
        (".nrrd", ".nrrd"),
        (".mha", ".mha"),
        (".nhdr", ".nrrd"),
        (".mhd", ".mha"),
        (".nii.gz", ".nii.gz"),
        (".img", ".nii"),
        (".nrrd", ".nii.gz"),
    ],
)
def test_a_block_comes_out_where_it_was_and_simpleitk_says_so(tmp_path, direction, suffix, output):
    """A box of the file's voxels becomes a label of just these, in the same place of the world."""
    source, target = tmp_path / f"scan{suffix}", tmp_path / f"labels{output}"
    image = image_of(VALUES, direction)
    SimpleITK.WriteImage(image, str(source))
    for plane in ("auto", "axial", "coronal", "sagittal"):
        scan = open_scan(source, SAME, plane=plane)
        ((x0, y0, z0, x1, y1, z1),) = scan.boxes_to_pixels([[*LOW, *HIGH]]).astype(int)
        inside = (slice(z0, z1 + 1), slice(y0, y1 + 1), slice(x0, x1 + 1))
        np.testing.assert_array_equal(
            np.sort(scan.pixels[inside].ravel()), np.sort(VALUES[BLOCK].ravel())
        )
        label_map = np.zeros(scan.label_shape, np.uint8)
        label_map[inside] = 1
        write_labels(scan, label_map, target)
        written = SimpleITK.ReadImage(str(target))
        expected = np.zeros(SHAPE)
        expected[BLOCK] = 1
        np.testing.assert_array_equal(values_of(written), expected)
        for corner in (LOW, HIGH):
            np.testing.assert_allclose(
                written.TransformIndexToPhysicalPoint(corner),
                image.TransformIndexToPhysicalPoint(corner),
                atol=1e-4,
            )


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_the_window_and_names_go_with_the_labels(tmp_path, suffix):
    SimpleITK.WriteImage(image_of(VALUES), str(tmp_path / f"a{suffix}"))
    scan = open_scan(tmp_path / f"a{suffix}", SAME)
    label_map = np.zeros(scan.label_shape, np.uint16)
    write_labels(scan, label_map, tmp_path / f"b{suffix}", notes=scan.notes_of(["k\u00f6rper", ""]))
    written = SimpleITK.ReadImage(str(tmp_path / f"b{suffix}"))
    assert written.GetPixelIDTypeAsString() == "16-bit unsigned integer"
    notes = json.loads(written.GetMetaData("qmedsam"))
    assert notes["labels"] == {"1": "k\u00f6rper", "2": "Object 2"}
    assert notes["window"] == "window L 127.5 W 255"


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
@pytest.mark.parametrize("is_packed", [False, True], ids=["raw", "packed"])
@pytest.mark.parametrize(
    "dtype", [np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32, np.float32, np.float64]
)
def test_numbers_of_every_type_are_read(tmp_path, suffix, is_packed, dtype):
    values = (VALUES // 2).astype(dtype)
    SimpleITK.WriteImage(image_of(values), str(tmp_path / f"a{suffix}"), useCompression=is_packed)
    scan = open_scan(tmp_path / f"a{suffix}", SAME, plane="coronal")
    np.testing.assert_array_equal(scan.pixels, values.transpose(1, 2, 0)[:, ::-1])


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_a_time_or_channel_is_chosen_by_its_number(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    volumes = [VALUES, VALUES // 2, VALUES // 3]
    join = SimpleITK.JoinSeries([image_of(each) for each in volumes])
    compose = SimpleITK.Compose([image_of(each) for each in volumes])
    for image in (join, compose):
        SimpleITK.WriteImage(image, str(path))
        with pytest.raises(FormatError, match="got 3 of 7 x 8 x 5 voxels: 1 to 3"):
            open_scan(path)
        scan = open_scan(path, SAME, volume=3)
        np.testing.assert_array_equal(scan.pixels, open_scan_of(tmp_path, volumes[2]).pixels)
        write_labels(scan, np.zeros(scan.label_shape, np.uint8), tmp_path / f"b{suffix}")
        written = SimpleITK.ReadImage(str(tmp_path / f"b{suffix}"))
        assert (written.GetSize(), written.GetSpacing()) == (SHAPE, (2, 3, 4.5))
        assert written.GetOrigin() == (10, -20, 30.5)


def open_scan_of(folder, values):
    SimpleITK.WriteImage(image_of(values), str(folder / "one.mha"))
    return open_scan(folder / "one.mha", SAME)


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_a_picture_of_two_axes_stays_one(tmp_path, suffix):
    image = SimpleITK.GetImageFromArray(VALUES[..., 0].T)
    image.SetSpacing((0.5, 2))
    SimpleITK.WriteImage(image, str(tmp_path / f"a{suffix}"))
    scan = open_scan(tmp_path / f"a{suffix}", SAME)
    np.testing.assert_array_equal(scan.pixels, VALUES[..., 0].T)
    write_labels(scan, (scan.pixels > 99).astype(np.uint8), tmp_path / f"b{suffix}")
    written = SimpleITK.ReadImage(str(tmp_path / f"b{suffix}"))
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(written), VALUES[..., 0].T > 99)
    assert written.GetSpacing() == (0.5, 2)


@pytest.mark.parametrize("suffix", [".nrrd", ".mha", ".mhd", ".nhdr"])
@pytest.mark.parametrize("is_packed", [False, True], ids=["raw", "packed"])
@pytest.mark.parametrize("kept", [0.0, 0.4, 0.95])
def test_a_file_that_is_cut_off_is_named_in_one_line(tmp_path, capfd, suffix, is_packed, kept):
    path = tmp_path / f"a{suffix}"
    SimpleITK.WriteImage(image_of(VALUES), str(path), useCompression=is_packed)
    cut = max(tmp_path.iterdir(), key=lambda each: each.suffix in (".raw", ".zraw", ".gz"))
    content = cut.read_bytes()
    cut.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(FormatError, match=rf"a\{suffix} must be a readable volume, got") as caught:
        open_scan(path)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("suffix", [".nrrd", ".mha", ".mhd", ".nhdr"])
@pytest.mark.parametrize("place", [-4, -40, -150], ids=["checksum", "end", "middle"])
def test_packed_values_that_are_broken_are_not_taken_for_others(tmp_path, capfd, suffix, place):
    path = tmp_path / f"a{suffix}"
    SimpleITK.WriteImage(image_of(VALUES), str(path), useCompression=True)
    broken = max(tmp_path.iterdir(), key=lambda each: each.suffix in (".raw", ".zraw", ".gz"))
    content = bytearray(broken.read_bytes())
    content[place - 4 if suffix in (".nrrd", ".nhdr") else place] ^= 255
    broken.write_bytes(content)
    with pytest.raises(
        FormatError, match=rf"a\{suffix} must be a readable volume, got broken valu"
    ):
        open_scan(path)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("suffix", "line"),
    [
        (".mha", "ElementDataFile = {}"),
        (".mha", "ElementDataFile : {}"),
        (".nrrd", "data file: {}"),
        (".nrrd", "DATAFILE: {}"),
    ],
)
@pytest.mark.parametrize("other", ["/etc/hostname", "../secret.raw", "LIST", "a%03d.raw 0 4 1"])
def test_a_header_leads_to_no_file_elsewhere(tmp_path, suffix, line, other):
    path = tmp_path / f"a{suffix}"
    SimpleITK.WriteImage(image_of(VALUES), str(path))
    header, rest = path.read_bytes().split(b"ElementDataFile" if suffix == ".mha" else b"\n\n", 1)
    named = line.format(other).encode()
    path.write_bytes(header + (b"" if suffix == ".mha" else b"\n") + named + b"\n\n" + rest)
    with pytest.raises(FormatError, match="must have its values in one file beside it, got"):
        open_scan(path)


@pytest.mark.parametrize(
    "line", ["elementdatafile = LOCAL", "Comment = ElementDataFile", "x ElementDataFile = LOCAL"]
)
def test_a_header_names_its_values_once(tmp_path, line):
    SimpleITK.WriteImage(image_of(VALUES), str(tmp_path / "a.mha"))
    content = (tmp_path / "a.mha").read_bytes()
    (tmp_path / "a.mha").write_bytes(line.encode() + b"\n" + content)
    with pytest.raises(FormatError, match="must say ElementDataFile once"):
        open_scan(tmp_path / "a.mha")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("DimSize", "7 8"),
        ("DimSize", "7 8 x"),
        ("DimSize", "7 8 0"),
        ("NDims", "9"),
        ("ElementType", "MET_STRING"),
        ("ElementType", None),
        ("NDims", None),
        ("CompressedDataSize", "all"),
    ],
)
def test_a_header_that_does_not_say_what_its_values_are_is_named(tmp_path, capfd, field, value):
    path = tmp_path / "a.mha"
    SimpleITK.WriteImage(image_of(VALUES), str(path), useCompression=True)
    changed = b"" if value is None else f"{field} = {value}\n".encode()
    path.write_bytes(re.sub(rb"%s = .*\n" % field.encode(), changed, path.read_bytes(), count=1))
    with pytest.raises(FormatError, match=r"a\.mha must be a readable volume with NDims, .*, got"):
        open_scan(path)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("suffix", [".nrrd", ".nhdr", ".mha", ".mhd"])
@pytest.mark.parametrize("content", [b"", b"text" * 99, b"NRRD0004\n\n", b"NDims = 3\n"])
def test_something_else_is_named(suffix, content, capfd):
    with pytest.raises(FormatError, match=rf"a\{suffix} must be a readable volume, got \w"):
        read_scan(f"a{suffix}", content)
    assert capfd.readouterr() == ("", "")


def test_a_packing_that_is_not_read_is_named(tmp_path):
    SimpleITK.WriteImage(image_of(VALUES), str(tmp_path / "a.nrrd"))
    header, values = (tmp_path / "a.nrrd").read_bytes().split(b"\n\n", 1)
    packed = header.replace(b"encoding: raw", b"encoding: bzip2") + b"\n\n" + bz2.compress(values)
    (tmp_path / "a.nrrd").write_bytes(packed)
    with pytest.raises(FormatError, match=r"a\.nrrd must be a readable volume, got .*bzip2"):
        open_scan(tmp_path / "a.nrrd")


def test_values_in_another_file_cannot_be_sent(tmp_path):
    SimpleITK.WriteImage(image_of(VALUES), str(tmp_path / "a.mhd"))
    with pytest.raises(FormatError, match=r"a.mhd must come with a.raw, which cannot be sent"):
        read_scan("a.mhd", (tmp_path / "a.mhd").read_bytes())


def test_what_does_not_fit_is_refused_before_it_is_read(tmp_path, monkeypatch):
    SimpleITK.WriteImage(image_of(VALUES), str(tmp_path / "a.mha"))
    monkeypatch.setattr("qmedsam.formats.scan.largest_array_bytes", lambda: 400)
    monkeypatch.setattr(SimpleITK.ImageFileReader, "Execute", None)
    with pytest.raises(FormatError, match=r"must hold 100 values at most .* got 280"):
        open_scan(tmp_path / "a.mha")


@pytest.mark.parametrize("volume", [None, 1])
def test_complex_values_are_refused_where_the_file_says_so(tmp_path, volume):
    """MetaImage does not: it has two channels."""
    for suffix in (".nrrd", ".mha"):
        SimpleITK.WriteImage(image_of(VALUES + 7j), str(tmp_path / f"a{suffix}"))
    with pytest.raises(
        FormatError, match=r"a\.nrrd must hold integers or floats, got complex of 64"
    ):
        open_scan(tmp_path / "a.nrrd", volume=volume)
    assert open_scan(tmp_path / "a.mha", volume=2).values.tolist() == np.full((5, 8, 7), 7).tolist()


@pytest.mark.parametrize(
    ("suffix", "place", "other"),
    [
        (".mha", b"TransformMatrix = 1 0 0 0 1 0", b"TransformMatrix = 1 0 0 1 0 0"),
        (".mha", b"TransformMatrix = 1 0 0 0 1 0", b"TransformMatrix = 1 0 0 0 0 0"),
        (".nrrd", b"(0,3,0)", b"(2,0,0)"),
        (".nrrd", b"(0,3,0)", b"(0,0,0)"),
    ],
)
def test_directions_that_say_no_place_are_refused(tmp_path, suffix, place, other):
    path = tmp_path / f"a{suffix}"
    SimpleITK.WriteImage(image_of(VALUES), str(path))
    assert place in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(place, other))
    with pytest.raises(
        FormatError, match=rf"a\{suffix} must be a readable volume, got one that is"
    ):
        open_scan(path)


def test_nothing_is_left_of_files_that_were_read(tmp_path, monkeypatch):
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    for has_memory_files in (True, False):
        if not has_memory_files:
            monkeypatch.delattr("os.memfd_create", raising=False)
        SimpleITK.WriteImage(image_of(VALUES), str(tmp_path / "a.mha"))
        scan = open_scan(tmp_path / "a.mha")
        write_labels(scan, np.zeros(scan.label_shape, np.uint8), tmp_path / "b.mha")
        assert not any((tmp_path / "tmp").iterdir())


@pytest.mark.parametrize("output", [".nrrd", ".mha", ".nii"])
@pytest.mark.parametrize(
    ("suffix", "unit", "in_mm"),
    [
        (".nrrd", "um", 1e-3),
        (".nrrd", "m", 1e3),
        (".nrrd", "mm", 1),
        (".nrrd", "furlong", 1),
        (".mha", "um", 1e-3),
        (".mha", "cm", 10),
        (".mha", "?", 1),
    ],
)
def test_places_are_in_millimetres_whatever_the_units_of_the_file(
    tmp_path, suffix, unit, in_mm, output
):
    image = SimpleITK.GetImageFromArray(np.ones((4, 5, 6), np.uint8))
    image.SetSpacing([1 / in_mm, 2 / in_mm, 3 / in_mm])
    image.SetOrigin([7 / in_mm, 8 / in_mm, 9 / in_mm])
    path = tmp_path / f"a{suffix}"
    SimpleITK.WriteImage(image, str(path))
    plain = path.read_bytes()
    said = {
        ".nrrd": (b"kinds:", b'space units: "%s" "%s" "%s"\nkinds:' % ((unit.encode(),) * 3)),
        ".mha": (b"ElementSpacing", b"DistanceUnits = %s\nElementSpacing" % unit.encode()),
    }
    path.write_bytes(plain.replace(*said[suffix]))
    scan = open_scan(path)
    assert scan.spacing == pytest.approx((1, 2, 3))
    assert scan.affine[:3, 3] == pytest.approx((7, 8, 9))
    label_map = np.zeros(scan.label_shape, np.uint8)
    label_map[1, 2:4, 3] = 1
    write_labels(scan, label_map, tmp_path / f"labels{output}")
    again = open_scan(tmp_path / f"labels{output}")
    np.testing.assert_allclose(again.affine @ again.own_axes, scan.affine @ scan.own_axes)
    found = read_labels(tmp_path / f"labels{output}", scan).label_map
    np.testing.assert_array_equal(found, label_map)
    if output == suffix:  # as viewers that know no units lay one over the other
        assert SimpleITK.ReadImage(str(tmp_path / f"labels{output}")).GetSpacing() == pytest.approx(
            image.GetSpacing()
        )


def test_a_slice_has_a_unit_too(tmp_path):
    image = SimpleITK.GetImageFromArray(np.ones((5, 6), np.uint8))
    SimpleITK.WriteImage(image, str(tmp_path / "a.nrrd"))
    plain = (tmp_path / "a.nrrd").read_bytes()
    (tmp_path / "a.nrrd").write_bytes(
        plain.replace(b"kinds:", b'space units: "um" "um"\nkinds:', 1)
    )
    scan = open_scan(tmp_path / "a.nrrd")
    assert scan.spacing == pytest.approx((1e-3, 1e-3))
    write_labels(scan, np.ones(scan.label_shape, np.uint8), tmp_path / "labels.nrrd")
    assert open_scan(tmp_path / "labels.nrrd").spacing == pytest.approx((1e-3, 1e-3))
