"""What of a series is a volume, and which one is taken."""

from __future__ import annotations

import io

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import EnhancedMRImageStorage, SecondaryCaptureImageStorage

from qmedsam.formats.dispatch import open_scan
from qmedsam.formats.scan import FormatError, SeveralVolumesError
from qmedsam.formats.writing import encode_labels
from tests.qmedsam.formats.dicom.conftest import HW, STEP_MM, ct_slice, save, write_series

FLAT = "slices of 10 x 8, 0.5 x 0.7 mm"


def phases(folder, count=2, depth=3, order="by phase", **traits):
    """Write slices of several phases, whose values are 100 times the phase plus the slice.

    Args:
        folder: to write to.
        count: of phases.
        depth: of each.
        order: of the numbers of the files.
        traits: functions of phase and slice by keyword; of None the attribute is absent.
    """
    for phase in range(count):
        for z in range(depth):
            number = phase * depth + z if order == "by phase" else z * count + phase
            dataset = ct_slice(z, InstanceNumber=number + 1)
            dataset.SOPInstanceUID = f"1.2.3.4.5.{number + 1}"
            dataset.PixelData = np.full(HW, 100 * phase + z + 1024, np.int16).tobytes()
            for keyword, value_of in traits.items():
                if value_of(phase, z) is not None:
                    setattr(dataset, keyword, value_of(phase, z))
            save(dataset, folder / f"IM{number:04}.dcm")
    return folder


def values(folder, number):
    """Return the values of a volume's slices."""
    return open_scan(folder, series=None, volume=number)._values[..., 0, 0].tolist()


def listed(folder):
    """Return what there is to choose from."""
    with pytest.raises(SeveralVolumesError) as caught:
        open_scan(folder)
    return [text for _, text in caught.value.choices]


@pytest.mark.parametrize(
    ("keyword", "word", "first", "second"),
    [
        ("EchoTime", "echo time", "5", "10"),
        ("DiffusionBValue", "b-value", 0.0, 1000.0),
        ("TemporalPositionIdentifier", "time point", "1", "2"),
        ("TriggerTime", "trigger time", "0", "40.5"),
        ("AcquisitionNumber", "acquisition", "1", "2"),
        ("ConvolutionKernel", "kernel", "soft", "bone"),
        ("ContentTime", "content time", "101010", "101020"),
        ("EchoNumbers", "echo", "1", "2"),
        ("InversionTime", "inversion time", "100", "300.5"),
        ("FlipAngle", "flip angle", "15", "30"),
        ("NominalPercentageOfCardiacPhase", "percentage of the cardiac phase", 20.0, 70.0),
        ("ComplexImageComponent", "component", "MAGNITUDE", "PHASE"),
        ("KVP", "kVp", "80", "140"),
        ("FrameReferenceTime", "reference time", "0", "500"),
        ("AcquisitionTime", "acquisition time", "101010", "101020"),
    ],
)
@pytest.mark.parametrize("order", ["by phase", "by slice"])
def test_what_the_files_say_tells_volumes_apart(tmp_path, keyword, word, first, second, order):
    folder = phases(
        tmp_path / "ct", order=order, **{keyword: lambda phase, z: (first, second)[phase]}
    )
    form = "g" if isinstance(first, float) else ""
    assert listed(folder) == [
        f"{word} {first:{form}}, 3 axial {FLAT}, IM0000.dcm",
        f"{word} {second:{form}}, 3 axial {FLAT}, IM000{3 if order == 'by phase' else 1}.dcm",
    ]
    assert values(folder, 1) == [0, 1, 2]
    assert values(folder, 2) == [100, 101, 102]


def test_values_of_several_parts_tell_volumes_apart(tmp_path):
    kinds = (["ORIGINAL", "PRIMARY", "M"], ["ORIGINAL", "PRIMARY", "P"])
    folder = phases(tmp_path / "type", ImageType=lambda phase, z: kinds[phase])
    texts = [text.split(", 3 axial")[0] for text in listed(folder)]
    assert texts == [r"type ORIGINAL\PRIMARY\M", r"type ORIGINAL\PRIMARY\P"]
    directions = ([1.0, 0.0, 0.0], [0.0, 1.0, 0.0])
    folder = phases(
        tmp_path / "gradient", DiffusionGradientOrientation=lambda phase, z: directions[phase]
    )
    assert [values(folder, number) for number in (1, 2)] == [[0, 1, 2], [100, 101, 102]]
    assert listed(folder)[1].startswith("gradient ")


