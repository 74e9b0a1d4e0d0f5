"""DICOM: files of pydicom itself, and a series made of one of them."""

from __future__ import annotations

from pathlib import Path

import cv2
import highdicom
import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK
from pydicom.uid import EnhancedCTImageStorage, generate_uid

from qmedsam.cli import main
from qmedsam.formats.dispatch import open_scan
from qmedsam.formats.intensity import IntensityWindow
from qmedsam.formats.scan import FormatError
from qmedsam.formats.writing import write_labels
from tests.qmedsam.formats.conftest import SPACING_MM, pydicom_file, series

# pydicom warns of what its own old test files have, and highdicom of what it does itself.
pytestmark = [
    pytest.mark.usefixtures("fake_model"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


def read(path: Path, window=None):
    return open_scan(path, window)


def test_ct_is_rescaled_and_seen_in_the_window_of_soft_tissue():
    dataset = pydicom.dcmread(pydicom_file("CT_small.dcm"))
    units = dataset.pixel_array * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)
    expected = np.clip(np.rint((units + 160) * 255 / 400), 0, 255)
    found = read(pydicom_file("CT_small.dcm"))
    assert (found.pixels.shape, found.is_volume) == ((128, 128), False)
    np.testing.assert_allclose(found.pixels, expected, atol=1)


@pytest.mark.parametrize("name", ["MR_small.dcm", "MR_small_bigendian.dcm", "MR_small_RLE.dcm"])
def test_mr_is_seen_by_percentiles_however_it_is_stored(name):
    found = read(pydicom_file(name)).pixels
    np.testing.assert_array_equal(found, read(pydicom_file("MR_small.dcm")).pixels)
    assert (found.min(), found.max()) == (0, 255)


def test_labels_of_one_slice_may_be_nifti_where_simpleitk_sees_the_slice(tmp_path):
    scan = read(pydicom_file("CT_small.dcm"))
    label_map = np.zeros((128, 128), np.uint8)
    label_map[10:20, 40:90] = 1
    write_labels(scan, label_map, tmp_path / "labels.nii.gz")
    source = SimpleITK.ReadImage(str(pydicom_file("CT_small.dcm")))
    written = SimpleITK.ReadImage(str(tmp_path / "labels.nii.gz"))
    assert written.GetSize() == source.GetSize() == (128, 128, 1)
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(written)[0], label_map)
    for corner in ((0, 0, 0), (40, 10, 0), (127, 127, 0)):
        np.testing.assert_allclose(
            written.TransformIndexToPhysicalPoint(corner),
            source.TransformIndexToPhysicalPoint(corner),
            atol=1e-4,
        )
    assert written.GetSpacing()[2] == 5  # the thickness of the slice


def test_low_values_may_be_bright(tmp_path):
    dataset = pydicom.dcmread(pydicom_file("MR_small.dcm"))
    dataset.PhotometricInterpretation = "MONOCHROME1"
    dataset.save_as(tmp_path / "a.dcm")
    inverted = read(tmp_path / "a.dcm").pixels
    np.testing.assert_array_equal(255 - inverted, read(pydicom_file("MR_small.dcm")).pixels)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("SC_rgb_rle.dcm", (100, 100, 3)),
        ("SC_rgb_rle_16bit.dcm", (100, 100, 3)),
        ("examples_rgb_color.dcm", (240, 320, 3)),
        ("examples_palette.dcm", (350, 800, 3)),
        ("SC_ybr_full_422_uncompressed.dcm", (100, 100, 3)),
    ],
)
def test_colours_become_rgb_of_8_bits(name, shape):
    found = read(pydicom_file(name))
    assert (found.pixels.shape, found.pixels.dtype, found.is_volume) == (shape, np.uint8, False)
    assert found.pixels.max() > 200


def test_frames_of_one_file_are_a_volume():
    found = read(pydicom_file("rtdose.dcm"))
    assert (found.pixels.shape, found.is_volume) == ((15, 10, 10), True)


