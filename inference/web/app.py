"""The page and its REST endpoints, by FastAPI; `qmedsam serve`.

Uploads stay in memory, a few at a time, and go when the process does. The page loads nothing from
elsewhere.
"""

from __future__ import annotations

import itertools
import time
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Annotated, Any

import cv2
import numpy as np
from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from numpy.typing import NDArray
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool
from starlette.middleware.trustedhost import TrustedHostMiddleware

from ..cases import CASE_SUFFIX
from ..errors import InferenceError
from ..formats import dicom
from ..formats.files import encode_labels, read_scan
from ..formats.intensity import WINDOW_NAMES, describe, parse_window
from ..formats.scan import FormatError, LabelNotes, Scan
from ..overlay import encode_png
from ..postprocess import LabelMap, label_dtype
from ..preprocess import as_rgb
from ..segmenter import Segmenter, Session
from ..version import __version__

STATIC = Path(__file__).parent / "static"
MOST_SCANS = 4
MOST_OBJECTS = 1000  # of each
REMEMBERED_SLICES = 8  # of each, 10 MB a slice
SIZES_HEADER = "x-file-sizes"  # of the files in a body, with commas between
POLICY = "default-src 'self'; img-src 'self' blob:; frame-ancestors 'none'"


class Opened(BaseModel):
    """An image or volume that is open."""

    id: int
    name: str
    depth: int = Field(description="slices; 1 of an image")
    height: int
    width: int
    is_volume: bool
    window: str = Field(description="how values became 8 bits")
    windows: list[str] = Field(description="names that the window may have")
    label_suffixes: list[str] = Field(description="in which names of label maps may end")
    remarks: list[str] = Field(description="what to know of the file")


class Window(BaseModel):
    """How values become 8 bits."""

    window: str = Field(description="a name, or LEVEL,WIDTH")


class Object(BaseModel):
    """What was boxed on a slice, and to which slices it goes."""

    box: tuple[float, float, float, float] = Field(description="x0, y0, x1, y1 in pixels")
    slice: int = Field(0, description="the slice that the box is of")
    slices: tuple[int, int] | None = Field(
        None, description="first and last slice to follow it to; None is that slice alone"
    )


class Found(BaseModel):
    """What was found in a box; it is kept until the scan is closed."""

    id: int
    contours: dict[int, list[list[tuple[int, int]]]] = Field(
        description="polygons of x, y by slice"
    )
    seconds: float


class Chosen(BaseModel):
    """An object of a label map."""

    id: int
    name: str = ""


class Labels(BaseModel):
    """Which objects go into a label map, and the name of its file."""

    objects: list[Chosen] = Field(description="in the order of their labels, which count from 1")
    name: str


@dataclass(frozen=True)
class _Patch:
    """The part of a slice round a mask."""

    top: int
    left: int
    mask: NDArray[np.bool_]

    @classmethod
    def of(cls, mask: NDArray[np.bool_]) -> _Patch:
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        inside = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        return cls(int(rows[0]), int(columns[0]), inside.copy())

    def paint(self, labels: LabelMap, label: int) -> None:
        height, width = self.mask.shape
        part = labels[self.top : self.top + height, self.left : self.left + width]
        part[self.mask] = label


@dataclass(frozen=True)
class _Kept:
    """An object as it was found, and the window in which it was."""

    patches: dict[int, _Patch]
    window: str


