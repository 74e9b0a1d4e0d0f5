"""Nothing of the user's is overwritten by the commands that take one file."""

from __future__ import annotations

import csv
import gc
import json
import os
import shutil
import warnings

import cv2
import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK
import tifffile
from PIL import Image, PngImagePlugin
from pydicom.fileset import FileSet

from qmedsam.cli import main
from qmedsam.commands.outputs import check_outputs, is_own
from qmedsam.errors import UsageError
from qmedsam.model.manifest import read_manifest
from qmedsam.model.variant import find_model
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


def read_through(kind, folder):
    """Return an image, and a file that is read with it."""
    folder.mkdir()
    if kind == "DICOMDIR":
        listed = FileSet()
        for path in sorted(series(folder / "ct").glob("*.dcm")):
            dataset = pydicom.dcmread(path)
            for keyword in ("StudyDate", "StudyTime", "StudyID", "AccessionNumber"):
                setattr(dataset, keyword, "20260101" if keyword == "StudyDate" else "1200")
            listed.add(dataset)
        listed.write(folder / "disc")
        with warnings.catch_warnings(action="ignore", category=ResourceWarning):
            del listed  # and its folder, which pydicom leaves to be cleaned up
            gc.collect()
        files = sorted(each for each in (folder / "disc").rglob("*") if each.is_file())
        return folder / "disc" / "DICOMDIR", next(each for each in files if each.name != "DICOMDIR")
    if kind == "link":
        made = series(folder / "ct")
        name = min(made.glob("*.dcm"))
        name.rename(folder / "elsewhere.dcm")
        name.symlink_to(folder / "elsewhere.dcm")
        return made, folder / "elsewhere.dcm"
    if kind in ("hdr", "img"):
        image = nibabel.Nifti1Pair(np.ones((40, 50, 6), np.int16), np.diag([1, 1, 3, 1]))
        nibabel.save(image, folder / "a.hdr")
        other = {"hdr": "img", "img": "hdr"}[kind]
        return folder / f"a.{kind}", folder / f"a.{other}"
    image = SimpleITK.GetImageFromArray(np.ones((6, 50, 40), np.uint8))
    SimpleITK.WriteImage(image, str(folder / f"a.{kind}"))
    return folder / f"a.{kind}", folder / {"mhd": "a.raw", "nhdr": "a.raw"}[kind]


@pytest.mark.parametrize("kind", ["DICOMDIR", "link", "hdr", "img", "mhd", "nhdr"])
def test_what_is_read_through_another_file_is_never_replaced(tmp_path, nifti, caplog, kind):
    image, other = read_through(kind, tmp_path / "scan")
    before = other.read_bytes()
    out, box = tmp_path / "l.nii", ["--box", "3,5,0,6,8,2"]
    assert main(["segment", str(image), *box, "-o", str(out)]) == 0
    as_image = ["segment", str(image), *box, "-o", str(out)]
    as_boxes = ["segment", str(nifti), "--boxes", str(image), "-o", str(out)]
    as_labels = ["convert", str(nifti), "--labels", str(image), "-o", str(out)]
    for words in (as_image, as_boxes, as_labels):
        stats = other.with_suffix(".json")
        stats.unlink(missing_ok=True)
        stats.hardlink_to(other)
        caplog.clear()
        assert main([*words, "--stats", str(stats), "--overwrite"]) == 2
        assert f"{stats.name} would be written over what is read" in caplog.text
    assert other.read_bytes() == before


def test_the_files_of_the_model_are_never_replaced(picture, tmp_path, caplog):
    model = tmp_path / "model"
    shutil.copytree(find_model(None, "float"), model)
    words = ["-o", tmp_path / "l.png", "--model-dir", model, "--overwrite"]
    assert segment(picture, *words) == 0
    for path in read_manifest(model).paths:
        stats = tmp_path / "stats.json"
        stats.unlink(missing_ok=True)
        stats.hardlink_to(path)
        assert segment(picture, *words, "--stats", stats) == 2
        assert "stats.json would be written over what is read" in caplog.text
        cases = ["run", "-i", str(tmp_path / "in"), "-o", str(tmp_path / "out")]
        (tmp_path / "in").mkdir(exist_ok=True)
        np.savez(tmp_path / "in" / "a.npz", imgs=np.zeros((9, 9), np.uint8), boxes=[[1, 1, 5, 5]])
        options = ["--model-dir", str(model), "--report", str(stats), "--overwrite"]
        assert main([*cases, *options]) == 2
        assert "would be written over what is read" in caplog.text


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
    assert f"{name} is no result of an earlier run, or was edited since; --over" in caplog.text
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


def with_nibabel(path):
    image = nibabel.load(path)
    values = np.asarray(image.dataobj).copy()
    values[0, 0, 0] = 9
    nibabel.save(nibabel.Nifti1Image(values, image.affine, image.header), path)


def affine_with_nibabel(path):
    image = nibabel.load(path)
    nibabel.save(
        nibabel.Nifti1Image(np.asarray(image.dataobj), 2 * image.affine, image.header), path
    )


def with_simpleitk(path):
    image = SimpleITK.ReadImage(str(path))
    image[0, 0, 0] = 9
    SimpleITK.WriteImage(image, str(path), useCompression=True)


def with_pillow(path):
    with Image.open(path) as image:
        texts = PngImagePlugin.PngInfo()
        for key, text in image.text.items():
            texts.add_itxt(key, text)
        values = np.array(image)
    values[0, 0] = 9
    Image.fromarray(values).save(path, pnginfo=texts)


