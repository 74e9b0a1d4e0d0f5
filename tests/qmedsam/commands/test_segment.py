"""`qmedsam segment` on a fake network: pictures and volumes, and their boxes."""

from __future__ import annotations

import csv
import json

import cv2
import nibabel
import numpy as np
import pytest
from PIL import Image

from qmedsam.batch.cases import write_case
from qmedsam.batch.overlay import draw_overlay
from qmedsam.cli import main
from qmedsam.formats.label_notes import LabelNotes
from tests.qmedsam.commands.conftest import AFFINE, IMAGE, VOLUME

pytestmark = pytest.mark.usefixtures("fake_model")


def test_a_picture_is_segmented_by_one_command(tmp_path, picture):
    output, preview = tmp_path / "labels.png", tmp_path / "preview.png"
    boxes = ["--box", "5,5,40,30", "--box", "50,20,75,55"]
    words = ["segment", str(picture), *boxes, "-o", str(output), "--preview", str(preview)]
    assert main(words) == 0
    labels = cv2.imread(str(output), cv2.IMREAD_UNCHANGED)
    assert (labels.shape, labels.dtype) == ((60, 80), np.uint8)
    assert (labels[15, 20], labels[40, 60], labels[58, 2]) == (1, 2, 0)
    drawn = cv2.imread(str(preview))
    assert drawn.shape == (512, 683, 3)
    corners = np.array([[5, 5, 40, 30], [50, 20, 75, 55]], np.float32)
    expected = draw_overlay(IMAGE, corners, labels, objects=(0, 1))
    np.testing.assert_array_equal(drawn[..., ::-1], expected)


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


def test_a_window_with_a_level_below_0_is_written_behind_an_equals_sign(tmp_path, nifti):
    words = ["segment", str(nifti), "--box", "3,4,1,20,25,6", "--window=-600,1500"]
    assert main([*words, "-o", str(tmp_path / "a.npz")]) == 0
    info = json.loads(str(np.load(tmp_path / "a.npz")["info"]))
    assert info["window"] == "window L -600 W 1500"


def test_a_corrected_box_is_named_as_it_was_written(tmp_path, nifti, caplog):
    words = ["segment", str(nifti), "--box", "3,4,1,20,25,99", "-o", str(tmp_path / "a.nii")]
    assert main(words) == 0
    assert (
        "Box 1 (3, 4, 1, 20, 25, 99) reached beyond the volume of 8 slices of 40 x 30 pixels"
        in caplog.text
    )


def test_where_no_box_lies_on_the_image_nothing_is_written(tmp_path, picture, caplog):
    words = ["segment", str(picture), "--box", "100,20,136,40", "-o", str(tmp_path / "m.png")]
    assert main(words) == 2
    assert f"{picture} must have a box on it, got all of them beside it" in caplog.text
    assert not (tmp_path / "m.png").exists()


@pytest.mark.parametrize(("plane", "axis"), [("axial", "z"), ("coronal", "y"), ("sagittal", "x")])
def test_slices_of_a_preview_have_their_places_in_the_file(tmp_path, monkeypatch, plane, axis):
    names = []
    monkeypatch.setattr("qmedsam.batch.overlay._write", lambda tile, text, **_: names.append(text))
    affine = np.diag([1.0, -1, -1, 1])  # to the right, back and down: against slices as seen
    nibabel.save(nibabel.Nifti1Image(VOLUME, affine), tmp_path / "a.nii")
    words = ["segment", str(tmp_path / "a.nii"), "--box", "3,4,1,20,25,6", "--plane", plane]
    outputs = ["-o", str(tmp_path / "b.nii"), "--preview", str(tmp_path / "b.png")]
    assert main([*words, *outputs]) == 0
    first, last = {"z": (1, 6), "y": (4, 25), "x": (3, 20)}[axis]
    found = [int(name[2:]) for name in names if name[:2] == f"{axis} "]
    assert len(found) == 3
    assert all(first <= place <= last for place in found)


@pytest.mark.parametrize(
    ("boxes", "note"),
    [
        (["10,10,25,25", "5,5,40,30"], "later boxes cover all that was found there"),
        (["60,40,62,42", "5,5,40,30"], "nothing was found there"),
    ],
    ids=["covered", "nothing-found"],
)
@pytest.mark.usefixtures("blind_to_small_boxes")
def test_a_label_that_is_missing_is_warned_of(tmp_path, picture, caplog, boxes, note):
    words = [word for box in boxes for word in ("--box", box)]
    assert main(["segment", str(picture), *words, "-o", str(tmp_path / "labels.png")]) == 0
    warnings = [entry.getMessage() for entry in caplog.records if entry.levelname == "WARNING"]
    written = boxes[0].replace(",", ", ")
    assert warnings == [f"{picture}: Box 1 ({written}) left no label, as {note}"]


