"""NIfTI, one file or a pair, by nibabel: any orientation in, the same orientation out."""

from __future__ import annotations

import gzip
import io
import math
import zlib
from collections.abc import Sequence
from typing import Any

import nibabel
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.fileholders import FileHolder
from nibabel.imageglobals import LoggingOutputSuppressor
from nibabel.nifti1 import Nifti1Extension, Nifti1Pair
from nibabel.nifti2 import Nifti2Header, Nifti2Pair
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError
from numpy.typing import NDArray

from ..core.postprocess import LabelMap
from .beside import Beside, read_beside
from .intensity import IntensityWindow
from .label_notes import LabelNotes
from .one_volume import choose_volume
from .scan import AUTOMATIC_PLANE, VALUE_BYTES, FormatError, check_size
from .seal import seal
from .suffixes import GZIP_SUFFIX, NIFTI_PAIR_SUFFIXES, NIFTI_SUFFIXES
from .unpacking import unpack_gzip
from .volume import VolumeScan

OWN_NOTE = b'"made_by": "qmedsam'  # in an extension that this wrote
COMMENT_CODE = 6  # of such an extension
CIFTI_INTENTS = range(3000, 3100)
HEADER_2_BYTES = 540  # of version 2; of version 1 it is 348
MAGICS = {True: (b"ni2\0", 4), False: (b"ni1\0", 344)}  # of a pair, by version, and where
UNITS_MM = {1: 1e3, 2: 1.0, 3: 1e-3}  # by their codes: metres, millimetres, micrometres
UNIT_BITS = 0b111  # of the field in which that of time stands, too
LARGEST_SCALE = 1e20  # of slope and intercept, with which float32 holds all values
AXES = 3
UNPLACED = (
    "It does not say where it lies, as the codes of sform and qform are 0: its axes are taken to "
    "run to the left, front and top."
)
LONGEST_SIDE = 32_767  # voxels, of NIfTI-1
READ_ERRORS = (
    OSError,
    EOFError,
    ValueError,
    MemoryError,
    zlib.error,
    ImageFileError,
    HeaderDataError,
    WrapStructError,
    np.linalg.LinAlgError,
    TypeError,
    IndexError,
    OverflowError,
)


class NiftiScan(VolumeScan):
    """A volume in a NIfTI file.

    Args:
        name: of the file, for messages; `.gz` at its end says that it is packed.
        content: of the file.
        window: of its values; None is percentiles.
        plane: as of `cut_volume`.
        volume: number of the one to take, from 1; needed where there are several.
        beside: reads the other file of a pair.

    Raises:
        SeveralVolumesError: there are several volumes, and none is chosen.
        FormatError: the file cannot be read, or there is no such volume or plane.
        WindowError: the window does not fit its values.
    """

    label_suffixes = NIFTI_SUFFIXES

    def __init__(
        self,
        name: str,
        content: bytes,
        window: str | IntensityWindow | None = None,
        *,
        plane: str = AUTOMATIC_PLANE,
        volume: int | None = None,
        beside: Beside | None = None,
    ) -> None:
        header, values = _files(name, content, beside)
        try:
            with LoggingOutputSuppressor():
                image = _read(header, values)
                size = len(header if values is None else values)
                own = _one_volume(name, image, volume, size)
                self._image = image
                affine = np.diag([*[_mm_per_unit(image.header)] * AXES, 1.0]) @ image.affine
                super().__init__(own, affine, window=window, plane=plane)
                with np.errstate(all="ignore"):
                    image.header.copy().set_qform(image.affine)  # as labels will have it
                self._is_placed = bool(image.header["sform_code"] or image.header["qform_code"])
                if not self._is_placed:
                    self.remarks = (*self.remarks, UNPLACED)
        except READ_ERRORS as error:
            raise FormatError(f"{name} must be a readable NIfTI file, got: {error}") from error

    @property
    def is_placed(self) -> bool:
        """Whether it says where it lies, by a code above 0."""
        return self._is_placed

    def encode(self, label_map: LabelMap, suffix: str, notes: LabelNotes) -> bytes:
        """Return a NIfTI file with the affine, units and codes of the one that was read."""
        own = self._own_voxels(label_map)
        own = own.reshape(own.shape[: min(len(self._image.shape), AXES)])  # two of a picture
        header = self._image.header.copy()
        return encode_nifti(own, self._image.affine, header=header, suffix=suffix, notes=notes)


def new_header(shape: Sequence[int]) -> Any:
    """Return the header of a file that was none before, in millimetres; of NIfTI-2 if it must."""
    kind: Any = Nifti2Header if max(shape) > LONGEST_SIDE else nibabel.Nifti1Header
    header = kind()
    header.set_xyzt_units("mm")
    return header


def encode_nifti(
    values: NDArray[Any],
    affine: NDArray[np.float64],
    *,
    header: nibabel.Nifti1Header,
    suffix: str,
    notes: LabelNotes | None = None,
) -> bytes:
    """Return values (X, Y, Z) as NIfTI.

    Args:
        values: in the order of the file's own axes.
        affine: voxels to places to the right, front and top, in the units of the header.
        header: of which units and codes are kept; it is written to.
        suffix: one of `NIFTI_SUFFIXES`.
        notes: of labels, written as an extension of the header; None where these are none.
    """
    fields: Any = header
    fields.set_data_dtype(values.dtype)
    fields.set_slope_inter(1, 0)
    fields["cal_max"] = fields["cal_min"] = 0
    if notes is not None:
        fields.set_intent("label")
        fields["descrip"] = notes.line().encode()[:79]
        for earlier in [each for each in fields.extensions if _is_own(each)]:
            fields.extensions.remove(earlier)
        fields.extensions.append(Nifti1Extension("comment", notes.as_json().encode()))
    kind: Any = nibabel.Nifti2Image if isinstance(header, Nifti2Header) else nibabel.Nifti1Image
    content = seal(kind(np.ascontiguousarray(values), affine, header).to_bytes())
    return gzip.compress(content, mtime=0) if suffix.endswith(".gz") else content


