"""Which slices of the training data carry an object, by modality.

Data is Root/<Modality>/[<Dataset>/]*.npz. Each file is read once, to its end, so that a broken one
is named before training and not hours later; what was found is remembered in a small file. Slices
of nothing but background are left out.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from qmedsam.batch.case_file import GTS_KEY, PIXELS_KEY
from qmedsam.batch.cases import CASE_SUFFIX
from qmedsam.system.files import write_bytes
from training.data.volumes import DataError, open_training_case, read_layout
from training.pace import Pace

logger = logging.getLogger(__name__)

CACHE_VERSION = 2
MOST_NAMED = 20  # files in the log that have labels without boxes
SAVE_EVERY_S = 60.0  # so that an interrupted look through a large folder is not in vain


@dataclass(frozen=True)
class FileEntry:
    """A file as it was when it was read.

    Attributes:
        path: relative to the root, with slashes.
        slices: z of those with at least one object, ascending; (0,) of an image with one.
        unboxed_label: the highest label that has no box; 0 where all have one.
    """

    path: str
    mtime_ns: int
    size_bytes: int
    slices: tuple[int, ...]
    unboxed_label: int = 0


@dataclass(frozen=True)
class ModalityIndex:
    """The slices of one modality, numbered from 0 through its files.

    Attributes:
        entries: files with at least one slice, by path.
    """

    entries: tuple[FileEntry, ...]

    @cached_property
    def ends(self) -> tuple[int, ...]:
        """How many slices there are up to and with each file."""
        return tuple(accumulate(len(entry.slices) for entry in self.entries))

    @cached_property
    def datasets(self) -> dict[str, list[int]]:
        """The places of the entries by the folder that they lie in."""
        found: dict[str, list[int]] = {}
        for place, entry in enumerate(self.entries):
            found.setdefault(entry.path.rpartition("/")[0], []).append(place)
        return found

    def __len__(self) -> int:
        return self.ends[-1] if self.entries else 0

    def locate(self, number: int) -> tuple[FileEntry, int]:
        """Return file and z of a slice.

        Raises:
            IndexError: there is no such number.
        """
        if not 0 <= number < len(self):
            raise IndexError(f"Number must be 0 to {len(self) - 1}, got {number}")
        at = bisect_right(self.ends, number)
        entry = self.entries[at]
        return entry, entry.slices[number - self.ends[at]]  # counted from the end of the file


DataIndex = dict[str, ModalityIndex]


def build_index(
    root: Path, cache_file: Path | None = None, progress: TextIO | None = None
) -> DataIndex:
    """Find every slice that carries an object; files that cannot be used are logged and left out.

    Args:
        root: holds a folder for each modality.
        cache_file: what is known from before and will be; a file is read again where its time or
            size has changed.
        progress: where is told how far it is; see `Pace`.

    Raises:
        DataError: no file is left.
        OSError: the cache file cannot be written.
    """
    if not root.is_dir():
        raise DataError(f"{root} must be a folder, got none")
    known = _read_cache(cache_file) if cache_file else {}
    paths = _case_paths(root)
    entries: dict[str, FileEntry] = {}
    saved = time.monotonic()
    pace = Pace(len(paths), progress, "File")
    for path in paths:
        name = path.relative_to(root).as_posix()
        try:
            entries[name] = _up_to_date(path, name, known.get(name))
        except DataError as error:
            logger.warning("Left out: %s", error)
        pace.advance(name)
        if cache_file and time.monotonic() - saved > SAVE_EVERY_S:
            _write_cache(cache_file, {**known, **entries})
            saved = time.monotonic()
    pace.close()
    if cache_file and entries != known:
        _write_cache(cache_file, entries)
    _warn_of_labels(root, list(entries.values()))
    index = _by_modality(list(entries.values()))
    if not index:
        raise DataError(
            f"{root} must hold <Modality>/*{CASE_SUFFIX} with labelled objects, "
            f"got {len(paths)} files without"
        )
    return index


def without(index: DataIndex, folders: Sequence[str]) -> DataIndex:
    """Return an index without the files in some folders.

    Raises:
        DataError: there is no such folder, or nothing else.
    """
    found = {folder for part in index.values() for folder in part.datasets}
    if unknown := [folder for folder in folders if folder not in found]:
        raise DataError(f"Folders to exclude must be some of {sorted(found)}, got {unknown}")
    kept = [
        entry
        for part in index.values()
        for entry in part.entries
        if entry.path.rpartition("/")[0] not in folders
    ]
    if not kept:
        raise DataError("Every folder of the training data is excluded")
    return _by_modality(kept)


def index_digest(index: DataIndex) -> str:
    """Return what tells the slices of one index from those of another."""
    described = [
        [modality, entry.path, entry.size_bytes, _runs(entry.slices)]
        for modality, part in index.items()
        for entry in part.entries
    ]
    return hashlib.sha256(json.dumps(described).encode()).hexdigest()


def foreground_slices(labels: NDArray[np.integer[Any]], objects: int) -> tuple[int, ...]:
    """Return z of the slices of (H, W) or (D, H, W) with any label from 1 to `objects`."""
    slices = labels[None] if labels.ndim == 2 else labels
    return tuple(z for z, part in enumerate(slices) if np.any((part >= 1) & (part <= objects)))


def _case_paths(root: Path) -> list[Path]:
    # From each folder on its own: rglob enters a link only where it begins.
    folders = [folder for folder in root.iterdir() if folder.is_dir()]
    found = (path for folder in folders for path in folder.rglob(f"*{CASE_SUFFIX}"))
    shown = (
        path
        for path in found
        if not any(part.startswith(".") for part in path.relative_to(root).parts)
    )
    return sorted(shown, key=lambda path: path.relative_to(root).as_posix())


def _up_to_date(path: Path, name: str, known: FileEntry | None) -> FileEntry:
    try:
        stat = path.stat()
    except OSError as error:
        raise DataError(f"{path}: {error}") from error
    if known and (known.mtime_ns, known.size_bytes) == (stat.st_mtime_ns, stat.st_size):
        return known
    with open_training_case(path) as case:
        boxes = len(read_layout(case).boxes)
        labels = case.array(GTS_KEY)
        slices, highest = foreground_slices(labels, boxes), int(labels.max(initial=0))
        del labels  # memory is for one of the two
        case.array(PIXELS_KEY)
    return FileEntry(
        name, stat.st_mtime_ns, stat.st_size, slices, highest if highest > boxes else 0
    )


def _warn_of_labels(root: Path, entries: Sequence[FileEntry]) -> None:
    """Name the files that are left out, or of which objects are."""
    found = [entry for entry in entries if entry.unboxed_label or not entry.slices]
    for entry in found[:MOST_NAMED]:
        holds = f"labels up to {entry.unboxed_label}" if entry.unboxed_label else "background alone"
        logger.warning(
            "%s: %r must have label i for box i, got %s; %s left out",
            root / entry.path,
            GTS_KEY,
            holds,
            "labels without a box are" if entry.slices else "it is",
        )
    if len(found) > MOST_NAMED:
        more = len(found) - MOST_NAMED
        logger.warning("%d more files have labels without boxes, or no object", more)


def _by_modality(entries: Sequence[FileEntry]) -> DataIndex:
    """Group the files that have a slice by their first folder."""
    groups: dict[str, list[FileEntry]] = {}
    for entry in entries:
        if entry.slices:
            groups.setdefault(entry.path.split("/")[0], []).append(entry)
    return {modality: ModalityIndex(tuple(group)) for modality, group in groups.items()}


def _write_cache(path: Path, entries: dict[str, FileEntry]) -> None:
    files = {
        name: [
            entry.mtime_ns,
            entry.size_bytes,
            _runs(entry.slices),
            entry.unboxed_label,
        ]
        for name, entry in entries.items()
    }
    document = json.dumps({"version": CACHE_VERSION, "files": files}, separators=(",", ":"))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, document.encode())


def _read_cache(path: Path) -> dict[str, FileEntry]:
    """Return what is known by name; nothing where the file is missing, broken or another."""
    try:
        document = json.loads(path.read_text())
        if document["version"] != CACHE_VERSION:
            return {}
        return {
            name: FileEntry(name, int(mtime_ns), int(size_bytes), _slices(runs), int(unboxed))
            for name, (mtime_ns, size_bytes, runs, unboxed) in document["files"].items()
        }
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        logger.warning("Every file is read again, as %s is no index: %r", path, error)
        return {}


def _runs(slices: Sequence[int]) -> list[list[int]]:
    """Return first and last of each run of numbers, far fewer than the numbers themselves."""
    runs: list[list[int]] = []
    for z in slices:
        if runs and runs[-1][1] == z - 1:
            runs[-1][1] = z
        else:
            runs.append([z, z])
    return runs


def _slices(runs: Sequence[tuple[int, int]]) -> tuple[int, ...]:
    return tuple(z for first, last in runs for z in range(first, last + 1))
