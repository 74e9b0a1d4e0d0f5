"""Pictures, boxes from text, and the commands for single files."""

from __future__ import annotations

import json
import sys

import cv2
import nibabel
import numpy as np
import pytest
from PIL import Image

from qmedsam import segmenter
from qmedsam.batch.cases import read_case
from qmedsam.cli import main
from qmedsam.formats.boxes import NamedBox, parse_box, read_boxes, stack_boxes
from qmedsam.formats.dispatch import open_scan
from qmedsam.formats.picture import PictureScan
from qmedsam.formats.scan import FormatError
from tests.conftest import EXAMPLES
from tests.qmedsam.test_cli import FakeCompiledNetwork

IMAGE = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
VOLUME = np.random.default_rng(1).integers(1, 1000, (40, 30, 8)).astype(np.int16)
AFFINE = np.diag([1.0, 1.0, 3.0, 1.0])  # right, front, up


@pytest.fixture(autouse=True)
def _fake_model(monkeypatch):
    monkeypatch.setattr(segmenter, "CompiledNetwork", FakeCompiledNetwork)
    monkeypatch.setenv("QMEDSAM_CACHE_DIR", "")


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "image.png"
    cv2.imwrite(str(path), IMAGE[..., ::-1])
    return path


@pytest.fixture
def nifti(tmp_path):
    path = tmp_path / "scan.nii.gz"
    nibabel.save(nibabel.Nifti1Image(VOLUME, AFFINE), path)
    return path


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


def test_boxes_are_read_from_text(tmp_path):
    assert parse_box("1,2,3.5,4") == NamedBox((1, 2, 3.5, 4))
    assert parse_box("left eye=1,2,3,4") == NamedBox((1, 2, 3, 4), "left eye")
    rows = [[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]]
    (tmp_path / "a.json").write_text(json.dumps(rows))
    (tmp_path / "b.json").write_text(json.dumps({"boxes": rows}))
    (tmp_path / "c.csv").write_text("x0,y0,x1,y1\n1,2,3,4\n\n5,6,7,8\n")
    for name in ("a.json", "b.json", "c.csv"):
        assert read_boxes(tmp_path / name) == [NamedBox(tuple(row)) for row in rows]


def test_boxes_may_be_named(tmp_path):
    named = [{"box": [1, 2, 3, 4], "name": "disc"}, {"box": [5, 6, 7, 8]}]
    (tmp_path / "a.json").write_text(json.dumps({"boxes": named}))
    (tmp_path / "b.csv").write_text("x0,y0,x1,y1,name\n1,2,3,4,disc\n5,6,7,8,\n")
    for name in ("a.json", "b.csv"):
        assert read_boxes(tmp_path / name) == [
            NamedBox((1.0, 2.0, 3.0, 4.0), "disc"),
            NamedBox((5.0, 6.0, 7.0, 8.0)),
        ]


def test_columns_of_a_table_are_read_by_their_names(tmp_path):
    (tmp_path / "a.csv").write_text("name;x_min;x_max;y_min;y_max\ndisc;1;3;2;4\n")
    (tmp_path / "b.csv").write_text("z0,z1,x0,y0,x1,y1\n5,6,1,2,3,4\n")
    assert read_boxes(tmp_path / "a.csv") == [NamedBox((1.0, 2.0, 3.0, 4.0), "disc")]
    assert read_boxes(tmp_path / "b.csv") == [NamedBox((1.0, 2.0, 5.0, 3.0, 4.0, 6.0))]