def test_slices_go_by_position(tmp_path):
    scan = read(series(tmp_path / "ct"), IntensityWindow(-750, 500))
    assert scan.pixels.shape == (6, 128, 128)
    assert scan.pixels[:, 0, 100].tolist() == [0, 51, 102, 153, 204, 255]
    assert (scan.pixels[:, 0, 10] == 255).all()


def test_a_series_of_pydicom_itself_is_read_and_written(tmp_path):
    folder = pydicom_file("DICOMDIR").parent / "98892001" / "CT5N"
    scan = read(folder)
    assert scan.pixels.shape == (5, 16, 16)
    assert (
        main(["segment", str(folder), "--box", "3,3,0,9,9,4", "-o", str(tmp_path / "a.dcm")]) == 0
    )
    assert pydicom.dcmread(tmp_path / "a.dcm").NumberOfFrames == 5


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("98892001/CT2N", "choose with --volume, got 2: 1: grey sagittal image of 16 x 16"),
        ("98892003/MR700", "choose with --volume, got 7: 1: grey coronal image of 16 x 16"),
        ("98892003/MR1", "choose with --series, got 3: 1: MR"),
    ],
)
def test_scouts_and_parts_of_series_are_listed(name, message):
    with pytest.raises(FormatError, match=message):
        read(pydicom_file("DICOMDIR").parent / name)


def test_labels_of_a_series_are_a_seg_of_its_slices(tmp_path):
    folder = series(tmp_path / "ct")
    output = tmp_path / "labels.dcm"
    boxes = ["--box", "10,20,1,50,60,3", "--box", "70,20,2,110,60,4"]
    assert main(["segment", str(folder), *boxes, "-o", str(output)]) == 0
    written = highdicom.seg.segread(output)
    sources = {
        dataset.SOPInstanceUID: dataset
        for dataset in (pydicom.dcmread(path) for path in folder.glob("*.dcm"))
    }
    by_position = sorted(sources, key=lambda uid: sources[uid].ImagePositionPatient[2])
    labels = written.get_pixels_by_source_instance(by_position, combine_segments=True)
    assert labels.shape == (6, 128, 128)
    for number, (x, y, z) in enumerate([(30, 40, 2), (90, 40, 3)], 1):
        assert labels[z, y, x] == number
        places = np.argwhere(labels == number)
        assert places[:, 0].min() == z - 1
        assert places[:, 0].max() == z + 1
    first = sources[by_position[0]]
    assert written.FrameOfReferenceUID == first.FrameOfReferenceUID
    assert written.PatientID == first.PatientID
    assert [each.SegmentLabel for each in written.SegmentSequence] == ["Object 1", "Object 2"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"step": 0.0},
            "--volume, got 6: 1: 1 of 6 at each position, grey axial image of 128 x 128",
        ),
        ({"ImagePositionPatient": None}, "--volume, got 6: 1: grey image of 128 x 128"),
        ({"SeriesInstanceUID": "EACH"}, "choose with --series, got 6: 1: CT"),
    ],
)
def test_of_what_is_no_stack_of_slices_one_is_chosen(tmp_path, change, message):
    folder = series(tmp_path / "ct", **({} if "EACH" in change.values() else change))
    if "EACH" in change.values():
        for path in folder.glob("*.dcm"):
            dataset = pydicom.dcmread(path)
            dataset.SeriesInstanceUID = generate_uid()
            dataset.save_as(path)
    with pytest.raises(FormatError, match=message):
        read(folder)


