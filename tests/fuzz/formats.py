"""Fuzzing of what reads a stranger's file in another format: headers, values and labels.

Whatever comes, there is an image of which labels can be written, or an error of one line, and
memory stays near what the limit leaves for an image.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import nibabel
import numpy as np
import SimpleITK
import tifffile
from pydicom.encaps import encapsulate
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
    SecondaryCaptureImageStorage,
    UltrasoundMultiFrameImageStorage,
)

from qmedsam.errors import InferenceError
from qmedsam.formats.conversion import read_labels
from qmedsam.formats.dispatch import open_scan, read_scan
from qmedsam.formats.label_notes import LabelNotes
from qmedsam.formats.scan import Scan, SeveralSeriesError, SeveralVolumesError
from qmedsam.formats.statistics import statistics_of
from qmedsam.formats.suffixes import RTSTRUCT, SEG
from qmedsam.formats.writing import encode_labels
from qmedsam.system import memory
from tests.qmedsam.formats.dicom.conftest import HW, ct_slice, save, with_raw, write_series
from tests.qmedsam.formats.dicom.test_corruption import IN_DATASET, KINDS

FOUND = Path(__file__).with_name("corpus")  # a folder a format, of what the fuzzer once found
LIMIT_BYTES = memory.BASE_BYTES + (40 << 20)  # of memory: an image may take 8 MiB of it
MOST_BYTES = 256 << 20  # that an input may take, an image and all that is made of it
VALUES = b"VALUES"  # what an input begins with whose rest replaces attributes of a slice of CT
NOTES = LabelNotes("as it is", ("a",))


@contextmanager
def bounded_memory() -> Iterator[None]:
    """Let readers see a small limit, and fail where more is taken all the same."""
    limit = memory.memory_limit_bytes
    memory.memory_limit_bytes = lambda: LIMIT_BYTES
    memory.reset_peak_memory()
    before = memory.peak_memory_bytes()
    try:
        yield
    finally:
        memory.memory_limit_bytes = limit
    taken = memory.peak_memory_bytes() - before
    assert taken < MOST_BYTES, f"{taken >> 20} MiB were taken"


def check_image(name: str, content: bytes) -> bool:
    """Read an image, and measure and write labels of it; return whether it was one.

    Raises:
        Anything but an InferenceError is a fault of ours.
    """
    series: str | None = None
    volume: int | None = None
    for _ in range(3):
        try:
            scan = read_scan(name, content, series=series, volume=volume)
            write_labels_of(scan)
            return True
        except SeveralSeriesError as error:
            series = error.choices[0][0]
        except SeveralVolumesError as error:
            volume = error.choices[0][0] if error.choices else 1
        except InferenceError as error:
            check_words(error)
            return False
    raise AssertionError("The choice of a series and of a volume must do")


def check_words(error: InferenceError) -> None:
    """Check that an error is one line."""
    assert "\n" not in str(error), f"An error must be one line, got {error}"


def write_labels_of(scan: Scan) -> None:
    """Write a label in each format that is offered."""
    label_map = np.zeros(scan.label_shape, np.uint8)
    label_map.flat[0] = 1
    statistics_of(scan, label_map, notes=NOTES)
    for suffix in scan.label_suffixes:
        for kind in (SEG, RTSTRUCT) if suffix == ".dcm" else (SEG,):
            try:
                assert encode_labels(
                    scan, label_map, name=f"labels{suffix}", notes=NOTES, kind=kind
                )
            except InferenceError:
                assert kind == RTSTRUCT, "What is offered must be possible"


def check_dicom(data: bytes) -> bool:
    """Check a DICOM file, or a slice of CT of which the input replaces attributes."""
    if data.startswith(VALUES):
        data = with_values(data[len(VALUES) :])
    return check_image("a.dcm", data)


def with_values(data: bytes) -> bytes:
    """Return a slice of CT; an attribute is its number, the kind of value, the length, a value."""
    raw = {}
    while len(data) >= 3:
        keyword, kind = IN_DATASET[data[0] % len(IN_DATASET)], KINDS[data[1] % len(KINDS)]
        raw[keyword] = (kind, data[3 : 3 + data[2]])
        data = data[3 + data[2] :]
    return with_raw(ct_slice(), raw)


def check_nifti(data: bytes) -> bool:
    """Check a NIfTI file, packed or not."""
    return check_image("a.nii.gz" if data.startswith(b"\x1f\x8b") else "a.nii", data)


def check_nrrd(data: bytes) -> bool:
    """Check a file of NRRD or MetaImage."""
    return check_image("a.nrrd" if data.startswith(b"NRRD") else "a.mha", data)


def check_tiff(data: bytes) -> bool:
    """Check a TIFF file."""
    return check_image("a.tif", data)


def check_labels(data: bytes) -> bool:
    """Check a DICOM SEG or RTSTRUCT of three slices."""
    with tempfile.NamedTemporaryFile(suffix=".dcm") as file:
        file.write(data)
        file.flush()
        try:
            read_labels(Path(file.name), three_slices())
        except InferenceError as error:
            check_words(error)
            return False
    return True


@cache
def three_slices() -> Scan:
    """Return the image that labels are of."""
    with tempfile.TemporaryDirectory() as folder:
        return open_scan(write_series(Path(folder) / "ct", 3))


def dicom_seeds() -> Iterator[bytes]:
    """Yield small files of each kind."""
    grey = np.arange(80, dtype=np.uint8).reshape(8, 10)
    color = {
        "SOPClassUID": SecondaryCaptureImageStorage,
        "SamplesPerPixel": 3,
        "PhotometricInterpretation": "RGB",
        "PlanarConfiguration": 0,
        "BitsAllocated": 8,
        "BitsStored": 8,
        "HighBit": 7,
        "PixelRepresentation": 0,
        "PixelData": np.repeat(grey, 3).tobytes(),
    }
    clip = {
        "SOPClassUID": UltrasoundMultiFrameImageStorage,
        "NumberOfFrames": 2,
        "PixelData": ct_slice().PixelData * 2,
    }
    packed = ct_slice()
    packed.PixelData = encapsulate([jpeg_2000(grey)])
    packed.BitsAllocated = packed.BitsStored = 8
    packed.HighBit, packed.PixelRepresentation = 7, 0
    packed["PixelData"].is_undefined_length = True
    runs = ct_slice()
    values = np.frombuffer(runs.PixelData, np.int16).reshape(HW)
    runs.compress(RLELossless, values, encoding_plugin="pydicom")
    yield saved(ct_slice(WindowCenter=40, WindowWidth=80))
    yield saved(ct_slice(), ImplicitVRLittleEndian)
    yield saved(ct_slice(), ExplicitVRBigEndian)
    yield saved(ct_slice(**color))
    yield saved(ct_slice(**clip))
    yield saved(packed, JPEG2000Lossless)
    yield saved(runs, RLELossless)
    yield with_raw(ct_slice(SOPClassUID=CTImageStorage), {})
    for number in range(len(IN_DATASET)):
        yield VALUES + bytes([number, number % len(KINDS), 3]) + b"1\\2"


def jpeg_2000(pixels: np.ndarray) -> bytes:
    import imagecodecs

    return bytes(imagecodecs.jpeg2k_encode(pixels, reversible=True, codecformat="j2k"))


def saved(dataset, *syntax: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return save(dataset, Path(folder) / "a.dcm", *syntax).read_bytes()


def nifti_seeds() -> Iterator[bytes]:
    """Yield small files of each kind."""
    import gzip

    values = np.arange(60).reshape(5, 4, 3)
    affine = np.diag([-0.5, 0.7, 2.0, 1.0])
    images = [
        nibabel.Nifti1Image(values.astype(np.int16), affine),
        nibabel.Nifti1Image(values.astype(np.float32)[..., 0], affine),
        nibabel.Nifti1Image(np.stack([values] * 2, -1).astype(np.uint8), affine),
        nibabel.Nifti2Image(values.astype(">f8"), affine),
    ]
    images[0].header.set_slope_inter(2.0, -3.0)
    for image in images:
        yield image.to_bytes()
    yield gzip.compress(images[0].to_bytes())


def nrrd_seeds() -> Iterator[bytes]:
    """Yield small files of each kind."""
    values = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    for array in (values, values[0], values.astype(np.float64), values.astype(np.uint8)):
        image = SimpleITK.GetImageFromArray(array)
        image.SetSpacing([0.5, 0.7, 2.0][: image.GetDimension()])
        for suffix in (".nrrd", ".mha"):
            for is_packed in (False, True):
                with tempfile.TemporaryDirectory() as folder:
                    path = Path(folder) / f"a{suffix}"
                    SimpleITK.WriteImage(image, str(path), useCompression=is_packed)
                    yield path.read_bytes()
    yield (
        b"NRRD0004\ntype: uchar\ndimension: 3\nsizes: 3 2 2\nencoding: raw\nspace: RAS\n"
        b"space directions: (1,0,0) (0,1,0) (0,0,2)\nspace origin: (0,0,0)\n\n" + bytes(range(12))
    )


def tiff_seeds() -> Iterator[bytes]:
    """Yield small files of each kind."""
    grey = np.arange(30 * 40, dtype=np.uint16).reshape(30, 40)
    color = np.repeat((grey % 256).astype(np.uint8)[..., None], 3, axis=2)
    kinds = [
        (grey, {}),
        (grey, {"photometric": "miniswhite"}),
        (grey, {"compression": "zlib", "predictor": True}),
        (grey, {"compression": "lzw"}),
        (grey, {"tile": (16, 16), "bigtiff": True}),
        (grey.astype(np.float32), {"compression": "zstd"}),
        (grey > 600, {}),
        (color, {"photometric": "rgb"}),
        (color, {"photometric": "rgb", "compression": "jpeg"}),
        (color.transpose(2, 0, 1), {"photometric": "rgb", "planarconfig": "separate"}),
        (color[..., 0], {"photometric": "palette", "colormap": np.zeros((3, 256), np.uint16)}),
    ]
    for values, options in kinds:
        buffer = io.BytesIO()
        tifffile.imwrite(buffer, np.ascontiguousarray(values), **options)
        yield buffer.getvalue()


def label_seeds() -> Iterator[bytes]:
    """Yield labels of the three slices, with a hole and two parts."""
    scan = three_slices()
    label_map = np.zeros(scan.label_shape, np.uint8)
    label_map[:, 1:6, 1:6] = 1
    label_map[:, 3, 3] = 0
    label_map[1, 7, 8] = 2
    for kind in (SEG, RTSTRUCT):
        yield encode_labels(scan, label_map, name="labels.dcm", notes=NOTES, kind=kind)


CHECKS: dict[str, Callable[[bytes], bool]] = {
    "dicom": check_dicom,
    "nifti": check_nifti,
    "nrrd": check_nrrd,
    "tiff": check_tiff,
    "labels": check_labels,
}
SEEDS: dict[str, Callable[[], Iterator[bytes]]] = {
    "dicom": dicom_seeds,
    "nifti": nifti_seeds,
    "nrrd": nrrd_seeds,
    "tiff": tiff_seeds,
    "labels": label_seeds,
}


def check_input(format_name: str, data: bytes) -> bool:
    """Check an input of a format within bounded memory; return whether it could be read."""
    with bounded_memory():
        return CHECKS[format_name](data)


def inputs(format_name: str) -> list[bytes]:
    """Return what the fuzzer of a format begins with, and what it once found."""
    found = sorted((FOUND / format_name).glob("*"))
    return [*SEEDS[format_name](), *(path.read_bytes() for path in found)]