@pytest.mark.parametrize("text", ["", "1,2,3", "1,2,3,4,5", "a,b,c,d", "a=", "a=1,2,3"])
def test_other_text_is_no_box(text):
    with pytest.raises(FormatError, match="Box must be x0,y0,x1,y1"):
        parse_box(text)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", "[1, 2]", "list of boxes"),
        ("a.json", '{"box": []}', "list of boxes"),
        ("a.json", "{", "list of boxes"),
        ("a.json", '["1234"]', "list of boxes"),
        ("a.json", "[[true, 1, 2, 3]]", "list of boxes"),
        ("a.json", f"[[1, 2, 3, 1{'0' * 400}]]", "list of boxes"),
        ("a.json", "[" * 9999, "list of boxes"),
        ("a.csv", "1,2,3,4\n1,2,x,4\n", "line 2: must be numbers"),
        ("a.csv", "10,10,3O,40\n1,2,3,4\n", "line 1: must be numbers"),
        ("a.csv", "left,top,right,bottom\n1,2,3,4\n", "line 1: columns must be x0, y0, x1, y1"),
        ("a.csv", "x0,y0,x1,y1\n1,2,3\n", "line 2: must have 4 values"),
        ("a.csv", "1,2,3," + "4" * 200_000, "line 1: field larger"),
    ],
)
def test_broken_boxes_are_named(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(FormatError, match=message):
        read_boxes(tmp_path / name)
    with pytest.raises(FormatError, match=r"Boxes must have 6 coordinates .* got \[1, 2\]"):
        stack_boxes([NamedBox((1, 2))], 6)


def test_a_picture_is_segmented_by_one_command(tmp_path, picture):
    output, preview = tmp_path / "labels.png", tmp_path / "preview.png"
    boxes = ["--box", "5,5,40,30", "--box", "50,20,75,55"]
    words = ["segment", str(picture), *boxes, "-o", str(output), "--preview", str(preview)]
    assert main(words) == 0
    labels = cv2.imread(str(output), cv2.IMREAD_UNCHANGED)
    assert (labels.shape, labels.dtype) == ((60, 80), np.uint8)
    assert (labels[15, 20], labels[40, 60], labels[58, 2]) == (1, 2, 0)
    assert cv2.imread(str(preview)).shape == (512, 683, 3)


def test_how_labels_were_made_goes_with_them(tmp_path, picture):
    output = tmp_path / "labels.png"
    words = ["segment", str(picture), "--box", "left=5,5,40,30", "--box", "50,20,75,55"]
    for name in ("labels.png", "labels.npz"):
        assert main([*words, "--window", "100,200", "-o", str(tmp_path / name)]) == 0
    of_archive = np.load(tmp_path / "labels.npz")
    for info in (Image.open(output).text["Comment"], str(of_archive["info"])):
        assert json.loads(info)["window"] == "window L 100 W 200"
        assert json.loads(info)["labels"] == {"1": "left", "2": "Object 2"}
    labels = cv2.imread(str(output), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(labels, of_archive["segs"])


def test_a_corrected_box_is_named_as_it_was_written(tmp_path, nifti, caplog):
    words = ["segment", str(nifti), "--box", "3,4,1,20,25,99", "-o", str(tmp_path / "a.nii")]
    assert main(words) == 0
    assert "box 1 (3, 4, 1, 20, 25, 99)" in caplog.text


def test_a_volume_is_segmented_by_one_command(tmp_path, nifti):
    output = tmp_path / "labels.nii.gz"
    assert main(["segment", str(nifti), "--box", "3,4,1,20,25,6", "-o", str(output)]) == 0
    written = nibabel.load(output)
    labels = np.asarray(written.dataobj)
    assert labels.shape == VOLUME.shape
    np.testing.assert_array_equal(written.affine, AFFINE)
    places = np.argwhere(labels == 1)
    assert np.abs(places.min(0) - [3, 4, 1]).max() <= 1
    assert np.abs(places.max(0) - [20, 25, 6]).max() <= 1


def test_a_box_on_one_slice_is_followed_to_others(tmp_path, nifti):
    output = tmp_path / "labels.nii.gz"
    words = ["segment", str(nifti), "--box", "3,4,20,25", "--slice", "3", "--slices", "1,6"]
    assert main([*words, "-o", str(output)]) == 0
    labels = np.asarray(nibabel.load(output).dataobj)
    areas = (labels == 1).sum(axis=(0, 1))
    assert (areas > 0).tolist() == [False] + [True] * 6 + [False]
    assert areas.argmin() in (0, 7)
    assert areas[3] == areas[1:7].min()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--slice", "3"], "go together"),
        (["--slices", "3,4"], "go together"),
        (["--slice", "9", "--slices", "3,12"], "--slices must be from 0 to 7, got 12"),
        (["--slice", "9", "--slices", "1,6"], "Slice must be from 1 to 6, got 9"),
    ],
)
def test_a_slice_that_cannot_be_meant_is_refused(tmp_path, nifti, caplog, words, message):
    command = ["segment", str(nifti), "--box", "3,4,20,25", *words]
    assert main([*command, "-o", str(tmp_path / "a.nii")]) == 2
    assert message in caplog.text