def test_two_traits_may_be_needed(tmp_path):
    """Two echoes of two acquisitions, in the order of the page: echo time comes first."""
    folder = phases(
        tmp_path / "mr",
        count=4,
        EchoTime=lambda phase, z: (5, 5, 10, 10)[phase],
        AcquisitionNumber=lambda phase, z: (1, 2, 1, 2)[phase],
    )
    assert [text.split(", 3 axial")[0] for text in listed(folder)] == [
        "echo time 5, acquisition 1",
        "echo time 5, acquisition 2",
        "echo time 10, acquisition 1",
        "echo time 10, acquisition 2",
    ]
    assert [values(folder, number)[0] for number in (1, 2, 3, 4)] == [0, 100, 200, 300]


def test_the_choice_is_part_of_the_message(tmp_path):
    folder = phases(tmp_path / "ct", EchoTime=lambda phase, z: phase)
    with pytest.raises(FormatError, match=r"choose with --volume, got 2: 1: echo time 0.*; 2: "):
        open_scan(folder)
    with pytest.raises(FormatError, match="must hold a volume 3, got 1 to 2"):
        open_scan(folder, volume=3)
    with pytest.raises(FormatError, match="must hold a volume 2, got 1 to 1"):
        open_scan(write_series(tmp_path / "one"), volume=2)
    assert open_scan(tmp_path / "one", volume=1).pixels.shape == (5, 8, 10)


def test_a_time_of_each_slice_makes_no_volumes(tmp_path):
    """A clock that runs on tells no phases apart; the order of the files does."""
    folder = phases(tmp_path / "ct", AcquisitionTime=lambda phase, z: f"1010{10 * phase + z:02}")
    assert listed(folder) == [
        f"1 of 2 at each position, 3 axial {FLAT}, IM0000.dcm",
        f"2 of 2 at each position, 3 axial {FLAT}, IM0003.dcm",
    ]
    assert values(folder, 2) == [100, 101, 102]


def test_files_may_be_numbered_by_slice(tmp_path):
    folder = phases(tmp_path / "ct", count=3, order="by slice")
    assert [values(folder, number) for number in (1, 2, 3)] == [
        [0, 1, 2],
        [100, 101, 102],
        [200, 201, 202],
    ]


def test_two_traits_and_the_order_may_be_needed(tmp_path):
    """Two images without diffusion, and one each of b-values 500 and 1000."""
    b_values = (None, None, 500, 1000)
    folder = phases(tmp_path / "mr", count=4, DiffusionBValue=lambda phase, z: b_values[phase])
    assert [text.split(", 3 axial")[0] for text in listed(folder)] == [
        "no b-value, 1 of 2 at each position",
        "no b-value, 2 of 2 at each position",
        "b-value 500",
        "b-value 1000",
    ]
    assert [values(folder, number)[0] for number in (1, 2, 3, 4)] == [0, 100, 200, 300]


def test_a_trait_that_cuts_through_the_stack_makes_no_volumes(tmp_path):
    """One of phases is told by the order, though the dose differs from slice to slice."""
    folder = phases(tmp_path / "ct", KVP=lambda phase, z: 100 + z)
    assert [values(folder, number) for number in (1, 2)] == [[0, 1, 2], [100, 101, 102]]


def test_a_phase_that_ended_early_is_a_shorter_volume(tmp_path):
    folder = phases(tmp_path / "ct", count=3)
    (folder / "IM0008.dcm").unlink()
    assert values(folder, 2) == [100, 101, 102]
    assert values(folder, 3) == [200, 201]


@pytest.mark.parametrize(("order", "second"), [("by phase", 3), ("by slice", 1)])
def test_phases_of_which_a_slice_is_missing_are_not_mixed(tmp_path, order, second):
    folder = phases(tmp_path / "ct", count=3, order=order)
    (folder / "IM0004.dcm").unlink()
    message = rf"IM0000\.dcm and IM000{second}\.dcm must lie at different positions"
    with pytest.raises(FormatError, match=message):
        open_scan(folder)


