"""Which format a file has, by its name."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..config import as_path
from .beside import Beside, files_beside
from .dicom.headers import MAGIC, MAGIC_AT, is_dicom
from .dicom.scan import DicomScan
from .dicom.sources import DICOMDIR, files_of_bytes, files_of_path
from .folder import open_file, read_file, visible_files
from .intensity import IntensityWindow, WindowError
from .itk import ItkScan
from .nifti import NiftiScan
from .npz import CaseScan
from .picture import PictureScan
from .picture_stack import PictureStackScan
from .scan import AUTOMATIC_PLANE, FormatError, Scan
from .suffixes import (
    CASE_SUFFIXES,
    DICOM_FILE_SUFFIXES,
    DICOM_SUFFIXES,
    ITK_HEADER_SUFFIXES,
    ITK_SUFFIXES,
    PICTURE_SUFFIXES,
    SUFFIXES,
    VOLUME_SUFFIXES,
)

Name = str | os.PathLike[str]


def open_scan(
    path: Name,
    window: str | IntensityWindow | None = None,
    series: str | None = None,
    *,
    plane: str = AUTOMATIC_PLANE,
    volume: int | None = None,
    straighten: bool = False,
) -> Scan:
    """Read an image or volume from a file or from the folder of a series; see `read_scan`.

    Args:
        path: of the file, of a DICOMDIR, or of a folder of DICOM files or of pictures, a slice
            each.
        window: as of `read_scan`.
        series: as of `read_scan`.
        plane: as of `read_scan`.
        volume: as of `read_scan`.
        straighten: put labels of slices under a tilted gantry on a straight grid in NIfTI.

    Raises:
        TypeError: the path is none.
        SeveralSeriesError, SeveralVolumesError, FormatError, WindowError: as of `read_scan`.
    """
    path = as_path(path, "Path")
    name = str(path)
    lower = path.name.lower()
    try:
        pictures = _pictures(path) if path.is_dir() else []
        if pictures and not _has_dicom(path):
            check_choices(name, series=series, plane=plane, volume=volume, straighten=straighten)
            with _named(name):
                return PictureStackScan(name, pictures, window)
        is_many = path.is_dir() or path.name.upper() == DICOMDIR
        if is_many or lower.endswith(DICOM_SUFFIXES) or begins_as_dicom(path):
            check_choices(name, plane=plane)
            with _named(name):
                return DicomScan(
                    name,
                    files_of_path(path),
                    window,
                    series=series,
                    volume=volume,
                    straighten=straighten,
                    remarks=_left_out(pictures),
                )
        if not lower.endswith(SUFFIXES):
            raise FormatError(
                f"{name} must be DICOM, a folder of it, or end in {', '.join(SUFFIXES)}"
            )
        check_choices(name, straighten=straighten)
        content, beside = read_file(path), files_beside(path)
    except OSError as error:
        raise FormatError(f"{name} cannot be read: {error}") from error
    return read_scan(
        name, content, window, series=series, plane=plane, volume=volume, beside=beside
    )


def read_scan(
    name: str,
    content: bytes,
    window: str | IntensityWindow | None = None,
    *,
    series: str | None = None,
    plane: str = AUTOMATIC_PLANE,
    volume: int | None = None,
    beside: Beside | None = None,
) -> Scan:
    """Read an image or volume from the content of a file.

    Args:
        name: of the file, which ends in one of `SUFFIXES` unless it is DICOM.
        content: of the file.
        window: of its values; None is what suits the format: percentiles, soft tissue for CT in
            DICOM, and pictures of 8 bits as they are.
        series: number or UID of a DICOM series; None is the only one.
        plane: in which a volume of NIfTI, NRRD or MetaImage is cut into slices, one of `PLANES` of
            `qmedsam.formats.scan`; `auto` is that of acquisition, as far as voxels tell.
        volume: number, from 1, of the volume or image to take; needed where there are several.
        beside: reads the files that belong to this one; None where there are none.

    Raises:
        SeveralSeriesError, SeveralVolumesError: there are several, and none is chosen.
        FormatError: the name ends otherwise, the file cannot be read, or has no such series, plane
            or volume.
        WindowError: the window is none or does not fit its values.
    """
    lower = name.lower()
    with _named(name):
        if lower.endswith(VOLUME_SUFFIXES):
            check_choices(name, series=series)
            is_itk = lower.endswith((*ITK_SUFFIXES, *ITK_HEADER_SUFFIXES))
            kind = ItkScan if is_itk else NiftiScan
            return kind(name, content, window, plane=plane, volume=volume, beside=beside)
        if lower.endswith(PICTURE_SUFFIXES):
            check_choices(name, series=series, plane=plane, volume=volume)
            return PictureScan(name, content, window)
        if lower.endswith(DICOM_SUFFIXES) or is_dicom(content):
            check_choices(name, plane=plane)
            files = files_of_bytes(name, content)
            return DicomScan(name, files, window, series=series, volume=volume)
        check_choices(name, series=series, plane=plane, volume=volume)
        if lower.endswith(CASE_SUFFIXES):
            return CaseScan(name, content, window)
        raise FormatError(f"{name} must end in {', '.join(SUFFIXES)}")


def check_choices(
    name: str,
    *,
    series: str | None = None,
    plane: str = AUTOMATIC_PLANE,
    volume: int | None = None,
    straighten: bool = False,
) -> None:
    """Refuse a choice that the format does not have.

    Raises:
        FormatError: something is chosen.
    """
    volumes = "NIfTI, NRRD and MetaImage"
    for is_chosen, what, formats in (
        (series is not None, "A series can be chosen", "DICOM"),
        (plane != AUTOMATIC_PLANE, "A plane can be chosen", volumes),
        (volume is not None, "A volume can be chosen", f"DICOM, {volumes}"),
        (straighten, "Slices can be straightened", "DICOM"),
    ):
        if is_chosen:
            raise FormatError(f"{what} of {formats} alone, not of {name}")


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Let a window that does not fit the values say of which file they are."""
    try:
        yield
    except WindowError as error:
        raise WindowError(f"{name}: {error}") from error


def _pictures(folder: Path) -> list[Path]:
    """Return the pictures in a folder, whether they can be opened or not."""
    visible = sorted(each for each in folder.iterdir() if not each.name.startswith("."))
    named = [each for each in visible if each.name.lower().endswith(PICTURE_SUFFIXES)]
    return [each for each in named if not each.is_dir()]


def _has_dicom(folder: Path) -> bool:
    """Say whether a folder, or one in it, has DICOM.

    Raises:
        OSError: a file cannot be read, so that this is not known.
    """
    problem = None
    for file in visible_files(folder):
        if file.name.lower().endswith(DICOM_FILE_SUFFIXES):
            return True
        try:
            if begins_as_dicom(file):
                return True
        except OSError as error:
            problem = problem or error
    if problem is not None:
        raise problem
    return False


def _left_out(pictures: list[Path]) -> list[str]:
    """Say which pictures lie beside DICOM, or above it."""
    if not pictures:
        return []
    more = f" and {len(pictures) - 1} more" if len(pictures) > 1 else ""
    return [f"There is DICOM, which is read; pictures are left out: {pictures[0].name}{more}."]


def begins_as_dicom(path: Path) -> bool:
    """Say whether a file begins as DICOM does.

    Raises:
        OSError: it cannot be read.
    """
    with open_file(path) as stream:
        return is_dicom(stream.read(MAGIC_AT + len(MAGIC)))
