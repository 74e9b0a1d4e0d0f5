"""`qmedsam convert`: there and back."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest

from qmedsam.batch.cases import read_case
from qmedsam.cli import main
from tests.conftest import EXAMPLES
from tests.qmedsam.commands.conftest import VOLUME

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
    back = ["convert", str(image), "--boxes", str(boxes), "--window"]
    assert main([*back, "127.5,255", "-o", str(tmp_path / "case.npz")]) == 0
    again = read_case(tmp_path / "case.npz")
    np.testing.assert_array_equal(again.pixels, case.pixels)
    np.testing.assert_array_equal(again.boxes, case.boxes)


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