def renumbered(folder, names):
    """Take the numbers of files away, and give them other names."""
    for number, name in enumerate(names):
        path = folder / f"IM{number:04}.dcm"
        dataset = pydicom.dcmread(path)
        del dataset.InstanceNumber
        path.unlink()
        save(dataset, folder / f"{name}.dcm")
    return folder


@pytest.mark.parametrize(
    "names", [["a8", "a9", "a10", "b1", "b2", "b3"], ["1a", "2a", "3a", "10a", "20a", "30a"]]
)
def test_without_numbers_the_names_of_files_give_their_order(tmp_path, names):
    folder = renumbered(phases(tmp_path / "ct"), names)
    assert values(folder, 1) == [0, 1, 2]
    assert values(folder, 2) == [100, 101, 102]


def test_numbers_that_begin_anew_with_each_phase_are_no_order(tmp_path):
    folder = phases(tmp_path / "ct", InstanceNumber=lambda phase, z: 3 - z)
    assert values(folder, 1) == [0, 1, 2]
    assert values(folder, 2) == [100, 101, 102]


def test_an_order_that_tells_nothing_makes_no_volumes(tmp_path):
    """Names at random would mix the phases."""
    folder = renumbered(phases(tmp_path / "ct"), ["d", "a", "e", "b", "c", "f"])
    with pytest.raises(FormatError, match=r"ct: .* must lie at different positions, or say of wh"):
        open_scan(folder)


def test_a_missing_slice_of_a_phase_that_is_told_is_a_gap(tmp_path):
    folder = phases(tmp_path / "ct", count=3, depth=4, EchoTime=lambda phase, z: phase)
    (folder / "IM0005.dcm").unlink()
    scan = open_scan(folder, volume=2)
    assert scan._values[:, 0, 0].tolist() == [100, 102, 103]
    assert "most between IM0004.dcm and IM0006.dcm" in scan.remarks[0]


@pytest.mark.parametrize(
    ("attributes", "texts"),
    [
        ({"PixelSpacing": [2, 2]}, (f"3 axial {FLAT}", "2 axial slices of 10 x 8, 2 x 2 mm")),
        ({"PixelSpacing": None}, (f"3 axial {FLAT}", "2 axial slices of 10 x 8")),
        ({"FrameOfReferenceUID": "1.2.77"}, (f"3 axial {FLAT}", f"2 axial {FLAT}")),
        (
            {"ImageOrientationPatient": [1, 0, 0, 0, 0, -1]},
            (f"3 axial {FLAT}", "coronal", "coronal"),
        ),
        (
            {"Rows": 4, "PixelData": bytes(80)},
            (f"3 axial {FLAT}", "2 axial slices of 10 x 4, 0.5 x 0.7 mm"),
        ),
        ({"ImagePositionPatient": None}, (f"3 axial {FLAT}", "grey image", "grey image")),
    ],
    ids=["spacing", "no-spacing", "frame-of-reference", "orientation", "size", "no-position"],
)
def test_slices_that_do_not_fit_together_are_named_and_apart(tmp_path, attributes, texts):
    def change(number, dataset):
        if number in (2, 4):
            for keyword, value in attributes.items():
                dataset.pop(keyword) if value is None else setattr(dataset, keyword, value)
            if "ImageOrientationPatient" in attributes:
                dataset.ImagePositionPatient = [5, number, 5]

    folder = write_series(tmp_path / "ct", change=change)
    found = listed(folder)
    if len(texts) == 3 and "coronal" in texts:
        texts = (texts[0], f"2 coronal {FLAT}")
    assert len(found) == len(texts)
    for text, expected in zip(found, texts, strict=True):
        assert expected in text
    assert found[0].endswith("IM0000.dcm")
    assert found[1].endswith("IM0002.dcm")


def test_what_differs_within_rounding_is_one_volume(tmp_path):
    def change(number, dataset):
        dataset.PixelSpacing = [0.7 + 0.0001 * number, 0.5]
        dataset.ImageOrientationPatient = [1, 0.0001 * number, 0, 0, 1, 0]

    assert open_scan(write_series(tmp_path / "ct", change=change)).pixels.shape == (5, 8, 10)


