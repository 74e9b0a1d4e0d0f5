"""Which format a file has, what may be chosen of it, and what is refused of a program."""

from __future__ import annotations

import gzip
import io

import nibabel
import numpy as np
import pytest
import SimpleITK
from PIL import Image

from qmedsam.formats.dispatch import open_scan, read_scan
from qmedsam.formats.intensity import IntensityWindow, WindowError
from qmedsam.formats.scan import FormatError
from qmedsam.formats.writing import encode_labels, write_labels
from tests.qmedsam.formats.conftest import series

VALUES = np.random.default_rng(0).integers(1, 900, (9, 8, 7)).astype(np.int16)


@pytest.fixture
def nifti(tmp_path):
    nibabel.save(nibabel.Nifti1Image(VALUES, np.diag([-1.0, -1, 2, 1])), tmp_path / "scan.nii")
    return tmp_path / "scan.nii"


@pytest.fixture
def picture(tmp_path):
    Image.fromarray(VALUES[..., 0].astype(np.uint8)).save(tmp_path / "image.png")
    return tmp_path / "image.png"


@pytest.fixture
def case(tmp_path):
    np.savez(tmp_path / "case.npz", imgs=np.zeros((5, 6), np.uint8), boxes=np.zeros((0, 4)))
    return tmp_path / "case.npz"


@pytest.fixture
def nrrd(tmp_path):
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(VALUES), str(tmp_path / "scan.nrrd"))
    return tmp_path / "scan.nrrd"


@pytest.fixture
def metaimage(tmp_path):
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(VALUES), str(tmp_path / "scan.mha"))
    return tmp_path / "scan.mha"


@pytest.fixture
def wide_picture(tmp_path):
    Image.fromarray(VALUES[..., 0].astype(np.uint16)).save(tmp_path / "wide.png")
    return tmp_path / "wide.png"


@pytest.fixture
def stack(tmp_path):
    (tmp_path / "stack").mkdir()
    for z in range(3):
        Image.fromarray(VALUES[..., z].astype(np.uint8)).save(tmp_path / "stack" / f"{z}.png")
    return tmp_path / "stack"


@pytest.fixture
def ct(tmp_path):
    return series(tmp_path / "ct")


@pytest.mark.parametrize(
    ("name", "window"),
    [
        ("nifti", "percentiles"),
        ("nrrd", "percentiles"),
        ("metaimage", "percentiles"),
        ("ct", "soft-tissue"),
        ("picture", "as-it-is"),
        ("stack", "as-it-is"),
        ("wide_picture", "percentiles"),
        ("case", "as-it-is"),
    ],
)
def test_without_a_window_there_is_one_of_the_format(request, name, window):
    assert open_scan(request.getfixturevalue(name)).window == window


@pytest.mark.parametrize("name", ["nifti", "nrrd", "metaimage", "ct", "picture", "stack", "case"])
def test_labels_of_any_format_may_be_those_of_a_case(request, tmp_path, name):
    scan = open_scan(request.getfixturevalue(name))
    label_map = (np.indices(scan.label_shape).sum(axis=0) % 3).astype(np.uint8)
    write_labels(scan, label_map, tmp_path / "labels.npz")
    np.testing.assert_array_equal(np.load(tmp_path / "labels.npz")["segs"], label_map)


@pytest.mark.parametrize(
    "name",
    ["a.png", "a.JPG", "a.jpeg", "a.tif", "a.tiff", "a.bmp", "a.gif", "a.webp", "a.jp2", "a.j2k"],
)
def test_pictures_are_known_by_the_ends_of_their_names(tmp_path, name):
    Image.fromarray(VALUES[..., 0].astype(np.uint8)).save(tmp_path / name)
    scan = open_scan(tmp_path / name)
    assert (scan.is_volume, scan.label_shape, scan.box_columns) == (False, (9, 8), (4,))