def test_a_missing_slice_is_noticed(tmp_path, caplog):
    folder = series(tmp_path / "ct")
    (folder / "1.dcm").unlink()
    words = ["segment", str(folder), "--box", "left=10,20,1,50,60,3"]
    assert main([*words, "-o", str(tmp_path / "a.dcm")]) == 0
    assert "Slices lie 2.5 to 5 mm apart, most between 3.dcm and 6.dcm" in caplog.text
    assert pydicom.dcmread(tmp_path / "a.dcm").SegmentSequence[0].SegmentLabel == "left"
    assert main([*words, "-o", str(tmp_path / "a.nii")]) == 2
    assert "NIfTI has slices at even distances in a line" in caplog.text


@pytest.mark.parametrize("chosen", ["3", "UID"])
def test_one_of_several_series_is_chosen(tmp_path, chosen):
    folder = series(tmp_path / "ct", SeriesNumber=3)
    dataset = pydicom.dcmread(pydicom_file("MR_small.dcm"))
    dataset.save_as(folder / "other.dcm")
    uid = pydicom.dcmread(folder / "0.dcm").SeriesInstanceUID
    found = open_scan(folder, series=str(uid) if chosen == "UID" else chosen)
    assert found.pixels.shape == (6, 128, 128)
    with pytest.raises(FormatError, match=r"must hold a series 7, got 3: CT, 6 files, UID"):
        open_scan(folder, series="7")


@pytest.mark.parametrize("orientation", [[1, 0, 0, 0, 1, 0], [0, 0.6, 0.8, 1, 0, 0]])
def test_labels_of_a_series_are_also_nifti_in_its_place(tmp_path, orientation):
    """The affine leads voxels where the positions of the slices say, with x and y turned."""
    folder = series(tmp_path / "ct", ImageOrientationPatient=orientation, PixelSpacing=[0.7, 0.5])
    row, column = np.array(orientation).reshape(2, 3)
    normal = np.cross(row, column)
    for path in folder.glob("*.dcm"):
        dataset = pydicom.dcmread(path)
        along = 2.5 * (dataset.InstanceNumber - 1)
        dataset.ImagePositionPatient = list(np.array([10, 20, 30]) + along * normal)
        dataset.save_as(path)
    output = tmp_path / "labels.nii.gz"
    assert main(["segment", str(folder), "--box", "10,20,1,50,60,3", "-o", str(output)]) == 0
    written = nibabel.load(output)
    labels = np.asarray(written.dataobj)
    assert labels.shape == (128, 128, 6)
    assert labels[30, 40].tolist() == [0, 1, 1, 1, 0, 0]
    for i, j, k in [(0, 0, 0), (3, 0, 0), (0, 5, 0), (7, 8, 2)]:
        place = np.array([10, 20, 30]) + 0.5 * i * row + 0.7 * j * column + 2.5 * k * normal
        found = written.affine @ [i, j, k, 1]
        np.testing.assert_allclose(found[:3], place * [-1, -1, 1], atol=1e-4)


def test_labels_of_one_image_are_also_png(tmp_path):
    words = ["segment", str(pydicom_file("CT_small.dcm")), "--box", "10,20,50,60"]
    assert main([*words, "-o", str(tmp_path / "a.png")]) == 0
    assert cv2.imread(str(tmp_path / "a.png"), cv2.IMREAD_UNCHANGED)[40, 30] == 1