def test_images_without_places_are_taken_one_at_a_time(tmp_path):
    def change(number, dataset):
        dataset.SOPClassUID = SecondaryCaptureImageStorage
        del dataset.ImagePositionPatient, dataset.ImageOrientationPatient

    folder = write_series(tmp_path / "sc", 3, change)
    assert len(listed(folder)) == 3
    scan = open_scan(folder, volume=2)
    assert (scan.is_volume, scan._values[0, 0]) == (False, -900)
    assert scan.label_suffixes == (".dcm", ".png")


def colour_clip(path, frames=12):
    """Write a clip whose frames have their number as red."""
    dataset = ct_slice(SOPClassUID=SecondaryCaptureImageStorage)
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 3, "RGB"
    dataset.PlanarConfiguration, dataset.NumberOfFrames = 0, frames
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    pixels = np.zeros((frames, *HW, 3), np.uint8)
    pixels[..., 0] = np.arange(1, frames + 1)[:, None, None]
    dataset["PixelData"].VR = "OB"
    dataset.PixelData = pixels.tobytes()
    return save(dataset, path)


def test_a_frame_of_a_colour_clip_is_chosen(tmp_path):
    path = colour_clip(tmp_path / "clip.dcm")
    with pytest.raises(SeveralVolumesError, match=r"got 12: 1: colour .*; 8: .*; \.\.\.$"):
        open_scan(path)
    scan = open_scan(path, volume=7)
    assert scan.pixels.shape == (8, 10, 3)
    assert scan.pixels[0, 0].tolist() == [7, 0, 0]
    assert scan.label_suffixes == (".dcm", ".png")
    content = encode_labels(scan, np.ones(HW, bool), name="a.dcm", notes=scan.notes_of([""]))
    (group,) = pydicom.dcmread(io.BytesIO(content)).PerFrameFunctionalGroupsSequence
    (item,) = group.DerivationImageSequence[0].SourceImageSequence
    assert item.ReferencedFrameNumber == 7


def test_frames_of_a_grey_clip_are_a_volume_as_stored(tmp_path):
    dataset = ct_slice(SOPClassUID=SecondaryCaptureImageStorage, NumberOfFrames=4)
    del dataset.ImagePositionPatient, dataset.ImageOrientationPatient
    stored = np.array([30, 10, 40, 20], np.int16)[:, None, None]
    dataset.PixelData = np.broadcast_to(stored + 1024, (4, *HW)).tobytes()
    scan = open_scan(save(dataset, tmp_path / "clip.dcm"))
    assert scan._values[:, 0, 0].tolist() == [30, 10, 40, 20]


def test_of_a_clip_only_the_chosen_frame_needs_memory(tmp_path, monkeypatch):
    path = colour_clip(tmp_path / "clip.dcm")
    monkeypatch.setattr("qmedsam.formats.scan.largest_array_bytes", lambda: 4 * 240)
    assert open_scan(path, volume=12).pixels[0, 0, 0] == 12


def enhanced(path, places, **of_frames):
    """Write an enhanced MR image whose frames have their number as value.

    Args:
        path: of the file.
        places: z of each frame.
        of_frames: values of each frame by `sequence__keyword`.
    """
    dataset = ct_slice(SOPClassUID=EnhancedMRImageStorage, Modality="MR", RescaleSlope=None)
    del dataset.ImagePositionPatient, dataset.ImageOrientationPatient, dataset.RescaleIntercept
    dataset.NumberOfFrames = len(places)
    shared, measures, orientation = Dataset(), Dataset(), Dataset()
    orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    measures.PixelSpacing = [0.7, 0.5]
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [orientation], [measures]
    dataset.SharedFunctionalGroupsSequence = [shared]
    dataset.PerFrameFunctionalGroupsSequence = []
    for frame, place in enumerate(places):
        group, position = Dataset(), Dataset()
        position.ImagePositionPatient = [0, 0, place]
        group.PlanePositionSequence = [position]
        for name, by_frame in of_frames.items():
            sequence, keyword = name.split("__")
            item = group.get(sequence, [Dataset()])[0]
            setattr(item, keyword, by_frame[frame])
            setattr(group, sequence, [item])
        dataset.PerFrameFunctionalGroupsSequence.append(group)
    stored = np.arange(len(places), dtype=np.int16)[:, None, None]
    dataset.PixelData = np.broadcast_to(stored, (len(places), *HW)).tobytes()
    return save(dataset, path)


