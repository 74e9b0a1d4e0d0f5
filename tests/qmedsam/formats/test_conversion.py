"""Labels that are there already as label maps of an image: on its grid, by their own numbers."""

from __future__ import annotations

import itertools
import struct
import zlib

import highdicom
import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK
import tifffile
from nibabel.orientations import axcodes2ornt, ornt_transform
from PIL import Image
from pydicom.sr.codedict import codes

from qmedsam.formats.conversion import read_labels
from qmedsam.formats.dispatch import open_scan
from qmedsam.formats.label_boxes import read_label_boxes
from qmedsam.formats.label_notes import LabelNotes
from qmedsam.formats.scan import FormatError
from qmedsam.formats.statistics import statistics_of
from qmedsam.formats.writing import write_labels
from tests.qmedsam.formats.conftest import OF_ANOTHER_PROGRAM
from tests.qmedsam.formats.dicom.conftest import HW, ct_slice, save, write_series

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of what pydicom plans

SHAPE = (7, 6, 5)  # to the right, front and top
AFFINE = np.array([[1.0, 0, 0, -30], [0, 2, 0, 12], [0, 0, 4, 5], [0, 0, 0, 1]])
LABELS = np.random.default_rng(0).choice([0, 0, 3, 7, 300], SHAPE).astype(np.int16)
EVERY_ORIENTATION = [
    "".join(signs)
    for axes in itertools.permutations(("RL", "AP", "IS"))
    for signs in itertools.product(*axes)
]


def stored_as(codes: str, values: np.ndarray = LABELS) -> nibabel.Nifti1Image:
    """Return a file of values (right, front, up) whose axes run as the codes say."""
    turn = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(tuple(codes)))
    return nibabel.Nifti1Image(values, AFFINE).as_reoriented(turn)


@pytest.fixture
def volume(tmp_path):
    nibabel.save(stored_as("RAS", np.ones(SHAPE, np.int16)), tmp_path / "image.nii")
    return open_scan(tmp_path / "image.nii")


@pytest.mark.parametrize("codes", EVERY_ORIENTATION)
@pytest.mark.parametrize("own", ["RAS", "PIL"])
def test_labels_on_the_grid_come_in_any_order_and_direction_of_axes(tmp_path, own, codes):
    nibabel.save(stored_as(own, np.ones(SHAPE, np.int16)), tmp_path / "image.nii")
    nibabel.save(stored_as(codes), tmp_path / "labels.nii")
    scan = open_scan(tmp_path / "image.nii")
    found = read_labels(tmp_path / "labels.nii", scan)
    write_labels(scan, found.label_map, tmp_path / "written.nii")
    written = np.asarray(nibabel.load(tmp_path / "written.nii").dataobj)
    np.testing.assert_array_equal(written, np.asarray(stored_as(own).dataobj))
    assert (found.names, found.remarks) == ((), ())


@pytest.mark.parametrize("name", ["labels.nrrd", "labels.mha", "labels.nii.gz"])
def test_every_format_of_volumes_has_labels(tmp_path, volume, name):
    nibabel.save(stored_as("LPS"), tmp_path / "plain.nii")
    SimpleITK.WriteImage(SimpleITK.ReadImage(str(tmp_path / "plain.nii")), str(tmp_path / name))
    expected = LABELS[::-1, ::-1].T  # slices, rows to the back, columns to the left
    np.testing.assert_array_equal(read_labels(tmp_path / name, volume).label_map, expected)


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.tiff", "a.bmp", "a.gif"])
def test_every_format_of_pictures_that_keeps_values_has_labels(tmp_path, name):
    Image.new("RGB", (8, 6)).save(tmp_path / "image.png")
    labels = np.zeros((6, 8), np.uint8)
    labels[1:3, 2:5], labels[4, 6] = 3, 7
    Image.fromarray(labels).save(tmp_path / name)
    found = read_labels(tmp_path / name, open_scan(tmp_path / "image.png"))
    np.testing.assert_array_equal(found.label_map, labels)


