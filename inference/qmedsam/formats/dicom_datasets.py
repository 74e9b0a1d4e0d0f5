"""What DICOM files hold, by pydicom: their series, the planes of their frames, and values.

Values are rescaled as the file says, so that those of CT are Hounsfield units, in files of one
image and in those of many frames, which say it for each.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom import pixels as pydicom_pixels
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from .scan import FormatError, SeveralSeriesError, check_size

MAGIC, MAGIC_AT = b"DICM", 128
LONGEST_META = 4096  # bytes, of what is before the dataset
DEFLATED = b"\x02\0\x10\0UI\x16\0" + DeflatedExplicitVRLittleEndian.encode()  # transfer syntax
MOST_SERIES = 8  # in a message
DEFAULT_VALUES = {"RescaleSlope": 1.0, "RescaleIntercept": 0.0}
pixels: Any = pydicom_pixels
Dataset = Any  # pydicom's, whose attributes are the file's


@dataclass(frozen=True)
class Plane:
    """Where a frame lies; millimetres in the patient's system, to the left, back and top.

    Attributes:
        position: of the first pixel, (3,).
        along_row: direction of a row, (3,).
        along_column: direction of a column, (3,).
        spacing: between rows and between columns; None where it is not said.
    """

    position: NDArray[np.float64]
    along_row: NDArray[np.float64]
    along_column: NDArray[np.float64]
    spacing: tuple[float, float] | None


def is_dicom(content: bytes) -> bool:
    """Whether a file says that it is DICOM."""
    return content[MAGIC_AT : MAGIC_AT + len(MAGIC)] == MAGIC


def read_datasets(name: str, contents: Sequence[bytes]) -> list[Dataset]:
    """Read files that have pixels; what is no DICOM is left out, and so is DICOM of another kind.

    Raises:
        FormatError: there is none, or an image cannot be read: its slice would be missing.
    """
    found, problem = [], "no pixels"
    for number, content in enumerate(contents, 1):
        which = f"{name}, file {number} of {len(contents)}," if len(contents) > 1 else name
        try:
            dataset = pydicom.dcmread(io.BytesIO(_inflatable(content)))
        except Exception as error:  # a file that is broken may raise any
            if is_dicom(content):
                raise FormatError(f"{which} must be readable DICOM, got: {error}") from error
            problem = str(error)  # notes and the like lie beside slices
            continue
        if "PixelData" in dataset or "FloatPixelData" in dataset:
            found.append(dataset)
        elif "Image Storage" in UID(str(dataset.get("SOPClassUID", ""))).name:
            raise FormatError(f"{which} must have pixels, it may have been cut off")
    if not found:
        raise FormatError(f"{name} must be readable DICOM with pixels, got: {problem}")
    count = sum(
        int(dataset.get("NumberOfFrames") or 1)
        * int(dataset.get("Rows") or 0)
        * int(dataset.get("Columns") or 0)
        * int(dataset.get("SamplesPerPixel") or 1)
        for dataset in found
    )
    check_size(name, count)
    return found


def one_series(datasets: list[Dataset], name: str, series: str | None) -> list[Dataset]:
    """Return the files of a series by its number or UID; None is the only one.

    Raises:
        SeveralSeriesError: there are several.
        FormatError: there is none of that number or UID.
    """
    by_uid: dict[str, list[Dataset]] = {}
    for dataset in datasets:
        by_uid.setdefault(str(dataset.get("SeriesInstanceUID")), []).append(dataset)
    chosen = [
        files
        for uid, files in by_uid.items()
        if series is None or series in (uid, str(files[0].get("SeriesNumber")))
    ]
    if len(chosen) == 1:
        return chosen[0]
    choices = [
        (uid, f"{files[0].get('SeriesNumber')}: {_described(files[0])}, {len(files)} files")
        for uid, files in by_uid.items()
    ]
    listed = "; ".join(f"{text}, UID {uid}" for uid, text in choices[:MOST_SERIES])
    more = "; ..." if len(choices) > MOST_SERIES else ""
    if not chosen:
        raise FormatError(f"{name} must hold a series {series}, got {listed}{more}")
    raise SeveralSeriesError(
        f"{name} must hold one series; choose with --series, got {len(chosen)}: {listed}{more}",
        choices,
    )


def planes_of(dataset: Dataset) -> list[Plane] | None:
    """Return where each frame of a file lies; None where it does not say."""
    try:
        groups = list(dataset.get("PerFrameFunctionalGroupsSequence") or [None])
        return [_plane(dataset, group) for group in groups]
    except (AttributeError, TypeError, ValueError, IndexError):
        return None


def values_of(dataset: Dataset) -> NDArray[Any]:
    """Return the values of a file: colours as RGB of 8 bits, grey ones rescaled.

    Grey ones that the file declares as padding are not a number.

    Returns:
        (H, W), (H, W, 3), (F, H, W) or (F, H, W, 3).
    """
    values = pixels.pixel_array(dataset)
    has_palette = dataset.get("PhotometricInterpretation") == "PALETTE COLOR"
    if has_palette:
        values = pixels.apply_color_lut(values, dataset)
    elif dataset.get("SamplesPerPixel", 1) == 1:
        return _rescaled(values, dataset)
    if values.dtype != np.uint8:
        bits = 8 * values.dtype.itemsize if has_palette else int(dataset.BitsStored)
        values = (values >> max(0, bits - 8)).astype(np.uint8)
    return np.asarray(values)


def window_of(dataset: Dataset) -> tuple[float, float] | None:
    """Return level and width that the file says, the first where there are several."""
    for holder in (dataset, *_groups(dataset, 0, "FrameVOILUTSequence")):
        center, width = holder.get("WindowCenter"), holder.get("WindowWidth")
        if center is not None and width is not None:
            return float(np.ravel(center)[0]), float(np.ravel(width)[0])
    return None


def _inflatable(content: bytes) -> bytes:
    """Refuse a dataset that is deflated as a whole: pydicom inflates it without a limit.

    Raises:
        ValueError: it is.
    """
    if DEFLATED in content[:LONGEST_META]:
        raise ValueError("it is deflated as a whole, which is not read")
    return content


def _described(dataset: Dataset) -> str:
    return f"{dataset.get('Modality', '')} {dataset.get('SeriesDescription', '')}".strip()


def _groups(dataset: Dataset, frame: int, name: str) -> list[Dataset]:
    """Return the functional group of a frame, of its own or shared by all; none or one."""
    own = dataset.get("PerFrameFunctionalGroupsSequence")
    shared = dataset.get("SharedFunctionalGroupsSequence")
    holders = [own[frame] if own else None, shared[0] if shared else None]
    found = [holder[name].value for holder in holders if holder is not None and name in holder]
    return [sequence[0] for sequence in found if sequence][:1]


def _plane(dataset: Dataset, group: Dataset | None) -> Plane:
    if group is None:
        position, orientation = dataset.ImagePositionPatient, dataset.ImageOrientationPatient
        spacing = dataset.get("PixelSpacing")
    else:
        shared = dataset.get("SharedFunctionalGroupsSequence") or [{}]
        holders = [group, shared[0]]

        def of(sequence: str) -> Dataset:
            return next(holder[sequence].value[0] for holder in holders if sequence in holder)

        try:
            position = of("PlanePositionSequence").ImagePositionPatient
            orientation = of("PlaneOrientationSequence").ImageOrientationPatient
        except StopIteration as error:
            raise ValueError("no plane") from error
        spacing = next(
            (
                holder["PixelMeasuresSequence"].value[0].get("PixelSpacing")
                for holder in holders
                if "PixelMeasuresSequence" in holder
            ),
            None,
        )
    directions = np.array(orientation, dtype=np.float64).reshape(2, 3)
    return Plane(
        position=np.array(position, dtype=np.float64).reshape(3),
        along_row=directions[0],
        along_column=directions[1],
        spacing=None if spacing is None else (float(spacing[0]), float(spacing[1])),
    )


def _rescaled(values: NDArray[Any], dataset: Dataset) -> NDArray[Any]:
    padding = _padding(values, dataset)
    groups = [
        _groups(dataset, frame, "PixelValueTransformationSequence")
        for frame in range(len(dataset.get("PerFrameFunctionalGroupsSequence") or []))
    ]
    if any(groups):
        frames = values if values.ndim == 3 else values[None]
        rescaled = np.empty(frames.shape, dtype=np.float32)
        for frame, group, target in zip(frames, groups, rescaled, strict=True):
            slope, intercept = (
                float(group[0].get(name, default)) if group else default
                for name, default in DEFAULT_VALUES.items()
            )
            target[...] = frame * np.float32(slope) + np.float32(intercept)
        found: NDArray[Any] = rescaled.reshape(values.shape)
    else:
        found = np.asarray(pixels.apply_modality_lut(values, dataset))
    if found.dtype.kind == "f" or padding is not None:
        found = found.astype(np.float32)
    if padding is not None:
        found[padding] = np.nan
    return found


def _padding(values: NDArray[Any], dataset: Dataset) -> NDArray[np.bool_] | None:
    """Return which stored values are padding; None where there are none."""
    first = dataset.get("PixelPaddingValue")
    if first is None or values.dtype.kind not in "iu":
        return None
    last = dataset.get("PixelPaddingRangeLimit", first)
    bits = int(dataset.get("BitsAllocated", 16))
    is_signed = values.dtype.kind == "i"
    ends = [_signed(int(value), bits) if is_signed else int(value) for value in (first, last)]
    found = (values >= min(ends)) & (values <= max(ends))
    return found if found.any() else None


def _signed(value: int, bits: int) -> int:
    """Return a value that may have been written without its sign."""
    return value - (1 << bits) if value >= 1 << (bits - 1) else value