def _is_own(extension: Any) -> bool:
    """Say whether an extension of a header is a note of this program.

    nibabel makes objects of others, DICOM and CIFTI.
    """
    return extension.get_code() == COMMENT_CODE and OWN_NOTE in extension.get_content()


def _mm_per_unit(header: Any) -> float:
    """Return how many millimetres a unit of places is; of an unknown one, 1."""
    return UNITS_MM.get(int(header["xyzt_units"]) & UNIT_BITS, 1.0)


def partner_of(name: str) -> str | None:
    """Return the name of the other file of a pair; None of what is no half of one."""
    suffix = next((each for each in NIFTI_PAIR_SUFFIXES if name.lower().endswith(each)), None)
    if suffix is None:
        return None
    stem, end = name[: -len(suffix)], name[-len(suffix) :]
    swaps = {"hdr": "img", "HDR": "IMG"} if "hdr" in suffix else {"img": "hdr", "IMG": "HDR"}
    for one, other in swaps.items():
        end = end.replace(one, other)
    return f"{stem}{end}"


def _files(name: str, content: bytes, beside: Beside | None) -> tuple[bytes, bytes | None]:
    """Return header and values, unpacked; of a single file the second is None.

    Raises:
        FormatError: a file is missing or cannot be unpacked.
    """
    partner = partner_of(name)
    if partner is None:
        return _unpacked(name, content), None
    both = _unpacked(name, content), _unpacked(partner, read_beside(name, partner, beside))
    is_header = name.lower().endswith(tuple(each for each in NIFTI_PAIR_SUFFIXES if "hdr" in each))
    return both if is_header else both[::-1]


def _unpacked(name: str, content: bytes) -> bytes:
    """Unpack gzip, if the name ends so, within the memory limit.

    Raises:
        FormatError: it is broken, or there is more.
    """
    if not name.lower().endswith(GZIP_SUFFIX):
        return content
    try:
        return unpack_gzip(io.BytesIO(content))
    except READ_ERRORS as error:
        raise FormatError(f"{name} must be a readable NIfTI file, got: {error}") from error


def _read(header: bytes, values: bytes | None) -> Any:
    """Read either version; the size of its header tells which.

    Raises:
        ValueError: it is a pair without the mark of NIfTI.
    """
    is_second = int.from_bytes(header[:4], "little") == HEADER_2_BYTES or (
        int.from_bytes(header[:4], "big") == HEADER_2_BYTES
    )
    if values is None:
        kind: Any = nibabel.Nifti2Image if is_second else nibabel.Nifti1Image
        return kind.from_bytes(header)
    magic, place = MAGICS[is_second]
    if header[place : place + len(magic)] != magic:
        raise ValueError("an Analyze file, which does not say where left and right are")
    pair: Any = Nifti2Pair if is_second else Nifti1Pair
    files = {"header": header, "image": values}
    holders = {kind: FileHolder(fileobj=io.BytesIO(each)) for kind, each in files.items()}
    return pair.from_file_map(holders)


def _one_volume(name: str, image: Any, volume: int | None, size: int) -> NDArray[Any]:
    """Return the values (I, J, K) of one volume.

    Args:
        name: of the file, for messages.
        image: as nibabel has it.
        volume: number of the one to take, from 1.
        size: bytes of the file with the values.

    Raises:
        FormatError: the file holds several and none is chosen, holds no numbers, is cut off, or
            the volume does not fit in memory.
    """
    shape, kind = tuple(int(side) for side in image.shape), image.get_data_dtype()
    if len(shape) < AXES - 1 or min(shape) < 1 or kind.kind not in "iuf":
        raise FormatError(
            f"{name} must hold a volume of numbers (X, Y, Z) or a slice (X, Y), got {shape} of "
            f"{kind}"
        )
    if int(image.header["intent_code"]) in CIFTI_INTENTS:
        raise FormatError(f"{name} must hold a volume, got CIFTI, a table of places on a brain")
    own, more = (*shape, 1)[:AXES], shape[AXES:]
    # nibabel would make room for all before it looks whether they are there.
    expected = int(image.dataobj.offset) + math.prod(shape) * kind.itemsize
    if expected > size:
        raise FormatError(
            f"{name} must be a readable NIfTI file, got {size} bytes of the {expected} that its "
            "header says"
        )
    check_size(name, math.prod(own))
    count = math.prod(more)
    index = choose_volume(name, volume, count=count, shape=own)
    if count > 1:
        place = np.unravel_index(index, more, order="F")
        return _values(image.dataobj, (..., *(int(each) for each in place)))
    return _values(image.dataobj, ...).reshape(own)


def _values(stored: Any, part: Any) -> NDArray[Any]:
    """Return some of the values; those that are rescaled take no more bytes than needed."""
    slope, intercept = (stored.slope, stored.inter) if stored.is_proxy else (1, 0)
    if (slope, intercept) == (1, 0):
        return np.asarray(stored[part])
    largest = max(abs(slope), 1 / abs(slope) if slope else 0, abs(intercept))
    is_small = stored.dtype.kind != "f" and stored.dtype.itemsize <= VALUE_BYTES
    if part is not ... or largest > LARGEST_SCALE or not is_small:
        return np.asarray(stored[part])
    values = np.asarray(stored.get_unscaled(), dtype=np.float32)
    return values * np.float32(slope) + np.float32(intercept)