def test_a_missing_label_of_a_volume_is_named_as_its_box_was_written(tmp_path, caplog):
    mirrored = nibabel.Nifti1Image(VOLUME, np.diag([-1.0, 1, 3, 1]))  # x of the file runs left
    nibabel.save(mirrored, tmp_path / "scan.nii")
    boxes = ["--box", "25,15,3,27,17,4", "--box", "20,10,1,35,25,6"]
    words = ["segment", str(tmp_path / "scan.nii"), *boxes, "-o", str(tmp_path / "labels.nii")]
    assert main(words) == 0
    assert "Box 1 (25, 15, 3, 27, 17, 4) left no label, as later boxes cover" in caplog.text


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


def test_a_name_that_no_file_can_have_is_written_with_a_sign_for_it(tmp_path, nifti):
    boxes, stats = tmp_path / "boxes.json", tmp_path / "stats.csv"
    boxes.write_text('[{"box": [3, 4, 1, 20, 25, 3], "name": "liver\\ud800"}]')
    for suffix in (".nii", ".npz"):
        words = ["segment", str(nifti), "--boxes", str(boxes), "-o", str(tmp_path / f"l{suffix}")]
        assert main([*words, "--stats", str(stats)]) == 0
        assert "liver\ufffd" in stats.read_text(encoding="utf-8")


def test_slices_without_a_box_are_refused(tmp_path, nifti, caplog):
    words = ["segment", str(nifti), "--slice", "1", "--slices", "0,2"]
    assert main([*words, "-o", str(tmp_path / "l.nii")]) == 2
    assert "There must be a box; give --box or --boxes" in caplog.text
    assert not (tmp_path / "l.nii").exists()


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


def test_a_slice_across_those_that_are_cut_is_refused(tmp_path, nifti, caplog):
    words = ["segment", str(nifti), "--box", "3,4,20,25", "--slice", "3", "--slices", "1,6"]
    for plane in ("coronal", "sagittal"):
        assert main([*words, "--plane", plane, "-o", str(tmp_path / "b.nii")]) == 2
        assert "give boxes of six coordinates, or another --plane" in caplog.text
        caplog.clear()
    assert main([*words, "--plane", "axial", "-o", str(tmp_path / "b.nii")]) == 0


def test_a_volume_is_cut_in_the_plane_of_its_acquisition(tmp_path, fake_model, monkeypatch):
    """Eight sagittal slices with 3 mm between them: as many are encoded, and not 30."""
    encoded = []
    embed = fake_model.embed
    monkeypatch.setattr(fake_model, "embed", lambda *each: encoded.append(1) or embed(*each))
    sagittal = nibabel.Nifti1Image(VOLUME.transpose(2, 0, 1), np.diag([3.0, 1, 1, 1]))
    nibabel.save(sagittal, tmp_path / "a.nii")
    words = ["segment", str(tmp_path / "a.nii"), "--box", "0,3,4,7,20,25"]
    assert main([*words, "-o", str(tmp_path / "b.nii")]) == 0
    assert len(encoded) == 8
    places = np.argwhere(np.asarray(nibabel.load(tmp_path / "b.nii").dataobj) == 1)
    assert np.abs(places.min(0) - [0, 3, 4]).max() <= 1
    assert np.abs(places.max(0) - [7, 20, 25]).max() <= 1


