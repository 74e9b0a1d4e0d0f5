"""`qmedsam convert`: there and back."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import imagecodecs
import nibabel
import numpy as np
import pytest
import tifffile

from qmedsam.batch.cases import read_case
from qmedsam.cli import main
from qmedsam.formats.boxes import read_boxes
from tests.conftest import EXAMPLES
from tests.qmedsam.commands.conftest import VOLUME
from tests.qmedsam.formats.dicom.conftest import ct_slice, save_jpeg_2000

pytestmark = pytest.mark.usefixtures("fake_model")


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


@pytest.mark.parametrize("name", ["2DBox_Fundus_retina", "3DBox_MR_brain"])
def test_a_case_becomes_a_file_and_a_case_again(tmp_path, name):
    case = read_case(EXAMPLES / f"{name}.npz")
    image = tmp_path / ("image.png" if name.startswith("2D") else "scan.nii.gz")
    boxes = tmp_path / "boxes.json"
    words = ["convert", str(EXAMPLES / f"{name}.npz"), "-o", str(image)]
    assert main([*words, "--write-boxes", str(boxes)]) == 0
    if image.name.endswith(".nii.gz"):
        assert nibabel.load(image).header.get_zooms() == (1, 1, 1)
    back = ["convert", str(image), "--boxes", str(boxes), "--window"]
    assert main([*back, "127.5,255", "-o", str(tmp_path / "case.npz")]) == 0
    again = read_case(tmp_path / "case.npz")
    np.testing.assert_array_equal(again.pixels, case.pixels)
    np.testing.assert_array_equal(again.boxes, case.boxes)


@pytest.fixture
def converted(tmp_path, nifti) -> tuple[Path, Path]:
    """A case with names, and the label map that a folder command made of it."""
    case, masks = tmp_path / "in" / "scan.npz", tmp_path / "out"
    words = ["convert", str(nifti), "--box", "liver=3,4,1,20,25,6", "--box", "22,4,1,28,25,6"]
    assert main([*words, "--window", "500,1000", "-o", str(case)]) == 0
    assert main(["-i", str(case.parent), "-o", str(masks)]) == 0
    return case, masks / "scan.npz"


def notes_of(path: Path) -> dict:
    return json.loads(nibabel.load(path).header.extensions[0].get_content())


def test_labels_keep_the_window_and_the_names_of_their_case(tmp_path, nifti, converted, caplog):
    _, labels = converted
    assert (
        main(["convert", str(nifti), "--labels", str(labels), "-o", str(tmp_path / "b.nii")]) == 0
    )
    assert caplog.text == ""
    assert notes_of(tmp_path / "b.nii")["window"] == "window L 500 W 1000"
    assert notes_of(tmp_path / "b.nii")["labels"] == {"1": "liver", "2": "Object 2"}


def test_labels_that_segment_wrote_say_the_window_and_the_names_themselves(tmp_path, nifti):
    labels = tmp_path / "labels.npz"
    words = ["segment", str(nifti), "--box", "liver=3,4,1,20,25,6", "--window", "500,1000"]
    assert main([*words, "-o", str(labels)]) == 0
    back = ["convert", str(nifti), "--labels", str(labels), "-o", str(tmp_path / "b.nii")]
    assert main(back) == 0
    assert notes_of(tmp_path / "b.nii")["window"] == "window L 500 W 1000"
    assert notes_of(tmp_path / "b.nii")["labels"] == {"1": "liver"}


def test_names_of_boxes_take_the_place_of_those_of_labels_one_by_one(tmp_path, nifti, converted):
    _, labels = converted
    words = ["convert", str(nifti), "--labels", str(labels), "-o", str(tmp_path / "b.nii")]
    assert main([*words, "--box", "1,1,1,5,5,5", "--box", "cyst=1,1,1,5,5,5"]) == 0
    assert notes_of(tmp_path / "b.nii")["labels"] == {"1": "liver", "2": "cyst"}


def test_a_window_that_is_not_known_is_not_made_up(tmp_path, nifti, converted, caplog):
    _, labels = converted
    np.savez_compressed(labels, segs=np.load(labels)["segs"])  # of another program
    back = ["convert", str(nifti), "--labels", str(labels), "-o", str(tmp_path / "b.nii")]
    assert main(back) == 0
    assert "does not say the window and the names of its case; give --window" in caplog.text
    assert notes_of(tmp_path / "b.nii")["window"] == "window unknown"
    assert main([*back, "--window", "lung", "--box", "spleen=3,4,1,20,25,6"]) == 0
    assert notes_of(tmp_path / "b.nii")["window"] == "window lung"
    assert notes_of(tmp_path / "b.nii")["labels"] == {"1": "spleen"}


def test_labels_of_another_plane_than_that_of_their_case_are_refused(
    tmp_path, nifti, converted, caplog
):
    _, labels = converted
    words = ["convert", str(nifti), "--labels", str(labels), "-o", str(tmp_path / "b.nii")]
    assert main([*words, "--plane", "coronal"]) == 2
    assert "must have shape (30, 8, 40), as the image has, got (8, 30, 40)" in caplog.text
    assert main([*words, "--plane", "axial"]) == 0


def test_the_names_of_a_case_go_with_its_boxes(tmp_path, converted):
    case, _ = converted
    words = ["convert", str(case), "-o", str(tmp_path / "b.nii")]
    assert main([*words, "--write-boxes", str(tmp_path / "b.json")]) == 0
    assert [box.name for box in read_boxes(tmp_path / "b.json")] == ["liver", ""]


def test_what_a_run_will_correct_is_said_when_the_case_is_made(tmp_path, nifti, caplog):
    words = ["convert", str(nifti), "--box", "20,4,1,3,25,99", "-o", str(tmp_path / "a.npz")]
    assert main(words) == 0
    assert "Box 1 (20, 4, 1, 3, 25, 99) was put in order, minimum first" in caplog.text
    assert "reached beyond the volume of 8 slices of 40 x 30 pixels" in caplog.text


def test_boxes_that_read_like_normalised_ones_become_no_case(tmp_path, nifti, caplog):
    words = ["convert", str(nifti), "--box", "0.1,0.2,1,0.9,0.8,5", "-o", str(tmp_path / "a.npz")]
    assert main(words) == 2
    assert "read like normalised ones" in caplog.text
    assert not (tmp_path / "a.npz").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["IMAGE", "--box", "1,2,3,4", "--write-boxes", "b.json"],
            "--write-boxes goes with a case",
        ),
        (["IMAGE", "--labels", "LABELS", "--write-boxes", "b.json"], "--write-boxes goes with a"),
        (["CASE", "--box", "1,2,3,4"], "A case has its own boxes"),
        (["CASE", "--boxes", "BOXES"], "A case has its own boxes"),
    ],
)
def test_no_option_is_left_aside_without_a_word(
    tmp_path, monkeypatch, picture, converted, caplog, words, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "boxes.json").write_text("[[1, 2, 3, 4]]")
    case, labels = converted
    names = {"IMAGE": picture, "CASE": case, "LABELS": labels, "BOXES": "boxes.json"}
    given = [str(names.get(word, word)) for word in words]
    before = sorted(tmp_path.rglob("*"))
    assert main(["convert", *given, "-o", "new.npz"]) == 2
    assert message in caplog.text
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["convert", "IMAGE", "--labels", "none.npz", "-o", "a.png"], "regular file, got nothing"),
        (["convert", "IMAGE", "--box", "1,2,3,4", "-o", "a.png"], "must end in .npz"),
        (["convert", "IMAGE", "--box", "1,2,3,4", "-o", "IMAGE"], "over what is read"),
    ],
)
def test_what_cannot_be_converted_is_said_in_a_sentence(
    tmp_path, monkeypatch, picture, caplog, words, message
):
    monkeypatch.chdir(tmp_path)
    assert main([str(picture) if word == "IMAGE" else word for word in words]) == 2
    assert message in caplog.text
    assert {path.name for path in tmp_path.iterdir()} == {"image.png"}


def test_the_terminal_has_sentences_of_the_command_alone(tmp_path):
    """Libraries warn of these files, print, and log as they like."""
    content = bytearray(nibabel.Nifti1Image(VOLUME, np.eye(4)).to_bytes())
    content[80:84] = np.float32(-2).tobytes()  # a voxel's side
    (tmp_path / "a.nii").write_bytes(content)
    (tmp_path / "b.jpg").write_bytes(imagecodecs.jpeg8_encode(VOLUME[..., 0].astype(np.uint16),
                                                             bitspersample=12))  # fmt: skip
    tifffile.imwrite(tmp_path / "c.tif", VOLUME[..., 0])
    (tmp_path / "c.tif").write_bytes((tmp_path / "c.tif").read_bytes()[:-900])
    (tmp_path / "d.mha").write_bytes(b"NDims = 3\nDimSize = 4 x 5\nElementDataFile = LOCAL\n")
    packed = imagecodecs.jpeg2k_encode(VOLUME[:8, :10, 0], reversible=True, codecformat="j2k")
    packed = packed[:24] + b"\0\0\0\0" + packed[28:]  # a tile's side
    save_jpeg_2000(ct_slice(), tmp_path / "e.dcm", packed)
    code = (
        "import sys; from qmedsam.cli import main\n"
        "for name in sys.argv[1:]:\n"
        "    main(['convert', name, '--box', '1,1,1,9,9,3', '-o', name + '.npz'])\n"
    )
    names = ["a.nii", "b.jpg", "c.tif", "d.mha", "e.dcm"]
    words = [sys.executable, "-c", code, *names]
    result = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert [re.split(" must (?:be|have) ", line)[0] for line in lines] == [
        f"ERROR: {name}" for name in names[1:]
    ]
    assert (tmp_path / "a.nii.npz").exists()


def test_label_maps_that_come_back_are_measured(tmp_path, nifti):
    words = ["convert", str(nifti), "--box", "organ=3,4,1,20,25,6", "-o", str(tmp_path / "a.npz")]
    assert main(words) == 0
    (tmp_path / "in").mkdir()
    (tmp_path / "a.npz").rename(tmp_path / "in" / "a.npz")
    assert main(["-i", str(tmp_path / "in"), "-o", str(tmp_path / "out")]) == 0
    stats = tmp_path / "stats.json"
    back = ["convert", str(nifti), "--stats", str(stats), "-o", str(tmp_path / "labels.nii")]
    assert main(back) == 2  # without labels
    assert main([*back, "--labels", str(tmp_path / "out" / "a.npz")]) == 0
    labels = np.asarray(nibabel.load(tmp_path / "labels.nii").dataobj)
    (row,) = json.loads(stats.read_text())["objects"]
    assert (row["name"], row["voxels"]) == ("organ", int((labels == 1).sum()))
    assert row["mean"] == pytest.approx(VOLUME[labels == 1].mean())


@pytest.mark.parametrize("plane", ["axial", "sagittal"])
def test_normalised_boxes_are_refused_by_the_name_of_the_image(tmp_path, nifti, caplog, plane):
    """They are of the file's voxels, of which two axes lie in the slices."""
    boxes = tmp_path / "boxes.json"
    boxes.write_text("[[0.1, 0.2, 0.25, 0.5, 0.75, 0.5], [0, 0.5, 0, 1, 1, 1]]")
    words = [str(nifti), "--boxes", str(boxes), "--plane", plane]
    assert main(["convert", *words, "-o", str(tmp_path / "a.npz")]) == 2
    extent = "40 x 30" if plane == "axial" else "30 x 8"
    assert (
        f"{nifti}: Boxes must be in pixels of the original image, {extent}, got x and y from 0 to "
        "1, which read like normalised ones"
    ) in caplog.text
    assert not (tmp_path / "a.npz").exists()