@pytest.mark.parametrize("window", ["lungs", "40,400", "", (40, 400), [], 0, False])
@pytest.mark.parametrize("name", ["nifti", "picture", "case"])
def test_a_window_that_is_none_is_refused(request, name, window):
    path = request.getfixturevalue(name)
    named = rf"{path.name}: Window must be one of soft-tissue, .* got "
    with pytest.raises(WindowError, match=named):
        open_scan(path, window)
    with pytest.raises(WindowError, match="Window must be one of"):
        open_scan(path).set_window(window)


def test_a_window_of_the_file_is_one_of_dicom(nifti):
    with pytest.raises(WindowError, match=r"scan\.nii: Only DICOM"):
        open_scan(nifti, "file")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.int8, np.int64, np.float64])
def test_boxes_of_any_number_type_do_not_wrap_round(nifti, picture, dtype):
    """The file's x and y run to the left and back, as those of the pixels; z as it does."""
    flipped = nibabel.Nifti1Image(VALUES, np.eye(4)).to_bytes()
    box = np.array([[4, 5, 2, 7, 6, 3]], dtype)
    assert open_scan(nifti).boxes_to_pixels(box).tolist() == [[4, 5, 2, 7, 6, 3]]
    seen = read_scan("a.nii", flipped).boxes_to_pixels(box)
    assert seen.tolist() == [[1, 1, 2, 4, 2, 3]]
    assert open_scan(picture).boxes_to_pixels(box[:, :4]).tolist() == [[4, 5, 2, 7]]


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        ([[1, 2, 3, 4]], r"must have shape \(N, 6\) for this file, got \(1, 4\)"),
        ([["a"] * 6], "must be integers or floats, got <U1"),
        ([[1, 2], [3]], "must be rows of equal length, got lengths 1, 2"),
        ([[[1] * 6]], r"must have shape \(N, 6\) for this file, got \(1, 1, 6\)"),
        ([[True] * 6], "must be integers or floats, got bool"),
    ],
)
def test_boxes_of_another_shape_are_refused(nifti, boxes, message):
    with pytest.raises(FormatError, match=f"Boxes {message}"):
        open_scan(nifti).boxes_to_pixels(boxes)


def test_no_boxes_are_none(nifti, picture):
    assert open_scan(nifti).boxes_to_pixels([]).shape == (0, 6)
    assert open_scan(picture).boxes_to_pixels(np.zeros((0, 4))).shape == (0, 4)


@pytest.mark.parametrize("output", ["labels.nii", "labels.npz"])
def test_a_label_map_of_another_shape_is_refused(tmp_path, nifti, output):
    scan = open_scan(nifti)
    assert scan.label_shape == (7, 8, 9)
    for shape in ((9, 8, 7), (8, 9), (1, 7, 8, 9), ()):
        with pytest.raises(FormatError, match=r"the image's shape \(7, 8, 9\), got "):
            write_labels(scan, np.zeros(shape, np.uint8), tmp_path / output)
    assert not (tmp_path / output).exists()


def test_labels_may_be_any_integers_that_fit(picture):
    scan = open_scan(picture)
    for dtype, label, expected in (
        (bool, 1, np.uint8),
        (np.int64, 200, np.uint8),
        (np.int32, 300, np.uint16),
        (np.uint16, 1, np.uint16),
    ):
        label_map = np.full(scan.label_shape, label, dtype)
        content = encode_labels(scan, label_map, name="a.png", notes=scan.notes_of(()))
        read = np.asarray(Image.open(io.BytesIO(content)))
        assert (read.dtype, read.max()) == (expected, label)


@pytest.mark.parametrize(
    ("label", "dtype", "message"),
    [
        (0.5, np.float32, "must have integers, got float32"),
        (-1, np.int8, "must be 0 to 65535, got -1"),
        (70_000, np.int32, "must be 0 to 65535, got 0 to 70000"),
    ],
)
def test_labels_that_are_none_are_refused(picture, label, dtype, message):
    scan = open_scan(picture)
    with pytest.raises(FormatError, match=message):
        encode_labels(
            scan, np.full(scan.label_shape, label, dtype), name="a.png", notes=scan.notes_of(())
        )