def with_tifffile(path):
    with tifffile.TiffFile(path) as file:
        values, description = file.asarray(), file.pages[0].description
    values[0, 0, 0] = 9
    tifffile.imwrite(
        path, values, description=description, photometric="minisblack", compression="zlib"
    )


def with_numpy(path):
    with np.load(path) as archive:
        members = dict(archive)
    members["segs"] = members["segs"].copy()
    members["segs"].flat[0] = 9
    np.savez_compressed(path, **members)


def with_pydicom(path):
    dataset = pydicom.dcmread(path)
    if "PixelData" in dataset:
        dataset.PixelData = bytes([255]) + dataset.PixelData[1:]
    else:
        dataset.ROIContourSequence[0].ContourSequence[0].ContourData[0] = "1.5"
    dataset.save_as(path)


def name_with_pydicom(path):
    dataset = pydicom.dcmread(path)
    regions = dataset.get("SegmentSequence") or dataset.StructureSetROISequence
    keyword = "SegmentLabel" if "SegmentSequence" in dataset else "ROIName"
    setattr(regions[0], keyword, "liver")
    dataset.save_as(path)


VOLUME = ["--box", "3,4,1,20,25,3"]
SERIES = ["--box", "3,5,1,6,8,2"]


@pytest.mark.parametrize(
    ("source", "name", "edit", "options"),
    [
        ("nifti", "l.nii", with_nibabel, VOLUME),
        ("nifti", "l.nii.gz", with_nibabel, VOLUME),
        ("nifti", "l.nii.gz", affine_with_nibabel, VOLUME),
        ("nifti", "l.npz", with_numpy, VOLUME),
        ("nrrd", "l.nrrd", with_simpleitk, VOLUME),
        ("nrrd", "l.mha", with_simpleitk, VOLUME),
        ("picture", "l.png", with_pillow, BOX),
        ("stack", "l.tif", with_tifffile, ["--box", "3,5,0,26,28,2"]),
        ("series", "l.dcm", with_pydicom, SERIES),
        ("series", "l.dcm", name_with_pydicom, SERIES),
        ("series", "l.dcm", with_pydicom, [*SERIES, "--as", "rtstruct"]),
        ("series", "l.dcm", name_with_pydicom, [*SERIES, "--as", "rtstruct"]),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_labels_are_replaced_until_somebody_edits_them(
    picture, nifti, tmp_path, caplog, source, name, edit, options
):
    made = {"picture": picture, "nifti": nifti}.get(source, tmp_path / "scan")
    if source == "series":
        made = series(tmp_path / "ct")
    elif source == "stack":
        made.mkdir()
        for number in range(3):
            cv2.imwrite(str(made / f"{number}.png"), np.full((40, 50), 9 + number, np.uint8))
    elif source == "nrrd":
        made = made.with_suffix(".nrrd")
        image = SimpleITK.GetImageFromArray(np.ones((6, 40, 50), np.uint8))
        SimpleITK.WriteImage(image, str(made))
    output = tmp_path / name
    words = ["segment", str(made), *options, "-o", str(output)]
    for _ in range(2):
        assert main(words) == 0
        assert is_own(output)
    edit(output)
    before = output.read_bytes()
    caplog.clear()
    assert main(words) == 2
    assert f"{name} is no result of an earlier run, or was edited since; --over" in caplog.text
    assert output.read_bytes() == before
    assert main([*words, "--overwrite"]) == 0
    assert is_own(output)


def test_a_label_map_of_another_program_is_nobody_s_but_theirs(picture, tmp_path):
    output = tmp_path / "expert.npz"
    np.savez(output, segs=np.ones((60, 80), np.uint8), who="expert")
    before = output.read_bytes()
    assert segment(picture, "-o", output) == 2
    assert main(["convert", str(picture), *BOX, "-o", str(output)]) == 2
    assert output.read_bytes() == before


def test_a_case_whose_boxes_were_corrected_is_not_replaced(picture, tmp_path):
    case = tmp_path / "case.npz"
    words = ["convert", str(picture), *BOX, "-o", str(case)]
    assert [main(words), main(words)] == [0, 0]
    with np.load(case) as archive:
        members = dict(archive)
    np.savez_compressed(case, **members | {"boxes": members["boxes"] + 1})
    before = case.read_bytes()
    assert main(words) == 2
    assert case.read_bytes() == before


@pytest.mark.parametrize("name", ["a.csv", "a.json"])
def test_statistics_are_replaced_until_somebody_adds_to_them(picture, tmp_path, name):
    stats = tmp_path / name
    words = ["-o", tmp_path / "l.png", "--stats", stats]
    assert [segment(picture, *words), segment(picture, *words)] == [0, 0]
    if name.endswith(".csv"):
        rows = list(csv.reader(stats.read_text().splitlines()))
        more = [[*row, said] for row, said in zip(rows, ["remark", "benign"], strict=True)]
        with stats.open("w", newline="") as stream:
            csv.writer(stream).writerows(more)
    else:
        document = json.loads(stats.read_text())
        document["objects"][0]["remark"] = "benign"
        stats.write_text(json.dumps(document, indent=1))
    before = stats.read_bytes()
    assert segment(picture, *words) == 2
    assert stats.read_bytes() == before


def test_a_pipe_is_no_result_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    assert not is_own(tmp_path / "a.png")


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
    for name, what in (("labels.tif", f"into {folder}, which"), ("1.png", "over what")):
        assert main([*words, str(tmp_path / "b.tif"), "--preview", str(folder / name)]) == 2
        assert f"{name} would be written {what} is read" in caplog.text
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
