"""Where the commands that run a folder write: among no cases, nor over what is read or written.

Paths are compared where they lead to, so that another name of a place is known.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from ..batch.cases import is_among_cases, list_cases
from ..batch.report import is_own_report
from ..config import Variant
from ..errors import ModelError, UsageError
from ..model.manifest import read_manifest
from ..model.variant import find_model

PICTURE_SUFFIX = ".png"


@dataclass(frozen=True)
class Places:
    """The folders and files of a run.

    Attributes:
        inputs: folder of the cases; None where that is on no file system of this machine.
        label_maps: folder; the same.
        pictures: folder; None draws none.
        report: file; None writes none.
        cache_dir: of compiled models; None is none.
        model_dir: folder of one model or several; None is one of those that ship.
        variant: which of them.
    """

    inputs: Path | None
    label_maps: Path | None
    pictures: Path | None = None
    report: Path | None = None
    cache_dir: Path | None = None
    model_dir: Path | None = None
    variant: Variant = "auto"


def check_places(places: Places, *, overwrites: bool) -> None:
    """Check where a run writes, before it does.

    Args:
        places: of the run.
        overwrites: whether other files of the user may be replaced by the report.

    Raises:
        UsageError: cases would be lost or found where there are none, or the report would be
            written over something else.
    """
    inputs, label_maps = places.inputs, places.label_maps
    if inputs is not None and label_maps is not None and is_same(inputs, label_maps):
        raise UsageError(
            f"Output folder {label_maps} is the input folder, whose cases it would lose"
        )
    report = places.report
    kept = [resolved(folder) for folder in (inputs, label_maps) if folder is not None]
    for folder in (places.pictures, None if report is None else report.parent, places.cache_dir):
        if folder is not None and resolved(folder) in kept:
            raise UsageError(f"Folder {folder} is kept for cases or label maps alone")
    for path in (label_maps, places.pictures, report, places.cache_dir):
        if path is None or inputs is None:
            continue
        if any(
            is_among_cases(each, resolved(inputs)) for each in (_location(path), resolved(path))
        ):
            raise UsageError(f"{path} would be taken for a case, or is in one; name it otherwise")
    if report is not None:
        _check_report(report, places, overwrites=overwrites)


def is_same(one: Path, other: Path) -> bool:
    """Say whether two paths lead to one file or folder.

    Raises:
        UsageError: one leads nowhere.
    """
    try:
        return os.path.samefile(one, other)  # which knows hard links, too
    except OSError:  # one is not there yet
        return resolved(one) == resolved(other)


def resolved(path: Path) -> Path:
    """Return where a path leads.

    Raises:
        UsageError: it leads nowhere.
    """
    try:
        return path.resolve()
    except (OSError, RuntimeError) as error:  # RuntimeError of links that lead to themselves
        raise UsageError(f"{path} cannot be used: {error}") from error


def _location(path: Path) -> Path:
    """Return where something is written: what is there may be a link, which is replaced."""
    is_named = path.name not in ("", "..")
    return resolved(path.parent) / path.name if is_named else resolved(path)


def _check_report(report: Path, places: Places, *, overwrites: bool) -> None:
    try:
        report.stat()
    except FileNotFoundError:
        pass
    except OSError as error:  # of a name that no file can have, too
        raise UsageError(f"Report {report} cannot be written: {error}") from error
    location, pictures = _location(report), places.pictures
    if os.path.isdir(report):
        raise UsageError(f"Report {report} must be a file, got a folder")
    is_picture = report.suffix.lower() == PICTURE_SUFFIX
    if is_picture and pictures is not None and location.parent == resolved(pictures):
        raise UsageError(f"Report {report} would take the place of a picture; name it otherwise")
    if not os.path.exists(report) or is_own_report(report):
        return
    if _is_used(report, location, places):
        raise UsageError(f"Report {report} would be written over what is read or written here")
    if not overwrites:
        raise UsageError(f"Report {report} is no report of an earlier run; --overwrite replaces it")


def _is_used(report: Path, location: Path, places: Places) -> bool:
    """Say whether a file is one of the cases, the model or the cache."""
    of_model = _model_files(places)
    files = of_model + _cases(places.inputs)
    folders = {resolved(file.parent) for file in of_model}
    folders |= {resolved(each) for each in (places.model_dir, places.cache_dir) if each is not None}
    return any(location.is_relative_to(folder) for folder in folders) or any(
        is_same(report, file) for file in files
    )


def _cases(folder: Path | None) -> list[Path]:
    try:
        return [] if folder is None else list_cases(folder)
    except OSError:  # what lists them says so
        return []


def _model_files(places: Places) -> list[Path]:
    try:
        return read_manifest(find_model(places.model_dir, places.variant)).paths
    except ModelError:  # what runs it says so; of a cluster it need not be here
        return []
