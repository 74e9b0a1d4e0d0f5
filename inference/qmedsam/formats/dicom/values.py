"""The values of frames: what the pixels measure, where the file says it.

Those of CT become Hounsfield units, in files of one image and in those of many frames, which say it
for each. A rescale that is not there changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import pixels as pydicom_pixels
from pydicom.encaps import generate_frames
from pydicom.uid import JPEG2000TransferSyntaxes

from ...system.silence import silent_libraries
from ..intensity import IntensityWindow, WindowError
from ..scan import FormatError
from .attributes import Attributes, Dataset, reason
from .codestreams import check_codestreams
from .frames import COLOURS, PALETTE, Frame
from .headers import PIXEL_KEYWORDS, read_dataset
from .planes import within

CT, HOUNSFIELD = "CT", "HU"
CAPTURE_BITS = 8  # which hold no Hounsfield units, unless they are rescaled
INVERTED = "MONOCHROME1"  # low values are bright
NEEDED_KEYWORDS = ("SamplesPerPixel", "PhotometricInterpretation")  # by what decodes pixels
SMALLEST_SLOPE = 1e-30
FARTHEST = 1e9  # a slope or intercept, in the unit of the values
pixels: Any = pydicom_pixels


def values_of(frames: Sequence[Frame]) -> list[NDArray[Any]]:
    """Return the values of frames: colours as RGB of 8 bits, grey ones rescaled.

    Grey ones that the file declares as padding are not a number.

    Args:
        frames: in any order; a file is read once.

    Returns:
        (H, W) or (H, W, 3) of each.

    Raises:
        FormatError: they cannot be read.
    """
    by_file: dict[int, list[int]] = {}
    for place, frame in enumerate(frames):
        by_file.setdefault(id(frame.header), []).append(place)
    found: list[NDArray[Any]] = [np.empty(0)] * len(frames)
    for places in by_file.values():
        for place, values in zip(places, _of_file([frames[each] for each in places]), strict=True):
            found[place] = values
    return found


def is_inverted(frame: Frame) -> bool:
    """Whether low values are bright."""
    return frame.header.attributes.text("PhotometricInterpretation") == INVERTED


def is_hounsfield(frame: Frame) -> bool:
    """Whether the values of a frame, rescaled, are Hounsfield units, as far as the file says.

    Raises:
        FormatError: what it says cannot be read.
    """
    attributes = frame.header.attributes
    if attributes.text("Modality") != CT:
        return False
    if attributes.items("ModalityLUTSequence"):
        return attributes.items("ModalityLUTSequence")[0].text("ModalityLUTType") == HOUNSFIELD
    said = _rescale(frame)
    slope, intercept = said.number("RescaleSlope"), said.number("RescaleIntercept")
    if slope is None or intercept is None or said.text("RescaleType") not in ("", HOUNSFIELD):
        return False
    is_capture = attributes.count("BitsStored", 16) <= CAPTURE_BITS and (slope, intercept) == (1, 0)
    return not is_capture


def missing_rescale(frame: Frame) -> str:
    """Return which attribute of a rescale is there and empty; or which CT lacks."""
    attributes = frame.header.attributes
    if attributes.items("ModalityLUTSequence"):
        return ""
    said = _rescale(frame)
    is_needed = attributes.text("Modality") == CT
    for keyword in ("RescaleSlope", "RescaleIntercept"):
        if (is_needed or said.has(keyword)) and said.number(keyword) is None:
            return keyword
    return ""


def window_of(frame: Frame) -> tuple[float, float] | None:
    """Return level and width that the file says of a frame, the first where there are several.

    Raises:
        FormatError: they are no window.
    """
    of_frame = within(list(frame.groups), "FrameVOILUTSequence")
    for said in (frame.header.attributes, of_frame):
        if said is None:
            continue
        center, width = said.first_number("WindowCenter"), said.first_number("WindowWidth")
        if center is None or width is None:
            continue
        if not width > 0:
            raise said.wrong("WindowWidth", "a number above 0")
        try:
            IntensityWindow(center, width)
        except WindowError:
            raise said.wrong("WindowCenter", "a level of what is measured") from None
        return center, width
    return None


def _of_file(frames: Sequence[Frame]) -> list[NDArray[Any]]:
    """Return the values of frames of one file.

    Raises:
        FormatError: they cannot be read.
    """
    name, count = frames[0].header.file.name, frames[0].count
    dataset = read_dataset(frames[0].header.file)
    indices = [frame.index for frame in frames]
    try:
        _check_whole(dataset, frames[0].header.attributes)
        # Without indices those packed one after another are found at once.
        wanted = None if indices == list(range(count)) else indices
        check_codestreams(dataset, frames, wanted)
        _correct_sign(dataset, count)
        with silent_libraries():
            if count == 1:
                decoded = [pixels.pixel_array(dataset)]
            else:
                decoded = list(pixels.iter_pixels(dataset, indices=wanted))
        return [
            _as_rgb(stored, frame, dataset)
            if frame.is_colour
            else _measured(stored, frame, dataset)
            for stored, frame in zip(decoded, frames, strict=True)
        ]
    except FormatError:
        raise
    except Exception as error:  # decoders raise what they like
        raise FormatError(f"{name} must have readable pixels, got: {reason(error)}") from error


def _check_whole(dataset: Dataset, attributes: Attributes) -> None:
    """Check that there are pixels, and all of those that are not packed.

    Raises:
        FormatError: some are missing.
    """
    found = next((len(dataset[each].value or b"") for each in PIXEL_KEYWORDS if each in dataset), 0)
    if not attributes.count("BitsAllocated", 0):
        raise attributes.wrong("BitsAllocated", "a whole number above 0")
    for keyword in NEEDED_KEYWORDS:
        if not attributes.values(keyword):
            raise attributes.wrong(keyword, "said of pixels")
    is_packed = dataset.file_meta.TransferSyntaxUID.is_encapsulated
    expected = 1 if is_packed else pixels.utils.get_expected_length(dataset)
    if found < expected:
        wanted = "pixels" if is_packed else f"{expected} bytes of pixels"
        raise FormatError(
            f"{attributes.name} must have {wanted}, got {found}, it may have been cut off"
        )


def _correct_sign(dataset: Dataset, count: int) -> None:
    """Let values have a sign where JPEG 2000 says so, and the file that they have none.

    GDCM would wrap negative ones round.
    """
    if dataset.file_meta.TransferSyntaxUID in JPEG2000TransferSyntaxes:
        first = next(generate_frames(dataset.PixelData, number_of_frames=count))
        if pixels.utils.get_j2k_parameters(first).get("is_signed"):
            dataset.PixelRepresentation = 1


def _as_rgb(stored: NDArray[Any], frame: Frame, dataset: Dataset) -> NDArray[np.uint8]:
    """Return colours of 8 bits.

    Raises:
        ValueError: they are of another shape.
    """
    attributes = frame.header.attributes
    bits = attributes.count("BitsStored", 8 * stored.dtype.itemsize)
    if attributes.text("PhotometricInterpretation") == PALETTE:
        stored = pixels.apply_color_lut(stored, dataset)[..., :COLOURS]  # the fourth is opacity
        bits = 8 * stored.dtype.itemsize
    if stored.shape != (*frame.hw, COLOURS):
        raise ValueError(f"colours of shape {stored.shape}")
    return np.asarray(stored >> max(0, bits - 8)).astype(np.uint8)


def _measured(stored: NDArray[Any], frame: Frame, dataset: Dataset) -> NDArray[Any]:
    """Return grey values rescaled; padding is not a number.

    Raises:
        FormatError: the rescale is none.
        ValueError: values are of another shape.
    """
    if stored.shape != frame.hw:
        raise ValueError(f"values of shape {stored.shape}")
    padding = _padding(stored, frame.header.attributes)
    found = _rescaled(stored, frame, dataset)
    if padding is not None:
        found = found.astype(np.float32)
        found[padding] = np.nan
    return found


def _rescaled(stored: NDArray[Any], frame: Frame, dataset: Dataset) -> NDArray[Any]:
    """Return values by the lookup table or rescale of a file; without one, as they are.

    Raises:
        FormatError: the rescale is none.
    """
    if frame.header.attributes.items("ModalityLUTSequence"):
        return np.asarray(pixels.apply_modality_lut(stored, dataset))
    said = _rescale(frame)
    found = said.number("RescaleSlope"), said.number("RescaleIntercept")
    slope, intercept = 1.0 if found[0] is None else found[0], found[1] or 0.0
    if slope == 0 and not stored.any():  # of an empty slice of PET it says nothing
        slope = 1.0
    if not (SMALLEST_SLOPE <= abs(slope) <= FARTHEST):
        raise said.wrong("RescaleSlope", "a number other than 0")
    if abs(intercept) > FARTHEST:
        raise said.wrong("RescaleIntercept", "a level of what is measured")
    if (slope, intercept) == (1, 0):
        return stored
    return stored.astype(np.float32) * np.float32(slope) + np.float32(intercept)


def _rescale(frame: Frame) -> Attributes:
    """Return what has the rescale of a frame, if there is one."""
    of_frame = within(list(frame.groups), "PixelValueTransformationSequence")
    return frame.header.attributes if of_frame is None else of_frame


def _padding(stored: NDArray[Any], attributes: Attributes) -> NDArray[np.bool_] | None:
    """Return which stored values are padding; None where there are none.

    Raises:
        FormatError: it cannot be read.
    """
    first = attributes.number("PixelPaddingValue")
    if first is None or stored.dtype.kind not in "iu":
        return None
    last = attributes.number("PixelPaddingRangeLimit")
    ends = [first, first if last is None else last]
    if stored.dtype.kind == "i":
        ends = [_signed(end, attributes.count("BitsAllocated", 16)) for end in ends]
    found = (stored >= min(ends)) & (stored <= max(ends))
    return found if found.any() else None


def _signed(value: float, bits: int) -> float:
    """Return a value that may have been written without its sign."""
    return value - 2.0**bits if value >= 2.0 ** (bits - 1) else value