@pytest.mark.parametrize(
    ("values", "affine"),
    [
        (LABELS, AFFINE + 0.5 * np.eye(4, k=3)),
        (np.kron(LABELS, np.ones((2, 1, 1), np.int16)), AFFINE @ np.diag([0.5, 1, 1, 1])),
        (LABELS, AFFINE @ np.diag([1.1, 1, 1, 1])),
    ],
    ids=["half-a-voxel-aside", "twice-as-fine", "another-side"],
)
def test_labels_on_another_grid_are_refused(tmp_path, volume, values, affine):
    nibabel.save(nibabel.Nifti1Image(values, affine), tmp_path / "a.nii")
    with pytest.raises(FormatError, match=r"a\.nii must have labels on the grid of the image, got"):
        read_labels(tmp_path / "a.nii", volume)


@pytest.mark.parametrize("codes", ["RAS", "PIL", "LSA"])
def test_a_part_of_the_grid_and_more_than_it_will_do(tmp_path, volume, codes):
    whole = read_back(tmp_path, stored_as("RAS"), volume)
    part = stored_as("RAS").slicer[2:5, 1:, 3:]
    turn = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(tuple(codes)))
    found = read_back(tmp_path, part.as_reoriented(turn), volume)
    expected = np.zeros_like(whole.label_map)
    is_part = np.zeros(SHAPE, bool)
    is_part[2:5, 1:, 3:] = True
    is_part = is_part[::-1, ::-1].T  # slices, rows to the back, columns to the left
    expected[is_part] = whole.label_map[is_part]
    np.testing.assert_array_equal(found.label_map, expected)
    assert found.remarks == ()
    padded = nibabel.Nifti1Image(np.pad(LABELS, 2), AFFINE @ shifted_by(-2, -2, -2))
    again = read_back(tmp_path, padded.as_reoriented(turn), volume)
    np.testing.assert_array_equal(again.label_map, whole.label_map)
    assert again.remarks == ()
    beside = nibabel.Nifti1Image(LABELS, AFFINE @ shifted_by(3, 0, 0))
    assert read_back(tmp_path, beside, volume).remarks == ("Labels beside the image are left out.",)


def read_back(folder, image, scan):
    nibabel.save(image, folder / "part.nii")
    return read_labels(folder / "part.nii", scan)


def shifted_by(*voxels):
    found = np.eye(4)
    found[:3, 3] = voxels
    return found


@pytest.mark.parametrize("is_finer", [False, True])
def test_a_seg_on_another_grid_than_the_slices_it_refers_to_lies_where_it_says(tmp_path, is_finer):
    folder = write_series(tmp_path / "ct", 3)
    scan = open_scan(folder)
    label_map = np.zeros(scan.label_shape, np.uint8)
    label_map[0, 1:4, 2:7], label_map[2, 6, 1] = 1, 1
    sources = [pydicom.dcmread(path) for path in sorted(folder.iterdir())]
    far = np.array([(HW[1] - 1) * 0.5, (HW[0] - 1) * 0.7, 0])  # the last pixel of a slice
    if is_finer:
        pixels, spacing, shift = (
            np.kron(label_map, np.ones((1, 2, 2), np.uint8)),
            0.5,
            [-0.125, -0.175, 0],
        )
        orientation = [1, 0, 0, 0, 1, 0]
    else:
        pixels, spacing, shift = label_map[:, ::-1, ::-1], 1, far
        orientation = [-1, 0, 0, 0, -1, 0]
    written = highdicom.seg.Segmentation(
        source_images=sources,
        pixel_array=pixels,
        segmentation_type="BINARY",
        segment_descriptions=[
            highdicom.seg.SegmentDescription(
                1, "liver", codes.SCT.Organ, codes.SCT.Liver, algorithm_type="MANUAL"
            )
        ],
        pixel_measures=highdicom.PixelMeasuresSequence([0.7 * spacing, 0.5 * spacing], 2.5, 2.0),
        plane_orientation=highdicom.PlaneOrientationSequence("PATIENT", orientation),
        plane_positions=[
            highdicom.PlanePositionSequence(
                "PATIENT", np.array(source.ImagePositionPatient, float) + shift
            )
            for source in sources
        ],
        **OF_ANOTHER_PROGRAM,
    )
    written.save_as(tmp_path / "a.dcm")
    boxes, _ = read_label_boxes(tmp_path / "a.dcm", scan)
    assert [box.corners for box in boxes] == [(1, 1, 0, 6, 6, 2)]
    if is_finer:
        with pytest.raises(FormatError, match="must have labels on the grid of the image"):
            read_labels(tmp_path / "a.dcm", scan)
    else:
        found = read_labels(tmp_path / "a.dcm", scan)
        np.testing.assert_array_equal(found.label_map, label_map)


