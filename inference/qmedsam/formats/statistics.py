"""What is measured of each object of a label map: its size, intensities and place."""

from __future__ import annotations

import csv
import io
import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..core.postprocess import LabelMap
from ..system.files import write_bytes
from .columns import AXES, titles
from .intensity import is_measured
from .label_notes import LabelNotes
from .scan import FormatError, Scan
from .seal import OPEN_SEAL, seal
from .writing import checked_labels

STATISTICS_SUFFIXES = (".csv", ".json")
DIGITS = 9  # of a number that is written


@dataclass(frozen=True)
class ObjectStatistics:
    """What is measured of an object.

    Attributes:
        label: of it.
        name: of it.
        quality: DSC that the model predicts of its mask, 0 to 1; None where it does not say.
        voxels: how many it has, or pixels.
        volume_mm3: of an object of a volume; None where the size of a voxel is unknown.
        area_mm2: of an object of an image; None where the size of a pixel is unknown.
        mean: of the values of the file, of each channel; None where none is measured.
        deviation: likewise, the standard deviation (of a population).
        low: likewise, the lowest.
        high: likewise, the highest.
        centre: mean place in the file, as boxes have it: x, y, z; z of an image is 0.
        first: lowest voxel in the file along each axis.
        last: highest.
        centre_mm: mean place in the patient, millimetres to the left, back and top (LPS); None
            where the file does not say.
        low_mm: where the outermost voxels end.
        high_mm: likewise.
    """

    label: int
    name: str
    quality: float | None
    voxels: int
    volume_mm3: float | None = None
    area_mm2: float | None = None
    mean: tuple[float, ...] | None = None
    deviation: tuple[float, ...] | None = None
    low: tuple[float, ...] | None = None
    high: tuple[float, ...] | None = None
    centre: tuple[float, ...] | None = None
    first: tuple[int, ...] | None = None
    last: tuple[int, ...] | None = None
    centre_mm: tuple[float, ...] | None = None
    low_mm: tuple[float, ...] | None = None
    high_mm: tuple[float, ...] | None = None


def statistics_of(
    scan: Scan, label_map: ArrayLike, *, notes: LabelNotes, quality: Sequence[float] = ()
) -> list[ObjectStatistics]:
    """Measure each object of a label map.

    Args:
        scan: whose values are measured, those of the file before they had 8 bits; those that are
            no measurement do not count.
        label_map: of the scan's `label_shape`.
        notes: of it, with a name for each object.
        quality: predicted DSC of each; NaN where the model does not say.

    Returns:
        One of each label that occurs, has a name, or of which there is a quality.

    Raises:
        FormatError: the label map is not of this scan.
    """
    labels = checked_labels(scan, label_map)
    values = scan.values if scan.is_volume else scan.values[None]
    named = (label for label, name in enumerate(notes.names, 1) if name)
    sums = {label: _Sums() for label in (*range(1, len(quality) + 1), *named)}
    to_mm = scan.affine @ scan.own_axes if scan.is_placed and scan.affine is not None else None
    for label, places, found in _parts(labels if scan.is_volume else labels[None], values):
        sums.setdefault(label, _Sums()).add(places, found, to_mm)
    return [
        of_label.result(
            scan,
            to_mm,
            label=label,
            name=notes.name(label),
            quality=_known(quality, label - 1),
        )
        for label, of_label in sorted(sums.items())
    ]


def check_statistics_name(path: Path) -> None:
    """Check that a name says how statistics are written.

    Raises:
        FormatError: it ends in another way.
    """
    if path.suffix.lower() not in STATISTICS_SUFFIXES:
        raise FormatError(f"{path} must end in {', '.join(STATISTICS_SUFFIXES)}, as statistics do")


def write_statistics(path: Path, scan: Scan, found: Sequence[ObjectStatistics]) -> None:
    """Write what is measured of objects as CSV, a row each, or JSON.

    Args:
        path: of the file, which ends in one of `STATISTICS_SUFFIXES`.
        scan: whose objects they are.
        found: of `statistics_of`.

    Raises:
        FormatError: the name ends in another way.
        OSError: it cannot be written.
    """
    check_statistics_name(path)
    rows = [_row(scan, each) for each in found]
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix.lower() == ".json":
        document = {**OPEN_SEAL, "objects": rows}
        write_bytes(path, seal(json.dumps(document, indent=1).encode()))
        return
    text = io.StringIO()
    table = csv.DictWriter(text, list(_row(scan, ObjectStatistics(1, "", None, 0))))
    table.writeheader()
    table.writerows(rows)
    write_bytes(path, text.getvalue().encode())


