"""What is open: scans as the network sees them, and what was found on them.

All of it is in memory, and many threads ask for it. A request takes the view of a scan once and
keeps it, so that a new window meanwhile changes nothing for that request.
"""

from __future__ import annotations

import itertools
import time
from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock

import cv2
import numpy as np
from fastapi import HTTPException
from numpy.typing import NDArray

from ..batch.cases import CASE_SUFFIX
from ..core.postprocess import LabelCanvas, MaskPatch
from ..core.quality import LOW_QUALITY
from ..formats.intensity import WINDOW_NAMES, parse_window
from ..formats.label_notes import LabelNotes
from ..formats.scan import PLANES, FormatError, Scan
from ..formats.writing import encode_labels
from ..segmenter import Segmenter
from ..session import Session
from ..system.files import printable
from ..system.memory import largest_array_bytes
from .schemas import MOST_OBJECTS, Found, Labels, Object, Opened, Outlines

MOST_SCANS = 4
REMEMBERED_SLICES = 8  # of each, 10 MB a slice


@dataclass(frozen=True)
class _Kept:
    """An object as it was found, and the window in which it was."""

    patches: dict[int, MaskPatch]
    window: str


@dataclass(frozen=True)
class View:
    """A scan in one window.

    Attributes:
        slices: (D, H, W) or, of an image, (1, H, W) or (1, H, W, 3).
        window: in words.
        window_name: empty of a level and width.
        session: of these pixels.
    """

    slices: NDArray[np.uint8]
    window: str
    window_name: str
    session: Session


class OpenScan:
    """A scan that is open.

    Attributes:
        number: by which it is asked for.
        view: in the present window; take it once.
    """

    def __init__(self, number: int, name: str, scan: Scan, segmenter: Segmenter) -> None:
        self.number = number
        self._name, self._scan, self._segmenter = name, scan, segmenter
        self._numbers = itertools.count(1)  # of objects
        self._objects: dict[int, _Kept] = {}
        self._objects_nbytes = 0
        self._changing = Lock()
        self.view = self._new_view()

    @property
    def nbytes(self) -> int:
        """Memory of the scan and of what was found on it."""
        return self._scan.nbytes + self._objects_nbytes

    def set_window(self, text: str) -> Opened:
        """See the scan in another window, by its name or level and width.

        Raises:
            WindowError: it is no window, or does not fit the scan.
        """
        window = parse_window(text)
        with self._changing:
            self._scan.set_window(window)
            self.view = view = self._new_view()
        return self.described(view)

    def described(self, view: View) -> Opened:
        """Return what the page has to know."""
        depth, height, width = self._shape
        has_planes = self._scan.is_volume and bool(self._scan.plane)
        return Opened(
            id=self.number,
            name=self._name,
            depth=depth,
            height=height,
            width=width,
            is_volume=self._scan.is_volume,
            has_preview=view.session.has_preview,
            window=view.window,
            window_name=view.window_name,
            windows=list(WINDOW_NAMES),
            remarks=list(self._scan.remarks),
            plane=self._scan.plane if has_planes else "",
            planes=list(PLANES) if has_planes else [],
            label_suffixes=[*self._scan.label_suffixes, CASE_SUFFIX],
        )

    def encode(self, z: int) -> None:
        """Encode a slice ahead of its first box.

        Raises:
            FormatError, InvalidCaseError: there is no such slice.
        """
        self._check_slices(z)
        self.view.session.encode(z if self._scan.is_volume else None)

    def preview(self, wanted: Object) -> Outlines:
        """Segment an object on its own slice, seen whole, and forget it.

        Raises:
            FormatError, InvalidCaseError: its box or slice is wrong.
        """
        begin = time.perf_counter()
        self._check_slices(wanted.slice, *(wanted.slices or ()))
        z = wanted.slice if self._scan.is_volume else None
        (mask,) = self.view.session.preview([wanted.box], z)
        contours = {z or 0: _polygons(mask)} if mask.any() else {}
        return Outlines(contours=contours, seconds=time.perf_counter() - begin)

    def find(self, wanted: Object) -> Found:
        """Segment an object and keep it.

        Raises:
            FormatError: there are too many, or it is of other slices than an image has.
            InvalidCaseError: its box or slices are wrong.
        """
        begin = time.perf_counter()
        self._check_slices(wanted.slice, *(wanted.slices or ()))
        view = self.view
        masks, quality = self._masks(view.session, wanted)
        kept = _Kept({z: _trimmed(mask) for z, mask in masks.items()}, view.window)
        number = self._keep(kept)
        contours = {z: _polygons(mask) for z, mask in masks.items()}
        seconds = time.perf_counter() - begin
        return Found(
            id=number,
            contours=contours,
            quality=quality,
            is_poor=quality is not None and quality < LOW_QUALITY,
            seconds=seconds,
        )

    def encode_labels(self, labels: Labels) -> bytes:
        """Return the file of a label map; a later object wins where two overlap.

        Raises:
            FormatError: there is no such object, or the name does not fit the scan.
        """
        canvas = LabelCanvas(self._shape, len(labels.objects))
        windows: dict[str, None] = {}
        for label, chosen in enumerate(labels.objects, 1):
            kept = self._objects.get(chosen.id)
            if kept is None:
                raise FormatError(f"Object {chosen.id} is not one of this image's.")
            windows[kept.window] = None
            for z, patch in kept.patches.items():
                canvas.paint(z, patch, label)
        names = tuple(chosen.name for chosen in labels.objects)
        notes = LabelNotes(", ".join(windows) or self.view.window, names)
        shaped = canvas.label_map if self._scan.is_volume else canvas.label_map[0]
        return encode_labels(self._scan, shaped, name=labels.name, notes=notes)

    @property
    def _shape(self) -> tuple[int, int, int]:
        """Depth, which is 1 of an image, height and width."""
        depth, height, width = [1, *self._scan.label_shape][-3:]
        return depth, height, width

    def _check_slices(self, *slices: int) -> None:
        """Refuse slices that an image does not have; those of a volume its session refuses."""
        if not self._scan.is_volume and any(slices):
            raise FormatError(f"An image has slice 0 alone, got {max(slices, key=abs)}.")

    def _new_view(self) -> View:
        scan = self._scan
        return View(
            slices=scan.pixels if scan.is_volume else scan.pixels[None],
            window=scan.described_window,
            window_name=scan.window if isinstance(scan.window, str) else "",
            session=self._segmenter.open(
                scan.pixels, remembered=REMEMBERED_SLICES, name=printable(self._name)
            ),
        )

    def _masks(
        self, session: Session, wanted: Object
    ) -> tuple[dict[int, NDArray[np.bool_]], float | None]:
        """Return the masks of an object by slice, those that are not empty, and its quality."""
        if not self._scan.is_volume:
            found = session.segment_rated([wanted.box])
            masks, first = found.label_map[None] > 0, 0
        else:
            first, last = wanted.slices or (wanted.slice, wanted.slice)
            found = session.propagate_rated([wanted.box], wanted.slice, (first, last))
            masks = found.label_map[first : last + 1] > 0
        quality = None if np.isnan(found.quality[0]) else float(found.quality[0])
        return {first + z: mask for z, mask in enumerate(masks) if mask.any()}, quality

    def _keep(self, kept: _Kept) -> int:
        """Return the number of an object that is kept from now on."""
        with self._changing:
            if len(self._objects) >= MOST_OBJECTS:
                raise FormatError(f"An image has {MOST_OBJECTS} objects at most; open it again.")
            number = next(self._numbers)
            self._objects[number] = kept
            self._objects_nbytes += sum(patch.mask.nbytes for patch in kept.patches.values())
        return number