def test_a_seg_of_a_part_of_the_slices_lies_on_the_volume_made_of_them(tmp_path):
    scan = open_scan(write_series(tmp_path / "ct", 5))
    label_map = np.zeros(scan.label_shape, np.uint8)
    label_map[2:4, 1:4, 2:7] = 1
    write_labels(scan, label_map, tmp_path / "a.dcm")
    write_labels(scan, label_map, tmp_path / "image.nii")
    volume = open_scan(tmp_path / "image.nii")
    np.testing.assert_array_equal(read_labels(tmp_path / "a.dcm", volume).label_map, label_map)


def test_a_seg_that_spans_more_than_memory_is_refused_before_it_is_drawn(tmp_path):
    scan = open_scan(write_series(tmp_path / "ct", 3))
    write_labels(scan, np.ones(scan.label_shape, np.uint8), tmp_path / "a.dcm")
    written = pydicom.dcmread(tmp_path / "a.dcm")
    last = written.PerFrameFunctionalGroupsSequence[-1].PlanePositionSequence[0]
    last.ImagePositionPatient = [1, 2, 2e9]
    written.save_as(tmp_path / "a.dcm")
    nibabel.save(stored_as("RAS"), tmp_path / "image.nii")
    with pytest.raises(FormatError, match=r"a\.dcm must hold \d+ values at most for this memory"):
        read_labels(tmp_path / "a.dcm", open_scan(tmp_path / "image.nii"))


@pytest.mark.parametrize("name", ["a.nii", "a.dcm"])
def test_one_slice_has_the_labels_that_cover_it(tmp_path, name):
    folder = write_series(tmp_path / "ct", 4)
    volume = open_scan(folder)
    label_map = np.zeros(volume.label_shape, np.uint8)
    label_map[1, 1:4, 2:7], label_map[3, 5:8, 1] = 1, 2
    write_labels(volume, label_map, tmp_path / name, notes=LabelNotes("", ("a", "b")))
    first, second = (open_scan(folder / f"IM000{number}.dcm") for number in (0, 1))
    with pytest.raises(FormatError, match="of which there are none in it on this slice"):
        read_label_boxes(tmp_path / name, first)
    boxes, _ = read_label_boxes(tmp_path / name, second)
    assert [box.corners for box in boxes] == [(2, 1, 6, 3)]
    if name == "a.nii":  # whose slices are as thick as they are apart
        found = read_labels(tmp_path / name, second)
        np.testing.assert_array_equal(found.label_map, label_map[1])
        assert found.remarks == ("Labels beside the image are left out.",)


def test_labels_with_places_are_refused_where_slices_lie_on_no_grid(tmp_path):
    folder = write_series(tmp_path / "ct", 3)
    write_labels(open_scan(folder), np.ones((3, *HW), np.uint8), tmp_path / "a.nii")
    save(ct_slice(2, ImagePositionPatient=[1, 2, 9]), folder / "IM0002.dcm")
    for read in (read_labels, read_label_boxes):
        with pytest.raises(FormatError, match=r"a\.nii must be a label map without places, a DICO"):
            read(tmp_path / "a.nii", open_scan(folder))