@pytest.mark.parametrize("box", ["3,4,20,25", "3,0,4,20,0,25"], ids=["four", "six"])
def test_a_single_slice_is_segmented_as_the_picture_that_it_is(tmp_path, box):
    values = np.random.default_rng(0).integers(1, 256, (40, 1, 30), dtype=np.uint8)
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / "a.nii")
    words = ["segment", str(tmp_path / "a.nii"), f"--box=x={box}", "--window", "127.5,255"]
    assert main([*words, "-o", str(tmp_path / "b.nii")]) == 0
    cv2.imwrite(str(tmp_path / "a.png"), values[::-1, 0, ::-1].T)
    words = ["segment", str(tmp_path / "a.png"), "--box", "19,4,36,25"]
    assert main([*words, "-o", str(tmp_path / "b.png")]) == 0
    labels = np.asarray(nibabel.load(tmp_path / "b.nii").dataobj)
    assert labels.shape == (40, 1, 30)
    of_picture = cv2.imread(str(tmp_path / "b.png"), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(labels[::-1, 0, ::-1].T, of_picture)


def test_one_of_several_volumes_is_segmented(tmp_path, caplog):
    several = nibabel.Nifti1Image(np.stack([VOLUME, VOLUME[::-1]], -1), AFFINE)
    nibabel.save(several, tmp_path / "a.nii")
    words = ["segment", str(tmp_path / "a.nii"), "--box", "3,4,1,20,25,6"]
    assert main([*words, "-o", str(tmp_path / "b.nii")]) == 2
    assert "choose with --volume, got 2 of 40 x 30 x 8 voxels: 1 to 2" in caplog.text
    assert main([*words, "--volume", "2", "-o", str(tmp_path / "b.nii")]) == 0
    assert nibabel.load(tmp_path / "b.nii").shape == VOLUME.shape


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["segment", "IMAGE", "--box", "1,2,3,4", "-o", "a.nii.gz"], "must end in .png, .npz"),
        (
            ["segment", "IMAGE", "--box", "1,2,0,3,4,0", "-o", "a.png"],
            "--box 1,2,0,3,4,0 must have 4 numbers (x0, y0, x1, y1) for ",
        ),
        (["segment", "IMAGE", "--box", "1,2,3,4", "--window", "x", "-o", "a.png"], "Window must"),
        (["segment", "none.png", "--box", "1,2,3,4", "-o", "a.png"], "none.png cannot be read"),
        (["segment", "IMAGE", "-o", "a.png"], "There must be a box"),
        (
            ["segment", "IMAGE", "--box", "0.1,0.2,0.5,1", "-o", "a.png"],
            "80 x 60, got x and y from",
        ),
        (["segment", "IMAGE", "--box", "1,2,3,4", "-o", "IMAGE"], "over what is read"),
        (["segment", "IMAGE", "--window", "file", "--box", "1,2,3,4", "-o", "a.png"], "Only DICOM"),
    ],
)
def test_what_cannot_be_segmented_is_said_in_a_sentence(
    tmp_path, monkeypatch, picture, caplog, words, message
):
    monkeypatch.chdir(tmp_path)
    assert main([str(picture) if word == "IMAGE" else word for word in words]) == 2
    assert message in caplog.text
    assert {path.name for path in tmp_path.iterdir()} == {"image.png"}


def test_boxes_of_one_slice_may_have_its_axis_or_not(tmp_path):
    image, boxes = tmp_path / "slice.nii", tmp_path / "boxes.json"
    nibabel.save(nibabel.Nifti1Image(VOLUME[:, :, :1], AFFINE), image)
    boxes.write_text("[[3, 4, 12, 15], [20, 6, 0, 30, 25, 0]]")
    words = ["segment", str(image), "--boxes", str(boxes), "-o", str(tmp_path / "a.nii")]
    assert main(words) == 0
    labels = np.asarray(nibabel.load(tmp_path / "a.nii").dataobj)
    assert labels.shape == (40, 30, 1)
    assert (labels[8, 8, 0], labels[25, 15, 0]) == (1, 2)


def test_a_followed_box_has_four_numbers(tmp_path, nifti, caplog):
    words = ["segment", str(nifti), "--box", "3,4,1,20,25,6", "-o", str(tmp_path / "a.nii")]
    assert main([*words, "--slice", "3", "--slices", "2,4"]) == 2
    expected = "--box 3,4,1,20,25,6 must have 4 numbers (x0, y0, x1, y1) with --slice, got 6: 3, 4"
    assert expected in caplog.text


def test_a_box_that_is_none_is_said_by_the_parser(capsys):
    with pytest.raises(SystemExit):
        main(["segment", "a.png", "--box", "1,2,3", "-o", "b.png"])
    assert "Box must be x0,y0,x1,y1" in capsys.readouterr().err