def test_paths_may_be_text_and_nothing_else(tmp_path, picture):
    scan = open_scan(str(picture))
    write_labels(scan, np.zeros(scan.label_shape, np.uint8), str(tmp_path / "a" / "labels.png"))
    assert (tmp_path / "a" / "labels.png").exists()
    for wrong in (b"image.png", 3, None, io.BytesIO()):
        with pytest.raises(TypeError, match=r"Path must be a str or pathlib.Path, got \w+"):
            open_scan(wrong)
        with pytest.raises(TypeError, match=r"Path must be a str or pathlib.Path, got \w+"):
            write_labels(scan, np.zeros(scan.label_shape, np.uint8), wrong)


@pytest.mark.parametrize("name", ["picture", "stack", "case", "nifti", "nrrd"])
@pytest.mark.parametrize(("what", "chosen"), [("plane", "coronal"), ("volume", 1), ("series", "1")])
def test_what_there_is_no_choice_of_cannot_be_chosen(request, name, what, chosen):
    path = request.getfixturevalue(name)
    if name in ("nifti", "nrrd") and what != "series":
        assert open_scan(path, **{what: chosen}).is_volume
        return
    with pytest.raises(FormatError, match=rf"A {what} can be chosen of .* alone, not of "):
        open_scan(path, **{what: chosen})


def test_slices_of_dicom_stay_as_they_are(tmp_path):
    folder = series(tmp_path / "ct")
    with pytest.raises(FormatError, match="can be chosen of NIfTI, NRRD and MetaImage alone"):
        open_scan(folder, plane="axial")


def test_dicom_beside_pictures_is_what_is_read(tmp_path, picture):
    folder = series(tmp_path / "ct")
    picture.rename(folder / "preview.png")
    scan = open_scan(folder)
    assert scan.label_shape == (6, 128, 128)
    said = "There is DICOM, which is read; pictures are left out: preview.png."
    assert scan.remarks[0] == said


@pytest.mark.parametrize("is_packed", [False, True], ids=["plain", "packed"])
def test_dicom_below_pictures_is_what_is_read(tmp_path, picture, is_packed):
    folder = tmp_path / "study"
    folder.mkdir()
    series(folder / "series1")
    for path in sorted(folder.rglob("*.dcm") if is_packed else ()):
        path.with_suffix(".dcm.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    for name in ("thumb1.png", "thumb2.png"):
        (folder / name).write_bytes(picture.read_bytes())
    scan = open_scan(folder)
    assert scan.label_shape == (6, 128, 128)
    said = "There is DICOM, which is read; pictures are left out: thumb1.png and 1 more."
    assert scan.remarks[0] == said


def test_what_may_be_dicom_beside_pictures_and_cannot_be_opened_is_named(tmp_path, picture):
    folder = tmp_path / "study"
    (folder / "series1").mkdir(parents=True)
    picture.rename(folder / "thumb.png")
    (folder / "series1" / "IM0000").symlink_to(tmp_path / "unfetched")
    with pytest.raises(FormatError, match=r"study cannot be read: .*series1/IM0000"):
        open_scan(folder)
    (folder / "series1" / "IM0000").rename(folder / "series1" / "IM0000.dcm")
    with pytest.raises(FormatError, match=r"series1/IM0000\.dcm cannot be read"):
        open_scan(folder)


def test_a_message_of_several_lines_becomes_one():
    assert str(FormatError("a\n  b\r\n\n c\n")) == "a b c"


def test_level_and_width_are_a_window(nifti):
    assert open_scan(nifti, IntensityWindow(40, 400)).described_window == "window L 40 W 400"