def test_echoes_of_an_enhanced_file_are_volumes(tmp_path):
    path = enhanced(
        tmp_path / "a.dcm",
        [0, 0, 2, 2, 4, 4],
        MREchoSequence__EffectiveEchoTime=[1.5, 3.0] * 3,
    )
    assert listed(path) == [
        f"echo time 1.5, 3 axial {FLAT}, a.dcm",
        f"echo time 3, 3 axial {FLAT}, a.dcm",
    ]
    assert values(path, 2) == [1, 3, 5]


@pytest.mark.parametrize(
    ("place", "word", "first", "second"),
    [
        ("MRDiffusionSequence__DiffusionBValue", "b-value", 0.0, 800.0),
        ("MRModifierSequence__InversionTimes", "inversion time", 100.0, 300.0),
        ("MRTimingAndRelatedParametersSequence__FlipAngle", "flip angle", 15.0, 30.0),
        ("FrameContentSequence__TemporalPositionIndex", "time point", 1, 2),
        ("FrameContentSequence__FrameAcquisitionNumber", "acquisition", 1, 2),
        ("MRImageFrameTypeSequence__ComplexImageComponent", "component", "REAL", "PHASE"),
        ("MRImageFrameTypeSequence__FrameType", "type", "A", "B"),
        ("CTReconstructionSequence__ConvolutionKernel", "kernel", "soft", "bone"),
        ("CTXRayDetailsSequence__KVP", "kVp", 80.0, 140.0),
        (
            "CardiacSynchronizationSequence__NominalPercentageOfCardiacPhase",
            "percentage of the cardiac phase",
            20.0,
            70.0,
        ),
        (
            "CardiacSynchronizationSequence__NominalCardiacTriggerDelayTime",
            "trigger delay",
            0.5,
            1.5,
        ),
    ],
)
def test_what_an_enhanced_file_says_of_frames_tells_volumes_apart(
    tmp_path, place, word, first, second
):
    path = enhanced(tmp_path / "a.dcm", [0, 0, 2, 2, 4, 4], **{place: [first, second] * 3})
    assert all(text.startswith(f"{word} ") for text in listed(path))
    assert [values(path, number) for number in (1, 2)] == [[0, 2, 4], [1, 3, 5]]


def test_stacks_of_an_enhanced_file_are_volumes(tmp_path):
    """Two stacks that lie one above the other would make one with a gap."""
    path = enhanced(tmp_path / "a.dcm", [0, 2, 4, 40, 42], FrameContentSequence__StackID=[*"11122"])
    assert values(path, 1) == [0, 1, 2]
    assert values(path, 2) == [3, 4]


def test_a_stack_of_each_frame_is_none(tmp_path):
    path = enhanced(tmp_path / "a.dcm", [0, 2, 4], FrameContentSequence__StackID=[*"123"])
    assert open_scan(path).pixels.shape == (3, 8, 10)


def test_files_of_frames_may_be_one_volume_or_several(tmp_path):
    for number, places in enumerate([[0, 2], [4, 6]]):
        path = enhanced(tmp_path / "mr" / f"{number}.dcm", places)
        dataset = pydicom.dcmread(path)
        dataset.SOPInstanceUID = f"1.2.3.4.5.{number + 1}"
        save(dataset, path)
    scan = open_scan(tmp_path / "mr")
    assert scan._values[:, 0, 0].tolist() == [0, 1, 0, 1]
    assert scan._grid is not None
    assert scan._grid.affine[2, 2] == STEP_MM


def test_why_slices_are_apart_is_said(tmp_path):
    def change(number, dataset):
        if number == 2:
            dataset.ImageOrientationPatient = [0] * 6

    folder = write_series(tmp_path / "ct", change=change)
    with pytest.raises(
        FormatError, match=r"got 2: .* \(.*IM0002\.dcm: ImageOrientationPatient must"
    ):
        open_scan(folder)
