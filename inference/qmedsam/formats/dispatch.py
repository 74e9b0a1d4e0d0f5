"""Which format a file has, by its name."""

from __future__ import annotations

from pathlib import Path

from ..batch.case_file import SEGS_KEY
from ..batch.cases import CASE_SUFFIX, archive_with_info
from ..core.postprocess import LabelMap
from ..system.files import write_bytes
from .dicom.headers import MAGIC, MAGIC_AT, is_dicom
from .dicom.scan import DicomScan
from .dicom.sources import DICOMDIR, files_of_bytes, files_of_path
from .intensity import IntensityWindow
from .nifti import NiftiScan
from .npz import CaseScan
from .picture import PictureScan
from .scan import FormatError, LabelNotes, Scan
from .suffixes import CASE_SUFFIXES, DICOM_SUFFIXES, NIFTI_SUFFIXES, PICTURE_SUFFIXES, SUFFIXES


def open_scan(
    path: Path,
    window: str | IntensityWindow | None = None,
    series: str | None = None,
    *,
    volume: int | None = None,
    straighten: bool = False,
) -> Scan:
    """Read an image or volume from a file or the folder of a DICOM series; see `read_scan`.

    Args:
        path: of the file or folder, or of a DICOMDIR.
        window: as of `read_scan`.
        series: as of `read_scan`.
        volume: as of `read_scan`.
        straighten: put labels of slices under a tilted gantry on a straight grid in NIfTI.
    """
    lower = path.name.lower()
    try:
        is_many = path.is_dir() or path.name.upper() == DICOMDIR
        if is_many or lower.endswith(DICOM_SUFFIXES) or _begins_as_dicom(path):
            return DicomScan(
                str(path),
                files_of_path(path),
                window,
                series=series,
                volume=volume,
                straighten=straighten,
            )
        if not lower.endswith(SUFFIXES):
            raise FormatError(
                f"{path} must be DICOM, a folder of it, or end in {', '.join(SUFFIXES)}"
            )
        if series is not None or volume is not None or straighten:
            raise FormatError(f"{path} must be DICOM to have series, volumes or slices that lean")
        return read_scan(str(path), path.read_bytes(), window)
    except OSError as error:
        raise FormatError(f"{path} cannot be read: {error}") from error


def read_scan(
    name: str,
    content: bytes,
    window: str | IntensityWindow | None = None,
    *,
    series: str | None = None,
    volume: int | None = None,
) -> Scan:
    """Read an image or volume from the content of a file.

    Args:
        name: of the file, which ends in one of `SUFFIXES` unless it is DICOM.
        content: of the file.
        window: of its values; None is what suits the format: percentiles, soft tissue for CT in
            DICOM, and pictures of 8 bits as they are.
        series: number or UID of the DICOM series; needed where there are several.
        volume: number of the volume or image in it, from 1; needed where there are several.

    Raises:
        SeveralSeriesError, SeveralVolumesError: there are several, and none is chosen.
        FormatError: the name ends otherwise, or the file cannot be read.
        WindowError: the window does not fit its values.
    """
    lower = name.lower()
    if lower.endswith(NIFTI_SUFFIXES):
        return NiftiScan(name, content, window)
    if lower.endswith(PICTURE_SUFFIXES):
        return PictureScan(name, content, window)
    if lower.endswith(DICOM_SUFFIXES) or is_dicom(content):
        files = files_of_bytes(name, content)
        return DicomScan(name, files, window, series=series, volume=volume)
    if lower.endswith(CASE_SUFFIXES):
        return CaseScan(name, content, window)
    raise FormatError(f"{name} must end in {', '.join(SUFFIXES)}")


def check_labels_name(scan: Scan, name: str) -> str:
    """Return the suffix in which the name of a file of labels ends.

    Raises:
        FormatError: it does not fit the scan, or labels of it cannot be written so.
    """
    suffixes = (*scan.refusals, *scan.label_suffixes, CASE_SUFFIX)
    suffix = next((each for each in suffixes[::-1] if name.lower().endswith(each)), None)
    if suffix is None:
        fitting = ", ".join((*scan.label_suffixes, CASE_SUFFIX))
        raise FormatError(f"{name} must end in {fitting}")
    try:
        scan.check(suffix)
    except FormatError as error:
        raise FormatError(f"{name} cannot be written. {error}") from error
    return suffix


def encode_labels(scan: Scan, label_map: LabelMap, name: str, notes: LabelNotes) -> bytes:
    """Return the file of a label map in the geometry of a scan, or as the challenge's `.npz`.

    Args:
        scan: of which it is.
        label_map: of the scan's `label_shape`.
        name: of the file, whose end says which format.
        notes: to go with it.

    Raises:
        FormatError: the name does not fit the scan, or the labels cannot be encoded.
    """
    suffix = check_labels_name(scan, name)
    if suffix == CASE_SUFFIX:
        return archive_with_info({SEGS_KEY: label_map}, notes.as_json())
    return scan.encode(label_map, suffix, notes)


def write_labels(
    scan: Scan, label_map: LabelMap, path: Path, notes: LabelNotes | None = None
) -> None:
    """Write what `encode_labels` returns; without notes, those of the scan's window.

    Raises:
        FormatError: the name does not fit the scan, or the file cannot be written.
    """
    content = encode_labels(scan, label_map, str(path), notes or scan.notes_of(()))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, content)
    except OSError as error:
        raise FormatError(f"{path} cannot be written: {error}") from error


def _begins_as_dicom(path: Path) -> bool:
    with path.open("rb") as stream:
        return is_dicom(stream.read(MAGIC_AT + len(MAGIC)))
