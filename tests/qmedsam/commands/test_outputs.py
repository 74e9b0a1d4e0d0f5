"""Nothing of the user's is overwritten by the commands that take one file."""

from __future__ import annotations

import os
import shutil

import cv2
import numpy as np
import pytest
import SimpleITK

from qmedsam.cli import main
from qmedsam.commands.outputs import check_outputs, is_own
from qmedsam.errors import UsageError
from tests.qmedsam.formats.conftest import series

pytestmark = pytest.mark.usefixtures("fake_model")

BOX = ["--box", "5,5,40,30"]


def segment(image, *options) -> int:
    return main(["segment", str(image), *BOX, *(str(each) for each in options)])


@pytest.fixture
def folder(tmp_path):
    """A DICOM series, and what is in its files."""
    made = series(tmp_path / "ct")
    return made, {path.name: path.read_bytes() for path in made.iterdir()}


@pytest.mark.parametrize("option", ["-o", "--preview"])
def test_a_slice_of_the_series_that_is_read_is_never_replaced(folder, tmp_path, caplog, option):
    made, before = folder
    name = sorted(before)[1]
    others = [] if option == "-o" else ["-o", tmp_path / "labels.nii"]
    for overwrite in ([], ["--overwrite"]):
        caplog.clear()
        words = ["--box", "3,5,1,6,8,2", option, made / name, *others, *overwrite]
        assert main(["segment", str(made), *(str(word) for word in words)]) == 2
        assert f"{name} would be written over what is read" in caplog.text
    new = made / "labels.dcm"  # which would be read with the series the next time
    assert main(["segment", str(made), "--box", "3,5,1,6,8,2", "-o", str(new)]) == 2
    assert {path.name: path.read_bytes() for path in made.iterdir()} == before


def test_two_outputs_are_two_files(picture, tmp_path, caplog):
    output = tmp_path / "labels.png"
    assert segment(picture, "-o", output, "--preview", output) == 2
    assert "labels.png would be written twice" in caplog.text
    assert not output.exists()


def test_another_name_of_what_is_read_is_known(picture, tmp_path, caplog):
    before = picture.read_bytes()
    (tmp_path / "link.png").symlink_to(picture)
    os.link(picture, tmp_path / "hard.png")
    for name in ("link.png", "hard.png"):
        assert segment(picture, "-o", tmp_path / name, "--overwrite") == 2
        assert f"{name} would be written over what is read" in caplog.text
    assert picture.read_bytes() == before


@pytest.mark.parametrize("name", ["a.png", "a.npz"])
def test_a_file_of_the_user_is_replaced_only_if_that_is_asked_for(picture, tmp_path, caplog, name):
    output = tmp_path / "out" / name
    output.parent.mkdir()
    shutil.copy(picture, output)
    before = output.read_bytes()
    assert segment(picture, "-o", output) == 2
    assert f"{name} is no result of an earlier run; --overwrite replaces it" in caplog.text
    assert output.read_bytes() == before
    assert segment(picture, "-o", output, "--overwrite") == 0
    assert output.read_bytes() != before
    assert segment(picture, "-o", output) == 0  # which is an earlier result now


def test_earlier_results_of_every_kind_are_known(picture, nifti, folder, tmp_path):
    made, _ = folder
    case = tmp_path / "case.npz"
    assert main(["convert", str(picture), *BOX, "-o", str(case)]) == 0
    outputs = [tmp_path / name for name in ("l.nii", "l.nii.gz", "l.npz")]
    for output in outputs:
        words = ["segment", str(nifti), "--box", "3,4,1,20,25,3", "-o", str(output)]
        assert main([*words, "--preview", str(tmp_path / "p.png")]) == 0
    dicom = tmp_path / "l.dcm"
    assert main(["segment", str(made), "--box", "3,5,1,6,8,2", "-o", str(dicom)]) == 0
    for path in (case, *outputs, dicom, tmp_path / "p.png"):
        assert is_own(path), path
    for path in (picture, nifti, *made.iterdir()):
        assert not is_own(path), path


def test_a_folder_is_no_output_and_a_loop_of_links_neither(tmp_path):
    with pytest.raises(UsageError, match="must be a file to write, got a folder"):
        check_outputs([tmp_path], [], overwrites=True)
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(UsageError, match="loop/a cannot be used"):
        check_outputs([tmp_path / "loop" / "a"], [tmp_path / "image.png"], overwrites=True)


def test_a_pipe_is_nobody_s_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    assert not is_own(tmp_path / "a.png")


def test_what_is_packed_and_broken_is_nobody_s(tmp_path):
    (tmp_path / "a.nii.gz").write_bytes(b"\x1f\x8b and no more")
    assert not is_own(tmp_path / "a.nii.gz")
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((4, 4, 3), np.uint8))
    assert not is_own(tmp_path / "a.png")
    assert not is_own(tmp_path / "none.png")


@pytest.mark.parametrize("suffix", [".nrrd", ".mha", ".nii.gz"])
def test_labels_of_an_earlier_run_are_replaced_in_any_format_of_volumes(tmp_path, suffix):
    source = tmp_path / "scan.nrrd"
    image = SimpleITK.GetImageFromArray(np.ones((6, 40, 50), np.uint8))
    SimpleITK.WriteImage(image, str(source))
    words = ["segment", str(source), "--box", "3,5,1,26,28,3"]
    output = tmp_path / f"labels{suffix}"
    for _ in range(2):
        assert main([*words, "-o", str(output)]) == 0
    SimpleITK.WriteImage(image, str(output))
    before = output.read_bytes()
    assert main([*words, "-o", str(output)]) == 2
    assert output.read_bytes() == before


def test_a_stack_of_labels_is_replaced_and_never_put_among_the_slices(tmp_path, caplog):
    folder = tmp_path / "stack"
    folder.mkdir()
    for number in range(3):
        cv2.imwrite(str(folder / f"{number}.png"), np.full((40, 50), 9 + number, np.uint8))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    words = ["segment", str(folder), "--box", "3,5,0,26,28,2", "-o"]
    for _ in range(2):
        assert main([*words, str(tmp_path / "labels.tif")]) == 0
    for name in ("labels.tif", "1.png"):
        assert main([*words, str(tmp_path / "b.tif"), "--preview", str(folder / name)]) == 2
        assert f"{name} would be written over what is read" in caplog.text
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