def test_a_slice_across_the_axial_ones_is_refused(tmp_path, caplog):
    sagittal = nibabel.Nifti1Image(VOLUME, np.eye(4)[[2, 0, 1, 3]])
    nibabel.save(sagittal, tmp_path / "a.nii")
    words = ["segment", str(tmp_path / "a.nii"), "--box", "3,4,20,25"]
    assert main([*words, "--slice", "3", "--slices", "1,6", "-o", str(tmp_path / "b.nii")]) == 2
    assert "give boxes of six" in caplog.text


def test_an_image_becomes_a_case_and_its_labels_come_back(tmp_path, nifti):
    case, labels = tmp_path / "in" / "scan.npz", tmp_path / "labels.nii.gz"
    case.parent.mkdir()
    words = ["convert", str(nifti), "--box", "3,4,1,20,25,6", "--window", "500,1000"]
    assert main([*words, "-o", str(case)]) == 0
    converted = read_case(case)
    assert converted.pixels.shape == VOLUME.shape[::-1]
    assert converted.boxes.tolist() == [[19, 4, 1, 36, 25, 6]]  # x runs to the left
    assert "window L 500 W 1000" in str(np.load(case)["info"])
    assert main(["-i", str(case.parent), "-o", str(tmp_path / "out")]) == 0
    back = ["convert", str(nifti), "--labels", str(tmp_path / "out" / "scan.npz")]
    assert main([*back, "-o", str(labels)]) == 0
    direct = tmp_path / "direct.nii.gz"
    words = ["segment", str(nifti), "--box", "3,4,1,20,25,6", "--window", "500,1000"]
    assert main([*words, "-o", str(direct)]) == 0
    np.testing.assert_array_equal(nibabel.load(labels).dataobj, nibabel.load(direct).dataobj)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["segment", "IMAGE", "--box", "1,2,3,4", "-o", "a.nii.gz"], "must end in .png, .npz"),
        (["segment", "IMAGE", "--box", "1,2,0,3,4,0", "-o", "a.png"], "must have 4 coordinates"),
        (["segment", "IMAGE", "--box", "1,2,3,4", "--window", "x", "-o", "a.png"], "Window must"),
        (["segment", "none.png", "--box", "1,2,3,4", "-o", "a.png"], "none.png cannot be read"),
        (["convert", "IMAGE", "--labels", "none.npz", "-o", "a.png"], "regular file, got nothing"),
        (["convert", "IMAGE", "--box", "1,2,3,4", "-o", "a.png"], "must end in .npz"),
        (["segment", "IMAGE", "-o", "a.png"], "There must be a box"),
        (["segment", "IMAGE", "--box", "1,2,3,4", "-o", "IMAGE"], "over what is read"),
        (["segment", "IMAGE", "--window", "file", "--box", "1,2,3,4", "-o", "a.png"], "Only DICOM"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(
    tmp_path, monkeypatch, picture, caplog, words, message
):
    monkeypatch.chdir(tmp_path)
    assert main([str(picture) if word == "IMAGE" else word for word in words]) == 2
    assert message in caplog.text
    assert {path.name for path in tmp_path.iterdir()} == {"image.png"}


def test_a_box_that_is_none_is_said_by_the_parser(capsys):
    with pytest.raises(SystemExit):
        main(["segment", "a.png", "--box", "1,2,3", "-o", "b.png"])
    assert "Box must be x0,y0,x1,y1" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["2DBox_Fundus_retina", "3DBox_MR_brain"])
def test_a_case_becomes_a_file_and_a_case_again(tmp_path, name):
    case = read_case(EXAMPLES / f"{name}.npz")
    image = tmp_path / ("image.png" if name.startswith("2D") else "scan.nii.gz")
    boxes = tmp_path / "boxes.json"
    words = ["convert", str(EXAMPLES / f"{name}.npz"), "-o", str(image)]
    assert main([*words, "--write-boxes", str(boxes)]) == 0
    back = ["convert", str(image), "--boxes", str(boxes), "--window"]
    assert main([*back, "127.5,255", "-o", str(tmp_path / "case.npz")]) == 0
    again = read_case(tmp_path / "case.npz")
    np.testing.assert_array_equal(again.pixels, case.pixels)
    np.testing.assert_array_equal(again.boxes, case.boxes)


def test_without_the_extra_the_command_says_how_to_get_it(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "qmedsam.formats.command", None)
    assert main(["segment", "a.nii"]) == 2
    assert "pip install 'qmedsam[io]'" in capsys.readouterr().err
