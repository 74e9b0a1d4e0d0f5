"""NRRD and MetaImage, by SimpleITK: any orientation in, the same orientation out.

SimpleITK reads and writes files by their names. Here these lead to memory where the system has
files in memory, as Linux does, and to a temporary folder elsewhere.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK
from numpy.typing import NDArray

from ..core.postprocess import LabelMap
from .beside import Beside, read_beside
from .intensity import IntensityWindow
from .itk_header import (
    META_UNITS,
    UNITS_MM,
    check_meta_header,
    check_nrrd_values,
    meta_data_file,
    meta_unit,
    nrrd_data_file,
    nrrd_unit,
    with_nrrd_unit,
)
from .label_notes import LabelNotes
from .nifti import encode_nifti, new_header
from .one_volume import choose_volume
from .scan import AUTOMATIC_PLANE, FormatError, check_size
from .suffixes import ITK_HEADER_SUFFIXES, ITK_SUFFIXES, NIFTI_SUFFIXES, NRRD_SUFFIXES
from .volume import LPS_TO_RAS, VolumeScan

sitk: Any = SimpleITK
NOTES_KEY = "qmedsam"
UNIT_KEY = "ITK_VoxelUnits"  # which becomes DistanceUnits of a MetaImage
AXES = 3
PLACE_IN_ITK = re.compile(r"^.*\(0x[0-9a-f]+\): |^\[nrrd\] \w+: |^Reason: ")


class ItkScan(VolumeScan):
    """A volume in an NRRD or MetaImage file.

    Args:
        name: of the file, for messages.
        content: of the file.
        window: of its values; None is percentiles.
        plane: as of `cut_volume`.
        volume: number, from 1, of the time, direction or channel to take; needed where there are
            several.
        beside: reads the file of the values, where it is another one.

    Raises:
        SeveralVolumesError: there are several volumes, and none is chosen.
        FormatError: the file cannot be read, or there is no such volume or plane.
        WindowError: the window does not fit its values.
    """

    label_suffixes = (*ITK_SUFFIXES, *NIFTI_SUFFIXES)

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
        suffix = next(
            each for each in (*ITK_SUFFIXES, *ITK_HEADER_SUFFIXES) if name.lower().endswith(each)
        )
        files = {f"volume{suffix}": content}
        is_nrrd = suffix in NRRD_SUFFIXES
        other = (nrrd_data_file if is_nrrd else meta_data_file)(name, content)
        values = None if other is None else read_beside(name, other, beside)
        (check_nrrd_values if is_nrrd else check_meta_header)(name, content, values)
        if other is not None and values is not None:
            files[other] = values
        try:
            with _in_files(files) as paths:
                image = _read(name, paths[f"volume{suffix}"], volume, is_nrrd=is_nrrd)
            self._dimension = image.GetDimension()
            self._unit = (nrrd_unit if is_nrrd else meta_unit)(content)
            self._geometry = _Geometry(image, UNITS_MM.get(self._unit.lower(), 1.0))
            voxels = sitk.GetArrayFromImage(image).T
            voxels = voxels.reshape((*voxels.shape, 1)[:AXES])
            if voxels.dtype.kind not in "iuf":
                raise ValueError(f"values of {voxels.dtype}, which are no integers or floats")
            super().__init__(voxels, self._geometry.affine, window=window, plane=plane)
        except RuntimeError as error:
            raise FormatError(f"{name} must be a readable volume, got {_reason(error)}") from error
        except (ValueError, np.linalg.LinAlgError) as error:
            raise FormatError(f"{name} must be a readable volume, got {error}") from error

    def encode(self, label_map: LabelMap, suffix: str, notes: LabelNotes) -> bytes:
        """Return a file with the geometry of the one that was read."""
        own = self._own_voxels(label_map)
        if suffix in NIFTI_SUFFIXES:
            affine = self._geometry.affine
            return encode_nifti(
                own, affine, header=new_header(own.shape), suffix=suffix, notes=notes
            )
        image = sitk.GetImageFromArray(own.T[0] if self._dimension < AXES else own.T)
        is_nrrd = suffix in NRRD_SUFFIXES
        has_unit = bool(self._unit) and (is_nrrd or self._unit in META_UNITS)
        self._geometry.set_of(image, is_in_mm=not has_unit)
        image.SetMetaData(NOTES_KEY, notes.as_json())
        if has_unit and not is_nrrd:
            image.SetMetaData(UNIT_KEY, self._unit)
        name = f"labels{suffix}"
        with _in_files({name: b""}) as paths:
            sitk.WriteImage(image, str(paths[name]), useCompression=True)
            content = paths[name].read_bytes()
        is_said = has_unit and is_nrrd
        return with_nrrd_unit(content, self._unit, image.GetDimension()) if is_said else content


class _Geometry:
    """Where the voxels of an image of SimpleITK lie.

    Args:
        image: as it was read.
        unit_mm: of its places.
    """

    def __init__(self, image: Any, unit_mm: float) -> None:
        self._unit_mm = unit_mm
        count = image.GetDimension()
        self._fields = image.GetSpacing(), image.GetOrigin(), image.GetDirection()
        spacing, origin, direction = (np.array(field) for field in self._fields)
        own = np.eye(AXES + 1)
        own[:count, :count] = direction.reshape(count, count) * spacing * unit_mm
        own[:count, AXES] = origin * unit_mm
        own[range(count, AXES), range(count, AXES)] = unit_mm
        self.affine: NDArray[np.float64] = LPS_TO_RAS @ own

    def set_of(self, image: Any, *, is_in_mm: bool) -> None:
        """Write it into another image, in millimetres or in the unit of the one that was read."""
        spacing, origin, direction = self._fields
        factor = self._unit_mm if is_in_mm else 1.0
        image.SetSpacing([each * factor for each in spacing])
        image.SetOrigin([each * factor for each in origin])
        image.SetDirection(direction)


def _read(name: str, path: Path, volume: int | None, *, is_nrrd: bool) -> Any:
    """Return one volume of two or three axes.

    Raises:
        FormatError: there are several and none is chosen, or they do not fit in memory.
        RuntimeError: SimpleITK cannot read them.
    """
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    reader = sitk.ImageFileReader()
    reader.SetImageIO("NrrdImageIO" if is_nrrd else "MetaImageIO")
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    kind = sitk.GetPixelIDValueAsString(reader.GetPixelID())
    if kind.startswith("complex"):
        raise FormatError(f"{name} must hold integers or floats, got {kind}")
    size, channels = reader.GetSize(), reader.GetNumberOfComponents()
    times = math.prod(size[AXES:])
    index = choose_volume(name, volume, count=times * channels, shape=size[:AXES])
    check_size(name, math.prod(size[:AXES]) * channels)
    if reader.GetDimension() > AXES:
        place = np.unravel_index(index // channels, size[AXES:], order="F")
        reader.SetExtractSize([*size[:AXES], *([0] * len(place))])
        reader.SetExtractIndex([*([0] * AXES), *(int(each) for each in place)])
    image = reader.Execute()
    return image if channels == 1 else sitk.VectorIndexSelectionCast(image, index % channels)


def _reason(error: RuntimeError) -> str:
    """Return what was wrong, the last line that SimpleITK says, without places in its code."""
    *_, last = ["", *str(error).strip().splitlines()]
    return f"one that is broken ({PLACE_IN_ITK.sub('', last)})"


@contextlib.contextmanager
def _in_files(contents: Mapping[str, bytes]) -> Iterator[dict[str, Path]]:
    """Give contents names in a folder that only this user may enter, and that goes afterwards.

    Yields:
        The path of each name.
    """
    with tempfile.TemporaryDirectory(prefix="qmedsam-") as folder, contextlib.ExitStack() as files:
        paths = {name: Path(folder) / name for name in contents}
        for name, path in paths.items():
            if hasattr(os, "memfd_create"):
                memory = files.enter_context(open(os.memfd_create("qmedsam"), "wb"))
                path.symlink_to(f"/proc/{os.getpid()}/fd/{memory.fileno()}")
            path.write_bytes(contents[name])
        yield paths