def enhanced(path: Path, *, slope=2.0, intercept=-1024.0, step=SPACING_MM) -> np.ndarray:
    """Write an enhanced CT whose frames lie in another order than they are stored; return HU."""
    dataset = pydicom.dcmread(pydicom_file("CT_small.dcm"))
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = EnhancedCTImageStorage
    for name in ("ImagePositionPatient", "ImageOrientationPatient", "RescaleSlope"):
        delattr(dataset, name)
    dataset.NumberOfFrames = count = 8
    dataset.PixelRepresentation = 0
    measures, shared, orientation = pydicom.Dataset(), pydicom.Dataset(), pydicom.Dataset()
    orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    shared.PlaneOrientationSequence = [orientation]
    measures.PixelSpacing, measures.SliceThickness = dataset.PixelSpacing, step
    shared.PixelMeasuresSequence = [measures]
    dataset.SharedFunctionalGroupsSequence = [shared]
    dataset.PerFrameFunctionalGroupsSequence = [pydicom.Dataset() for _ in range(count)]
    stored = np.zeros((count, dataset.Rows, dataset.Columns), np.uint16)
    places = [(number * 3) % count for number in range(count)]
    for frame, place in enumerate(places):
        stored[frame] = 500 + 10 * place
        group = dataset.PerFrameFunctionalGroupsSequence[frame]
        value = pydicom.Dataset()
        value.RescaleSlope, value.RescaleIntercept, value.RescaleType = slope, intercept, "HU"
        group.PixelValueTransformationSequence = [value]
        position = pydicom.Dataset()
        position.ImagePositionPatient = [0, 0, step * place]
        group.PlanePositionSequence = [position]
    dataset.PixelData = stored.tobytes()
    dataset.save_as(path)
    return slope * (500 + 10 * np.arange(count)) + intercept


def test_frames_of_an_enhanced_file_are_rescaled_and_in_order(tmp_path):
    units = enhanced(tmp_path / "a.dcm")
    scan = read(tmp_path / "a.dcm", IntensityWindow(0, 510))
    expected = np.clip(np.rint((units + 255) / 2), 0, 255)
    np.testing.assert_allclose(scan.pixels[:, 3, 4], expected, atol=1)
    assert ".nii.gz" in scan.label_suffixes


def test_labels_of_an_enhanced_file_are_a_seg_of_its_frames(tmp_path):
    enhanced(tmp_path / "a.dcm")
    output, as_nifti = tmp_path / "labels.dcm", tmp_path / "labels.nii"
    words = ["segment", str(tmp_path / "a.dcm"), "--box", "10,20,1,50,60,3"]
    assert main([*words, "-o", str(output)]) == 0
    assert main([*words, "-o", str(as_nifti)]) == 0
    source = pydicom.dcmread(tmp_path / "a.dcm")
    frames = range(1, int(source.NumberOfFrames) + 1)
    labels = highdicom.seg.segread(output).get_pixels_by_source_frame(
        source.SOPInstanceUID,
        list(frames),
        combine_segments=True,
        ignore_spatial_locations=True,
        assert_missing_frames_are_empty=True,
    )
    places = [
        round(group.PlanePositionSequence[0].ImagePositionPatient[2] / SPACING_MM)
        for group in source.PerFrameFunctionalGroupsSequence
    ]
    of_nifti = np.asarray(nibabel.load(as_nifti).dataobj)
    for frame, place in enumerate(places):
        assert labels[frame].any() == (1 <= place <= 3)
        np.testing.assert_array_equal(labels[frame].T, of_nifti[..., place])


def test_a_broken_slice_is_named_and_not_left_out(tmp_path):
    folder = series(tmp_path / "ct")
    whole = (folder / "0.dcm").read_bytes()
    (folder / "0.dcm").write_bytes(whole[:1500])
    with pytest.raises(FormatError, match=r"ct/0\.dcm must have pixels, it may have been cut off"):
        read(folder)


def test_padding_is_no_measurement(tmp_path):
    dataset = pydicom.dcmread(pydicom_file("MR_small.dcm"))
    expected = read(pydicom_file("MR_small.dcm")).pixels
    values = dataset.pixel_array.copy()
    values[:10] = -2000
    dataset.PixelData = values.tobytes()
    dataset.PixelPaddingValue = 63536  # -2000 without its sign
    dataset["PixelPaddingValue"].VR = "US"
    dataset.save_as(tmp_path / "a.dcm")
    found = read(tmp_path / "a.dcm")
    assert not found.pixels[:10].any()
    assert np.abs(found.pixels[10:].astype(int) - expected[10:]).max() < 20
    assert "640 values are no measurement" in found.remarks[0]