class _Sums:
    """What is known of an object so far, slice by slice."""

    def __init__(self) -> None:
        self.voxels = self.measured = 0
        self.place = np.zeros(3)  # in pixels, their sum
        self.first: NDArray[Any] = np.full(3, np.inf)
        self.last: NDArray[Any] = np.full(3, -np.inf)
        self.low_mm: NDArray[Any] = np.full(3, np.inf)
        self.high_mm: NDArray[Any] = np.full(3, -np.inf)
        self.mean: NDArray[Any] = np.zeros(1)
        self.squares: NDArray[Any] = np.zeros(1)  # of what values differ from the mean, their sum
        self.low: NDArray[Any] = np.array([np.inf])
        self.high: NDArray[Any] = np.array([-np.inf])

    def add(
        self, places: NDArray[Any], values: NDArray[Any], to_mm: NDArray[np.float64] | None
    ) -> None:
        """Count voxels in.

        Args:
            places: (N, 3), x, y and z in pixels.
            values: (N, C).
            to_mm: turns pixels into millimetres, (4, 4).
        """
        self.voxels += len(places)
        self.place += places.sum(axis=0)
        self.first = np.minimum(self.first, places.min(axis=0))
        self.last = np.maximum(self.last, places.max(axis=0))
        if to_mm is not None:
            in_mm = places @ to_mm[:3, :3].T + to_mm[:3, 3]
            self.low_mm = np.minimum(self.low_mm, in_mm.min(axis=0))
            self.high_mm = np.maximum(self.high_mm, in_mm.max(axis=0))
        values = values[is_measured(values).all(axis=1)].astype(np.float64)
        if not len(values):
            return
        self.low = np.minimum(self.low, values.min(axis=0))
        self.high = np.maximum(self.high, values.max(axis=0))
        with np.errstate(over="ignore", invalid="ignore"):  # of values near the ends of their type
            mean = values.mean(axis=0)
            # Two parts become one as Chan et al. 1979 have it, which loses no digits.
            total = self.measured + len(values)
            apart = mean - self.mean
            self.squares = self.squares + ((values - mean) ** 2).sum(axis=0)
            self.squares = self.squares + apart**2 * (self.measured * len(values) / total)
            self.mean = self.mean + apart * (len(values) / total)
        self.measured = total

    def result(
        self,
        scan: Scan,
        to_mm: NDArray[np.float64] | None,
        *,
        label: int,
        name: str,
        quality: float | None,
    ) -> ObjectStatistics:
        """Return what all voxels together are."""
        if not self.voxels:
            return ObjectStatistics(label, name, quality, 0, *_sizes(scan, 0))
        volume, area = _sizes(scan, self.voxels)
        ends = np.array([self.first, self.last]) @ scan.own_axes[:3, :3].T + scan.own_axes[:3, 3]
        centre = self.place / self.voxels
        deviation = np.sqrt(self.squares / max(self.measured, 1))
        is_measured_at_all = self.measured > 0
        half = np.zeros(3) if to_mm is None else np.abs(to_mm[:3, :3]).sum(axis=1) / 2
        return ObjectStatistics(
            label,
            name,
            quality,
            self.voxels,
            volume,
            area,
            mean=_floats(self.mean) if is_measured_at_all else None,
            deviation=_floats(deviation) if is_measured_at_all else None,
            low=_floats(self.low) if is_measured_at_all else None,
            high=_floats(self.high) if is_measured_at_all else None,
            centre=_floats(scan.own_axes[:3, :3] @ centre + scan.own_axes[:3, 3]),
            first=tuple(int(end) for end in ends.min(axis=0)),
            last=tuple(int(end) for end in ends.max(axis=0)),
            centre_mm=None if to_mm is None else _floats(to_mm[:3, :3] @ centre + to_mm[:3, 3]),
            low_mm=None if to_mm is None else _floats(self.low_mm - half),
            high_mm=None if to_mm is None else _floats(self.high_mm + half),
        )


def _parts(
    labels: LabelMap, values: NDArray[Any]
) -> Iterator[tuple[int, NDArray[Any], NDArray[Any]]]:
    """Give, slice by slice, the places (N, 3) and values (N, C) of each label on it."""
    for z, (of_slice, shown) in enumerate(zip(labels, values, strict=True)):
        rows, columns = np.nonzero(of_slice)
        if not len(rows):
            continue
        found = of_slice[rows, columns]
        order = np.argsort(found, kind="stable")
        present, starts = np.unique(found[order], return_index=True)
        places = np.column_stack([columns, rows, np.full_like(rows, z)])[order]
        own = shown[rows, columns].reshape(len(rows), -1)[order]
        ends = [*starts[1:], len(order)]
        for label, start, end in zip(present, starts, ends, strict=True):
            yield int(label), places[start:end], own[start:end]


def _sizes(scan: Scan, voxels: int) -> tuple[float | None, float | None]:
    """Return the volume of voxels of a volume, or the area of pixels of an image."""
    if scan.is_volume:
        if scan.affine is None:
            return None, None
        return voxels * float(abs(np.linalg.det(scan.affine[:3, :3]))), None
    if scan.affine is not None:
        steps = (scan.affine @ scan.own_axes)[:3, :2]
        return None, voxels * float(np.linalg.norm(np.cross(steps[:, 0], steps[:, 1])))
    return None, None if scan.spacing is None else voxels * float(np.prod(scan.spacing))


def _row(scan: Scan, found: ObjectStatistics) -> dict[str, Any]:
    """Return statistics by the names of their columns, with units; None is unknown."""
    channels = scan.values.shape[-1] if scan.values.ndim > len(scan.label_shape) else 1
    several = (found.mean, found.deviation, found.low, found.high)
    values = [
        found.label,
        found.name,
        found.quality,
        found.voxels,
        found.volume_mm3,
        found.area_mm2,
        *itertools.chain.from_iterable(each or [None] * channels for each in several),
        *itertools.chain.from_iterable(
            each or [None] * len(AXES)
            for each in (
                found.centre,
                found.first,
                found.last,
                found.centre_mm,
                found.low_mm,
                found.high_mm,
            )
        ),
    ]
    return dict(zip(titles(channels), map(_rounded, values), strict=True))


def _rounded(value: Any) -> Any:
    """Return a number with the digits that mean something; None of one beyond all."""
    if not isinstance(value, float):
        return value
    return float(f"{value:.{DIGITS}g}") if np.isfinite(value) else None


def _known(quality: Sequence[float], index: int) -> float | None:
    found = float(quality[index]) if index < len(quality) else np.nan
    return found if np.isfinite(found) else None


def _floats(values: NDArray[Any]) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