class Shelf:
    """The scans that are open; those that were not used for longest make room.

    There are `MOST_SCANS` at most, and together they take as much memory as one array may. The
    newest stays, whatever it takes.
    """

    def __init__(self, segmenter: Segmenter) -> None:
        self._segmenter = segmenter
        self._most_bytes = largest_array_bytes()
        self._numbers = itertools.count(1)
        self._open: OrderedDict[int, OpenScan] = OrderedDict()
        self._lock = Lock()

    def add(self, name: str, scan: Scan) -> Opened:
        """Open a scan."""
        opened = OpenScan(next(self._numbers), name, scan, self._segmenter)
        with self._lock:
            self._open[opened.number] = opened
            while len(self._open) > 1 and self._is_full():
                self._open.popitem(last=False)
        return opened.described(opened.view)

    def get(self, number: int) -> OpenScan:
        """Return an open scan.

        Raises:
            HTTPException: it is none, or had to make room.
        """
        with self._lock:
            if number not in self._open:
                raise HTTPException(404, f"Image {number} is not open any more; open it again.")
            self._open.move_to_end(number)
            return self._open[number]

    def remove(self, number: int) -> None:
        """Close a scan, if it is open."""
        with self._lock:
            self._open.pop(number, None)

    def _is_full(self) -> bool:
        taken = sum(opened.nbytes for opened in self._open.values())
        return len(self._open) > MOST_SCANS or taken > self._most_bytes


def _trimmed(mask: NDArray[np.bool_]) -> MaskPatch:
    """Return the part of a slice round a mask, which is not empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    inside = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return MaskPatch(inside.copy(), int(rows[0]), int(columns[0]))


def _polygons(mask: NDArray[np.bool_]) -> list[list[tuple[int, int]]]:
    """Return the outlines of a mask along its outermost pixels, holes included."""
    found, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    return [[(int(x), int(y)) for x, y in polygon[:, 0]] for polygon in found]