@pytest.mark.parametrize(
    ("image_type", "is_mosaic"),
    [
        (["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"], True),
        (["ORIGINAL", "PRIMARY", "M", "ND"], False),
        ("MOSAIC", True),
        ("MOSAICS", False),
        (None, False),
    ],
    ids=["mosaic", "slice", "alone", "another-word", "none"],
)
def test_a_mosaic_is_seen_as_one_picture_with_a_warning(tmp_path, image_type, is_mosaic):
    dataset = pydicom.dcmread(pydicom_file("MR_small.dcm"))
    slices = np.arange(1, 5, dtype=np.int16)[:, None, None] * np.full((4, 32, 32), 100, np.int16)
    tiles = slices.reshape(2, 2, 32, 32).transpose(0, 2, 1, 3).reshape(64, 64)
    dataset.Rows, dataset.Columns, dataset.PixelData = 64, 64, tiles.tobytes()
    if image_type is None:
        del dataset.ImageType
    else:
        dataset.ImageType = image_type
    dataset.save_as(tmp_path / "mosaic.dcm")
    found = read(tmp_path / "mosaic.dcm")
    assert (found.pixels.shape, found.is_volume) == ((64, 64), False)
    np.testing.assert_array_equal(found.values, tiles)
    said = (
        "mosaic.dcm is a mosaic, the slices of a volume as tiles of one picture: it is seen as "
        "that picture, of which boxes and labels are, and its place in the patient is not that of "
        "the slices."
    )
    assert (said in found.remarks) == is_mosaic
    assert any("mosaic, " in remark for remark in found.remarks) == is_mosaic


def test_the_window_of_the_file_may_be_chosen(tmp_path):
    dataset = pydicom.dcmread(pydicom_file("CT_small.dcm"))
    dataset.WindowCenter, dataset.WindowWidth = [30, 40], [300, 80]
    dataset.save_as(tmp_path / "IM0001")  # without a suffix, as on a disc
    found = open_scan(tmp_path / "IM0001", "file")
    np.testing.assert_array_equal(
        found.pixels, read(pydicom_file("CT_small.dcm"), IntensityWindow(30, 300)).pixels
    )
    assert found.described_window == "window file, -120 to 180"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("image_dfl.dcm", "deflated as a whole"),
        ("JPGExtended.dcm", "12-bit"),
        ("SC_rgb_jpeg_gdcm.dcm", None),
        ("JPEG2000.dcm", None),
    ],
)
def test_most_compressed_files_are_read(name, message):
    path = pydicom_file(name)
    if message is None:
        assert read(path).pixels.std() > 1
        return
    with pytest.raises(FormatError, match=message):
        read(path)


def test_what_does_not_fit_is_refused_before_it_is_decoded(monkeypatch):
    monkeypatch.setattr("qmedsam.formats.scan.largest_array_bytes", lambda: 9999)
    with pytest.raises(FormatError, match=r"must hold 2499 values at most .* got 16384"):
        read(pydicom_file("CT_small.dcm"))


def test_names_of_objects_may_be_in_any_script(tmp_path):
    folder = series(
        tmp_path / "ct", PatientName="M\xfcller^Anna", SpecificCharacterSet="ISO_IR 100"
    )
    words = ["segment", str(folder), "--box", "左=10,20,1,50,60,3"]
    assert main([*words, "-o", str(tmp_path / "a.dcm")]) == 0
    written = pydicom.dcmread(tmp_path / "a.dcm")
    assert written.SegmentSequence[0].SegmentLabel == "左"
    assert str(written.PatientName) == "Müller^Anna"


def test_an_object_of_which_nothing_was_found_keeps_its_segment(tmp_path):
    scan = read(series(tmp_path / "ct"))
    label_map = np.zeros(scan.label_shape, np.uint8)
    label_map[2, 5:9, 5:9] = 1
    (tmp_path / "a.dcm").write_bytes(scan.encode(label_map, ".dcm", scan.notes_of(["a", "b"])))
    written = pydicom.dcmread(tmp_path / "a.dcm")
    assert [each.SegmentLabel for each in written.SegmentSequence] == ["a", "b"]


