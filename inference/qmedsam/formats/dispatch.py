"""Which format a file has, by its name."""

from __future__ import annotations

from pathlib import Path

from ..batch.case_file import SEGS_KEY
from ..batch.cases import CASE_SUFFIX, archive_with_info
from ..core.postprocess import LabelMap
from ..system.files import write_bytes
from .dicom import DicomScan
from .dicom_datasets import MAGIC, MAGIC_AT, is_dicom
from .intensity import IntensityWindow
from .nifti import NiftiScan
from .npz import CaseScan
from .picture import PictureScan
from .scan import FormatError, LabelNotes, Scan
from .suffixes import CASE_SUFFIXES, DICOM_SUFFIXES, NIFTI_SUFFIXES, PICTURE_SUFFIXES, SUFFIXES


def open_scan(
    path: Path, window: str | IntensityWindow | None = None, series: str | None = None
) -> Scan:
    """Read an image or volume from a file or the folder of a DICOM series; see `read_scan`.

    Args:
        path: of the file or folder.
        window: as of `read_scan`.
        series: number or UID of the series in a folder; needed where there are several.
    """
    try:
        if path.is_dir():
            files = sorted(file for file in path.iterdir() if file.is_file())
            visible = [file for file in files if not file.name.startswith(".")]
            contents = [file.read_bytes() for file in visible]
            return DicomScan(str(path), contents, window, series)
        if not path.name.lower().endswith(SUFFIXES) and not _begins_as_dicom(path):
            raise FormatError(
                f"{path} must be DICOM, a folder of it, or end in {', '.join(SUFFIXES)}"
            )
        return read_scan(str(path), path.read_bytes(), window)
    except OSError as error:
        raise FormatError(f"{path} cannot be read: {error}") from error


def read_scan(name: str, content: bytes, window: str | IntensityWindow | None = None) -> Scan:
    """Read an image or volume from the content of a file.

    Args:
        name: of the file, which ends in one of `SUFFIXES` unless it is DICOM.
        content: of the file.
        window: of its values; None is what suits the format: percentiles, soft tissue for CT in
            DICOM, and pictures of 8 bits as they are.

    Raises:
        FormatError: the name ends otherwise, or the file cannot be read.
        WindowError: the window does not fit its values.
    """
    lower = name.lower()
    if lower.endswith(NIFTI_SUFFIXES):
        return NiftiScan(name, content, window)
    if lower.endswith(PICTURE_SUFFIXES):
        return PictureScan(name, content, window)
    if lower.endswith(DICOM_SUFFIXES) or is_dicom(content):
        return DicomScan(name, [content], window)
    if lower.endswith(CASE_SUFFIXES):
        return CaseScan(name, content, window)
    raise FormatError(f"{name} must end in {', '.join(SUFFIXES)}")


def check_labels_name(scan: Scan, name: str) -> str:
    """Return the suffix in which the name of a file of labels ends.

    Raises:
        FormatError: it does not fit the scan.
    """
    suffixes = (*scan.label_suffixes, CASE_SUFFIX)
    suffix = next((each for each in suffixes[::-1] if name.lower().endswith(each)), None)
    if suffix is None:
        raise FormatError(f"{name} must end in {', '.join(suffixes)}")
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
