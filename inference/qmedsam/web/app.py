"""The page and its REST endpoints, by FastAPI; `qmedsam serve`.

Uploads stay in memory, a few at a time, and go when the process does. The page loads nothing from
elsewhere. Whatever is refused or fails is answered with a sentence in `detail`.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from starlette.concurrency import run_in_threadpool

from ..batch.png import encode_png
from ..core.preprocess import as_rgb
from ..errors import InferenceError
from ..formats.dicom.scan import DicomScan
from ..formats.dicom.sources import uploaded_files
from ..formats.dispatch import check_choices, read_scan
from ..formats.scan import (
    AUTOMATIC_PLANE,
    FormatError,
    Scan,
    SeveralSeriesError,
    SeveralVolumesError,
)
from ..segmenter import Segmenter
from ..version import __version__
from .origin import find_objection
from .schemas import Found, Labels, Object, Opened, Outlines, Refusal, Series, Volume, Window
from .shelf import Shelf

STATIC = Path(__file__).parent / "static"
SIZES_HEADER = "x-file-sizes"  # of the files in a body, with commas between
LONGEST_SIZE = 15  # digits
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob:; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


def create_app(segmenter: Segmenter, *, host: str, most_bytes: int) -> FastAPI:
    """Build the application.

    Args:
        segmenter: that all requests share; they take turns.
        host: address that is listened on, by which requests are validated.
        most_bytes: of an upload.
    """
    app = FastAPI(
        title="QMedSAM Service",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        responses={422: {"model": Refusal, "description": "It is refused"}},
    )
    shelf = Shelf(segmenter)
    _answer_errors(app)

    @app.middleware("http")
    async def protect(request: Request, call_next: Any) -> Any:
        objection = find_objection(request.method, request.headers, host=host)
        response = _refusal(403, objection) if objection else await call_next(request)
        response.headers.update(HEADERS)
        return response

    @app.post("/api/scans", summary="Open an image or volume")
    async def open_scan(
        request: Request,
        name: Annotated[str, Query(max_length=300)],
        series: Annotated[str | None, Query(max_length=64)] = None,
        volume: Annotated[int | None, Query(ge=1)] = None,
        plane: Annotated[str, Query(max_length=16)] = AUTOMATIC_PLANE,
    ) -> Opened:
        """Take the content of a file as the body.

        Files of a DICOM series come one after another, their sizes in the header `X-File-Sizes`. Of
        several series one is chosen by its number or UID, and of several volumes or images in it
        one by its number; without that, the answer lists them. NIfTI, NRRD and MetaImage are cut
        into slices in the plane `auto`, which is that of acquisition, `axial`, `coronal` or
        `sagittal`.
        """
        content = await _body(request, most_bytes)
        sizes = request.headers.get(SIZES_HEADER, "")
        return await run_in_threadpool(
            lambda: shelf.add(
                name,
                _read(name, _split(content, sizes), series=series, volume=volume, plane=plane),
            )
        )

    @app.delete("/api/scans/{number}", summary="Close it")
    def close_scan(number: int) -> None:
        shelf.remove(number)

    @app.put("/api/scans/{number}/window", summary="Set window and level")
    def set_window(number: int, window: Window) -> Opened:
        """Make the 8 bits anew, which the network sees and the page shows."""
        return shelf.get(number).set_window(window.window)

    @app.get("/api/scans/{number}/slices/{z}", summary="A slice as PNG", response_class=Response)
    def get_slice(number: int, z: int) -> Response:
        slices = shelf.get(number).view.slices
        if not 0 <= z < len(slices):
            raise HTTPException(404, f"Slice must be 0 to {len(slices) - 1}, got {z}.")
        return Response(encode_png(as_rgb(slices[z])), media_type="image/png")

    @app.post("/api/scans/{number}/slices/{z}/encoding", summary="Encode a slice ahead")
    def encode(number: int, z: int) -> None:
        """Do beforehand what the first box on a slice waits for."""
        shelf.get(number).encode(z)

    @app.post("/api/scans/{number}/preview", summary="Segment a box roughly")
    def preview(number: int, wanted: Object) -> Outlines:
        """Return the outlines on its slice by what is encoded ahead, the whole slice.

        That is quicker than the answer that looks closer, by regions round boxes.
        """
        return shelf.get(number).preview(wanted)

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


def _answer_errors(app: FastAPI) -> None:
    """Make every error a sentence."""

    @app.exception_handler(InferenceError)
    async def refuse(request: Request, error: InferenceError) -> JSONResponse:
        return _refusal(422, str(error))

    @app.exception_handler(SeveralSeriesError)
    async def offer(request: Request, error: SeveralSeriesError) -> JSONResponse:
        series = [Series(uid=uid, text=text) for uid, text in error.choices]
        sentence = f"There are {len(series)} series; choose one with `series`."
        return _refusal(422, sentence, series=series)

    @app.exception_handler(SeveralVolumesError)
    async def offer_volumes(request: Request, error: SeveralVolumesError) -> JSONResponse:
        volumes = [Volume(number=number, text=text) for number, text in error.choices]
        sentence = f"There are {len(volumes)} volumes or images; choose one with `volume`."
        return _refusal(422, sentence, volumes=volumes)

    @app.exception_handler(RequestValidationError)
    async def correct(request: Request, error: RequestValidationError) -> JSONResponse:
        wrong = (f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
        return _refusal(422, f"The request is not as it must be: {'; '.join(wrong)}.")

    @app.exception_handler(Exception)
    async def fail(request: Request, error: Exception) -> JSONResponse:
        # Starlette raises it again after the answer, and uvicorn logs it.
        response = _refusal(500, f"That failed, and should not have ({type(error).__name__}).")
        response.headers.update(HEADERS)  # outside of what else sets them
        return response


def _refusal(
    status: int,
    sentence: str,
    *,
    series: list[Series] | None = None,
    volumes: list[Volume] | None = None,
) -> JSONResponse:
    refusal = Refusal(detail=sentence, series=series or [], volumes=volumes or [])
    return JSONResponse(refusal.model_dump(exclude_defaults=True), status)


async def _body(request: Request, most_bytes: int) -> bytes:
    content = bytearray()
    async for chunk in request.stream():  # to its end, before which browsers hear no answer
        if len(content) <= most_bytes:
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
    counts = [
        int(size) if size.isdecimal() and len(size) <= LONGEST_SIZE else -1
        for size in sizes.split(",")
    ]
    if min(counts) < 0 or sum(counts) != len(content):
        raise FormatError(f"Sizes of files must add up to {len(content)} bytes, got {sizes[:80]}")
    ends = list(itertools.accumulate(counts))
    return [content[end - count : end] for end, count in zip(ends, counts, strict=True)]


def _read(
    name: str, contents: list[bytes], *, series: str | None, volume: int | None, plane: str
) -> Scan:
    """Read a file, or several as a DICOM series."""
    if len(contents) == 1:
        return read_scan(name, contents[0], series=series, plane=plane, volume=volume)
    check_choices(name, plane=plane)
    return DicomScan(name, uploaded_files(name, contents), series=series, volume=volume)