@pytest.mark.parametrize("content", [b"", b"text" * 99])
def test_a_file_that_is_no_dicom_is_named(tmp_path, content):
    (tmp_path / "a.dcm").write_bytes(content)
    for path in (tmp_path / "a.dcm", tmp_path):
        with pytest.raises(FormatError, match=r"a\.dcm must be DICOM, got something else"):
            read(path)


def test_truncated_pixels_are_named():
    with pytest.raises(
        FormatError, match=r"MR_truncated\.dcm must have 8192 bytes of pixels, got 8130"
    ):
        read(pydicom_file("MR_truncated.dcm"))


def test_a_volume_is_chosen_and_labels_straightened_by_options(tmp_path, caplog):
    folder = series(tmp_path / "ct", EchoTime=5)
    for path in sorted(folder.glob("*.dcm")):
        dataset = pydicom.dcmread(path)
        x, y, z = dataset.ImagePositionPatient
        dataset.ImagePositionPatient = [x, y + z / 4, z]
        dataset.save_as(path)
        dataset.EchoTime, dataset.SOPInstanceUID = 10, generate_uid()
        dataset.save_as(folder / f"second_{path.name}")
    words = ["segment", str(folder), "--box", "10,20,1,50,60,3", "-o", str(tmp_path / "a.nii")]
    assert main(words) == 2
    assert "choose with --volume, got 2: 1: echo time 5, 6 axial slices" in caplog.text
    assert main([*words, "--volume", "2"]) == 0
    sheared = nibabel.load(tmp_path / "a.nii").affine
    assert main([*words, "--volume", "2", "--straighten"]) == 0
    words[-1] = str(tmp_path / "a.dcm")
    assert main([*words, "--volume", "2", "--straighten"]) == 2
    assert "--straighten goes with labels in NIfTI, and does" in caplog.text
    written = nibabel.load(tmp_path / "a.nii")
    assert abs(sheared[:3, 2] @ sheared[:3, 1]) > 0.1
    assert abs(written.affine[:3, 2] @ written.affine[:3, 1]) < 1e-6
    assert written.shape[1] > 128


@pytest.mark.parametrize("number", ["0", "-1", "x", "1.5"])
def test_a_volume_is_counted_from_1(number, capsys):
    with pytest.raises(SystemExit):
        main(["segment", "ct", "--box", "1,1,2,2", "-o", "a.nii", "--volume", number])
    assert "must be a number of 1 or more" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--series", "1"], "A series can be chosen of DICOM alone"),
        (["--volume", "1"], "A volume can be chosen of DICOM, NIfTI, NRRD and MetaImage alone"),
        (["--straighten"], "Slices can be straightened of DICOM alone"),
    ],
)
def test_choices_of_dicom_are_not_ignored_of_other_files(tmp_path, options, message, caplog):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((30, 30), np.uint8))
    words = ["segment", str(tmp_path / "a.png"), "--box", "1,1,9,9", "-o", str(tmp_path / "b.png")]
    if "--straighten" in options:
        words[-1] = str(tmp_path / "b.nii")
    assert main([*words, *options]) == 2
    assert f"{message}, not of {tmp_path / 'a.png'}" in caplog.text


@pytest.mark.parametrize("output", ["b.npz", "b.dcm"])
@pytest.mark.parametrize("command", ["segment", "convert"])
def test_what_is_no_nifti_is_not_straightened(tmp_path, command, output, caplog):
    words = [command, str(series(tmp_path / "ct")), "--box", "10,20,1,50,60,3", "--straighten"]
    assert main([*words, "-o", str(tmp_path / output)]) == 2
    assert f"--straighten goes with labels in NIfTI, and does nothing to {tmp_path}" in caplog.text
    assert not (tmp_path / output).exists()