class _Open:
    """A scan with its session, which a new window replaces."""

    def __init__(self, number: int, name: str, scan: Scan, segmenter: Segmenter) -> None:
        self.number, self.name, self.scan = number, name, scan
        self._numbers = itertools.count(1)  # of objects
        self._segmenter = segmenter
        self._objects: dict[int, _Kept] = {}
        self.session = self._new_session()

    def set_window(self, text: str) -> None:
        self.scan.set_window(parse_window(text))
        self.session = self._new_session()

    def described(self) -> Opened:
        depth, height, width = self._shape
        return Opened(
            id=self.number,
            name=self.name,
            depth=depth,
            height=height,
            width=width,
            is_volume=self.scan.is_volume,
            window=describe(self.scan.window),
            windows=list(WINDOW_NAMES),
            remarks=list(self.scan.remarks),
            label_suffixes=[*self.scan.label_suffixes, CASE_SUFFIX],
        )

    def find(self, wanted: Object) -> Found:
        """Segment an object and keep it.

        Raises:
            FormatError: there are too many.
        """
        begin = time.perf_counter()
        if len(self._objects) >= MOST_OBJECTS:
            raise FormatError(f"An image has {MOST_OBJECTS} objects at most; open it again.")
        masks = self._masks(wanted)
        patches = {z: _Patch.of(mask) for z, mask in masks.items()}
        number = next(self._numbers)
        self._objects[number] = _Kept(patches, describe(self.scan.window))
        contours = {z: _polygons(mask) for z, mask in masks.items()}
        return Found(id=number, contours=contours, seconds=time.perf_counter() - begin)

    def _masks(self, wanted: Object) -> dict[int, NDArray[np.bool_]]:
        """Return the masks of an object by slice, those that are not empty."""
        if not self.scan.is_volume:
            found = self.session.masks([wanted.box])[0][None]
            first = 0
        else:
            first, last = wanted.slices or (wanted.slice, wanted.slice)
            followed = self.session.propagate([wanted.box], wanted.slice, (first, last))
            found = followed[first : last + 1] > 0
        return {first + z: mask for z, mask in enumerate(found) if mask.any()}

    def encode_labels(self, labels: Labels) -> bytes:
        """Return the file of a label map; a later object wins where two overlap.

        Raises:
            FormatError: there is no such object, or the name does not fit the scan.
        """
        label_map = np.zeros(self._shape, dtype=label_dtype(len(labels.objects)))
        windows: dict[str, None] = {}
        for label, chosen in enumerate(labels.objects, 1):
            kept = self._objects.get(chosen.id)
            if kept is None:
                raise FormatError(f"Object {chosen.id} is not one of this image's.")
            windows[kept.window] = None
            for z, patch in kept.patches.items():
                patch.paint(label_map[z], label)
        names = tuple(chosen.name for chosen in labels.objects)
        notes = LabelNotes(", ".join(windows) or describe(self.scan.window), names)
        shaped = label_map if self.scan.is_volume else label_map[0]
        return encode_labels(self.scan, shaped, labels.name, notes)

    @property
    def _shape(self) -> list[int]:
        """Depth, which is 1 of an image, height and width."""
        return [1, *self.scan.label_shape][-3:]

    def _new_session(self) -> Session:
        return self._segmenter.open(self.scan.pixels, remembered=REMEMBERED_SLICES)


class Shelf:
    """The scans that are open; the one that was not used for longest makes room."""

    def __init__(self, segmenter: Segmenter) -> None:
        self._segmenter = segmenter
        self._numbers = itertools.count(1)
        self._open: OrderedDict[int, _Open] = OrderedDict()
        self._lock = Lock()

    def add(self, name: str, scan: Scan) -> _Open:
        """Open a scan."""
        opened = _Open(next(self._numbers), name, scan, self._segmenter)
        with self._lock:
            self._open[opened.number] = opened
            while len(self._open) > MOST_SCANS:
                self._open.popitem(last=False)
        return opened

    def get(self, number: int) -> _Open:
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