def test_a_case_is_segmented_by_its_own_boxes(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    info = LabelNotes("window lung", ("left", "right")).as_json()
    write_case(tmp_path / "a.npz", pixels, np.array([[5, 5, 40, 30], [50, 20, 75, 55]]), info)
    for name in ("labels.npz", "labels.png"):
        assert main(["segment", str(tmp_path / "a.npz"), "-o", str(tmp_path / name)]) == 0
    found = np.load(tmp_path / "labels.npz")
    assert (found["segs"][15, 20], found["segs"][40, 60]) == (1, 2)
    document = json.loads(str(found["info"]))
    assert document["labels"] == {"1": "left", "2": "right"}
    assert document["window"] == "window lung"
    (tmp_path / "boxes.csv").write_text("1,1,9,9\n")
    for option in (["--box", "1,1,9,9"], ["--boxes", str(tmp_path / "boxes.csv")]):
        words = ["segment", str(tmp_path / "a.npz"), *option]
        assert main([*words, "-o", str(tmp_path / "b.npz")]) == 0
        assert np.load(tmp_path / "b.npz")["segs"].max() == 1


def test_labels_of_a_volume_in_a_case_are_those_of_a_case_alone(tmp_path, caplog):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 60, 80), dtype=np.uint8)
    write_case(tmp_path / "a.npz", pixels, np.array([[5, 10, 1, 40, 30, 3]]), "")
    words = ["segment", str(tmp_path / "a.npz"), "-o"]
    assert main([*words, str(tmp_path / "b.npz")]) == 0
    places = np.argwhere(np.load(tmp_path / "b.npz")["segs"] == 1)
    assert np.abs(places.min(0) - [1, 10, 5]).max() <= 1
    assert np.abs(places.max(0) - [3, 30, 40]).max() <= 1
    assert main([*words, str(tmp_path / "b.png")]) == 2
    assert "b.png must end in .npz" in caplog.text


def test_a_case_without_boxes_needs_some(tmp_path, caplog):
    write_case(tmp_path / "a.npz", np.zeros((60, 80), np.uint8), np.zeros((0, 4)), "")
    assert main(["segment", str(tmp_path / "a.npz"), "-o", str(tmp_path / "b.npz")]) == 2
    assert "There must be a box" in caplog.text


def test_earlier_labels_are_boxes(tmp_path, nifti):
    first, second = tmp_path / "first.nii.gz", tmp_path / "second.nii.gz"
    words = ["segment", str(nifti)]
    assert main([*words, "--box", "3,4,1,20,25,6", "-o", str(first)]) == 0
    assert main([*words, "--boxes", str(first), "-o", str(second)]) == 0
    found = [np.asarray(nibabel.load(path).dataobj) for path in (first, second)]
    np.testing.assert_array_equal(*found)
    assert main([*words, "--boxes", str(first), "-o", str(first)]) == 2  # which is read


@pytest.mark.parametrize("name", ["stats.csv", "stats.json"])
def test_objects_are_measured(tmp_path, nifti, name):
    stats = tmp_path / "deep" / name
    words = ["segment", str(nifti), "--box", "organ=3,4,1,20,25,6", "-o", str(tmp_path / "a.nii")]
    for _ in range(2):  # what an earlier run left is replaced
        assert main([*words, "--stats", str(stats)]) == 0
    if name.endswith(".csv"):
        (row,) = csv.DictReader(stats.read_text().splitlines())
    else:
        (row,) = json.loads(stats.read_text())["objects"]
    labels = np.asarray(nibabel.load(tmp_path / "a.nii").dataobj)
    assert row["name"] == "organ"
    assert float(row["volume_mm3"]) == 3 * (labels == 1).sum()
    assert float(row["mean"]) == pytest.approx(VOLUME[labels == 1].mean())
    assert row["quality"] in (None, "")  # of which the fake network says nothing


def test_statistics_are_written_nowhere_that_is_the_users(tmp_path, nifti, caplog):
    own = tmp_path / "own.csv"
    own.write_text("name,age\n")
    words = ["segment", str(nifti), "--box", "3,4,1,20,25,6", "-o", str(tmp_path / "a.nii")]
    assert main([*words, "--stats", str(own)]) == 2
    assert own.read_text() == "name,age\n"
    assert main([*words, "--stats", str(tmp_path / "a.xlsx")]) == 2
    assert "a.xlsx must end in .csv, .json, as statistics do" in caplog.text
    assert not (tmp_path / "a.nii").exists()


def test_what_the_model_predicts_of_masks_is_in_the_statistics(
    tmp_path, nifti, fake_model, monkeypatch
):
    monkeypatch.setattr(fake_model, "rate", lambda _, boxes: np.full(len(boxes), 0.875, np.float32))
    words = ["segment", str(nifti), "--box", "3,4,1,20,25,6", "-o", str(tmp_path / "a.nii")]
    assert main([*words, "--stats", str(tmp_path / "a.json")]) == 0
    (row,) = json.loads((tmp_path / "a.json").read_text())["objects"]
    assert row["quality"] == 0.875