@pytest.mark.parametrize("kind", ["rtstruct", "seg"])
def test_other_coordinates_of_a_patient_are_told_of(tmp_path, kind):
    scan = open_scan(write_series(tmp_path / "ct", 3))
    write_labels(scan, np.ones(scan.label_shape, np.uint8), tmp_path / "a.dcm", kind=kind)
    assert read_labels(tmp_path / "a.dcm", scan).remarks == ()
    other = write_series(
        tmp_path / "other", 3, lambda _, each: setattr(each, "FrameOfReferenceUID", "1.2.9")
    )
    (remark,) = read_labels(tmp_path / "a.dcm", open_scan(other)).remarks
    assert remark.startswith("It has another FrameOfReferenceUID than the image")


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_labels_of_few_bits_are_their_numbers(tmp_path, bits):
    labels = np.random.default_rng(0).integers(0, 1 << bits, (6, 8), np.uint8)
    Image.new("RGB", (8, 6)).save(tmp_path / "image.png")
    write_png(tmp_path / "a.png", labels, bits)
    scan = open_scan(tmp_path / "image.png")
    np.testing.assert_array_equal(read_labels(tmp_path / "a.png", scan).label_map, labels)
    tifffile.imwrite(tmp_path / "a.tif", labels, photometric="miniswhite")
    np.testing.assert_array_equal(read_labels(tmp_path / "a.tif", scan).label_map, labels)


def write_png(path, values, bits):
    """Write grey of 1, 2 or 4 bits."""
    rows = [
        b"\0" + np.packbits(np.unpackbits(row[:, None], axis=1)[:, -bits:]).tobytes()
        for row in values
    ]
    height, width = values.shape
    chunks = {
        b"IHDR": struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0),
        b"IDAT": zlib.compress(b"".join(rows)),
        b"IEND": b"",
    }
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
            for kind, body in chunks.items()
        )
    )


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.gif", "a.tif"])
def test_the_labels_of_a_palette_are_its_indices(tmp_path, name):
    labels = np.random.default_rng(0).integers(0, 9, (6, 8), np.uint8)
    picture = Image.fromarray(labels, "P")
    picture.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0, 9, 9, 200] + [200, 100, 7] * 252)
    picture.save(tmp_path / name)
    Image.new("RGB", (8, 6)).save(tmp_path / "image.png")
    found = read_labels(tmp_path / name, open_scan(tmp_path / "image.png"))
    np.testing.assert_array_equal(found.label_map, labels)


def test_a_tiff_stack_holds_labels_of_a_folder_of_pictures(tmp_path):
    (tmp_path / "slices").mkdir()
    for number in range(3):
        Image.new("L", (8, 6), number).save(tmp_path / "slices" / f"{number}.png")
    scan = open_scan(tmp_path / "slices")
    labels = np.random.default_rng(0).integers(0, 4, (3, 6, 8), np.uint8)
    write_labels(scan, labels, tmp_path / "a.tif")
    np.testing.assert_array_equal(read_labels(tmp_path / "a.tif", scan).label_map, labels)
    tifffile.imwrite(tmp_path / "pages.tif", labels, photometric="minisblack", metadata=None)
    np.testing.assert_array_equal(read_labels(tmp_path / "pages.tif", scan).label_map, labels)


def test_labels_of_several_volumes_are_refused(tmp_path, volume):
    nibabel.save(nibabel.Nifti1Image(np.ones((*SHAPE, 2), np.uint8), AFFINE), tmp_path / "a.nii")
    with pytest.raises(FormatError, match=r"a\.nii must hold one volume of labels, got several"):
        read_labels(tmp_path / "a.nii", volume)


@pytest.mark.parametrize("value", [-1, 0.5, 70_000, np.nan])
def test_what_is_no_label_is_refused(tmp_path, volume, value):
    nibabel.save(stored_as("RAS", np.full(SHAPE, value, np.float32)), tmp_path / "a.nii")
    message = rf"a\.nii must have labels, whole from 0 to 65535, got {value:g}"
    with pytest.raises(FormatError, match=message):
        read_labels(tmp_path / "a.nii", volume)