def create_app(segmenter: Segmenter, *, hosts: list[str], most_bytes: int) -> FastAPI:
    """Build the application.

    Args:
        segmenter: that all requests share; they take turns.
        hosts: names by which it may be asked for, against pages that point theirs to this machine.
        most_bytes: of an upload.
    """
    app = FastAPI(title="QMedSAM Service", version=__version__, docs_url=None, redoc_url=None)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=hosts)
    shelf = Shelf(segmenter)

    @app.middleware("http")
    async def protect(request: Request, call_next: Any) -> Any:
        response = await call_next(request)
        response.headers["Content-Security-Policy"] = POLICY
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Cache-Control"] = "no-store"
        return response

    @app.exception_handler(InferenceError)
    async def refuse(request: Request, error: InferenceError) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, 422)

    @app.post("/api/scans", summary="Open an image or volume")
    async def open_scan(request: Request, name: Annotated[str, Query(max_length=300)]) -> Opened:
        """Take the content of a file as the body.

        Slices of a DICOM series come one after another, their sizes in the header `X-File-Sizes`.
        """
        content = await _body(request, most_bytes)
        sizes = request.headers.get(SIZES_HEADER, "")

        def read() -> Opened:
            contents = _split(content, sizes)
            if len(contents) > 1:
                return shelf.add(name, dicom.DicomScan(name, contents)).described()
            return shelf.add(name, read_scan(name, content)).described()

        return await run_in_threadpool(read)

    @app.delete("/api/scans/{number}", summary="Close it")
    def close_scan(number: int) -> None:
        shelf.remove(number)

    @app.put("/api/scans/{number}/window", summary="Set window and level")
    def set_window(number: int, window: Window) -> Opened:
        """Make the 8 bits anew, which the network sees and the page shows."""
        opened = shelf.get(number)
        opened.set_window(window.window)
        return opened.described()

    @app.get("/api/scans/{number}/slices/{z}", summary="A slice as PNG", response_class=Response)
    def get_slice(number: int, z: int) -> Response:
        scan = shelf.get(number).scan
        slices = scan.pixels if scan.is_volume else scan.pixels[None]
        if not 0 <= z < len(slices):
            raise HTTPException(404, f"Slice must be 0 to {len(slices) - 1}, got {z}.")
        return Response(encode_png(as_rgb(slices[z])), media_type="image/png")

    @app.post("/api/scans/{number}/slices/{z}/encoding", summary="Encode a slice ahead")
    def encode(number: int, z: int) -> None:
        """Do beforehand what the first box on a slice waits for."""
        opened = shelf.get(number)
        opened.session.encode(z if opened.scan.is_volume else None)

    @app.post("/api/scans/{number}/contours", summary="Segment a box")
    def segment(number: int, wanted: Object) -> Found:
        """Return the outlines of what is in a box, on its slice or followed to others."""
        return shelf.get(number).find(wanted)

    @app.post("/api/scans/{number}/labels", summary="Download", response_class=Response)
    def download(number: int, labels: Labels) -> Response:
        """Return the label map of objects in the geometry of the scan."""
        content = shelf.get(number).encode_labels(labels)
        return Response(content, media_type="application/octet-stream")

    @app.get("/", include_in_schema=False)
    def page() -> FileResponse:
        return FileResponse(STATIC / "index.html")

    @app.get("/api", include_in_schema=False)
    def api_page() -> FileResponse:
        return FileResponse(STATIC / "api.html")

    app.mount("/static", StaticFiles(directory=STATIC))
    return app


async def _body(request: Request, most_bytes: int) -> bytes:
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > most_bytes:
            raise HTTPException(413, f"Files must be {most_bytes >> 20} MB at most.")
    return bytes(content)


def _split(content: bytes, sizes: str) -> list[bytes]:
    """Split a body into its files.

    Raises:
        FormatError: the sizes do not add up to it.
    """
    if not sizes:
        return [content]
    counts = [int(size) if size.isdecimal() else -1 for size in sizes.split(",")]
    if min(counts) < 0 or sum(counts) != len(content):
        raise FormatError(f"Sizes of files must add up to {len(content)} bytes, got {sizes[:80]}")
    ends = list(itertools.accumulate(counts))
    return [content[end - count : end] for end, count in zip(ends, counts, strict=True)]


def _polygons(mask: NDArray[np.bool_]) -> list[list[tuple[int, int]]]:
    """Return the outlines of a mask along its outermost pixels, holes included."""
    found, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    return [[(int(x), int(y)) for x, y in polygon[:, 0]] for polygon in found]