def test_segments_keep_their_numbers_and_names(tmp_path):
    scan = open_scan(write_series(tmp_path / "ct", 3))
    label_map = np.zeros(scan.label_shape, np.uint8)
    label_map[1:, 2:4, 3], label_map[0, 5, 5] = 3, 1
    notes = LabelNotes("window lung", ("nail", "", "liver"))
    write_labels(scan, label_map, tmp_path / "a.dcm", notes=notes)
    found = read_labels(tmp_path / "a.dcm", scan)
    np.testing.assert_array_equal(found.label_map, label_map)
    assert found.names == ("nail", "Object 2", "liver")


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha", ".npz", ".dcm"])
@pytest.mark.parametrize("kind", ["seg", "rtstruct"])
def test_names_and_window_stay_with_labels_that_are_turned_into_another_format(
    tmp_path, suffix, kind
):
    if suffix == ".dcm":
        scan = open_scan(write_series(tmp_path / "ct", 3))
    elif kind == "rtstruct":
        pytest.skip("an RTSTRUCT ends in .dcm")
    else:
        nibabel.save(stored_as("RAS"), tmp_path / "image.nii")
        image = SimpleITK.ReadImage(str(tmp_path / "image.nii"))
        name = f"image{suffix}" if suffix in (".nrrd", ".mha") else "image.nii"
        SimpleITK.WriteImage(image, str(tmp_path / name))
        scan = open_scan(tmp_path / name)
    label_map = np.zeros(scan.label_shape, np.uint8)
    label_map[0, 1:3, 2:4], label_map[1, 1, 1] = 1, 2
    notes = LabelNotes("window lung", ("k\u00f6rper", "nail"))
    write_labels(scan, label_map, tmp_path / f"a{suffix}", notes=notes, kind=kind)
    found = read_labels(tmp_path / f"a{suffix}", scan)
    assert (found.names, found.window) == (notes.names, notes.window)


def test_names_and_window_stay_with_labels_of_pictures(tmp_path):
    Image.new("RGB", (8, 6)).save(tmp_path / "image.png")
    (tmp_path / "slices").mkdir()
    for number in range(3):
        Image.new("L", (8, 6), number).save(tmp_path / "slices" / f"{number}.png")
    for image, name in (("image.png", "a.png"), ("slices", "a.tif")):
        scan = open_scan(tmp_path / image)
        label_map = np.zeros(scan.label_shape, np.uint8)
        label_map[..., 1, 1] = 1
        write_labels(scan, label_map, tmp_path / name, notes=LabelNotes("as it is", ("disc",)))
        found = read_labels(tmp_path / name, scan)
        assert (found.names, found.window) == (("disc",), "as it is")
        boxes, _ = read_label_boxes(tmp_path / name, scan)
        assert [box.name for box in boxes] == ["disc"]


def test_labels_that_all_lie_beside_the_image_are_refused(tmp_path, volume):
    far = nibabel.Nifti1Image(LABELS, AFFINE @ shifted_by(70, 0, 0))
    with pytest.raises(FormatError, match=r"part\.nii must have labels on the image, got all of"):
        read_back(tmp_path, far, volume)


def test_a_nifti_file_without_places_goes_with_labels_by_the_order_of_voxels(tmp_path, volume):
    image = nibabel.Nifti1Image(np.ones(SHAPE, np.int16), None)
    image.header["pixdim"][1:4] = 1, 2, 4
    nibabel.save(image, tmp_path / "a.nii")
    assert not nibabel.load(tmp_path / "a.nii").header["sform_code"]
    scan = open_scan(tmp_path / "a.nii")
    assert scan.remarks[0].startswith("It does not say where it lies")
    assert scan.spacing == pytest.approx((1, 2, 4))
    write_labels(scan, scan.pixels, tmp_path / "b.nii")
    np.testing.assert_array_equal(read_labels(tmp_path / "b.nii", scan).label_map, scan.pixels)
    (found,) = statistics_of(scan, (scan.values > 0).astype(np.uint8), notes=LabelNotes(""))
    assert (found.volume_mm3, found.centre_mm) == (pytest.approx(7 * 6 * 5 * 8), None)
    nibabel.save(stored_as("RAS"), tmp_path / "labels.nii")  # which says where, to no avail
    boxes, _ = read_label_boxes(tmp_path / "labels.nii", scan)
    assert len(boxes) == 3
    assert read_labels(tmp_path / "labels.nii", scan).label_map.shape == scan.label_shape
