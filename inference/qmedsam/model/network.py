"""The exported encoder and decoder, arrays in and arrays out.

The encoder is compiled for each grid that it is used on, which takes a moment; one decoder serves
all grids. OpenVINO is at home in this package: the rest knows nothing of it.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..config import Settings
from ..core.contract import (
    BOXES_NAME,
    CROPS_NAME,
    DECODER_FILE,
    IMAGE_NAME,
    LOW_RES_LOGITS_NAME,
    QUALITY_NAME,
    Grid,
    embedding_hw,
    stretch_to_square,
    stride_of,
)
from ..core.crops import Crop, crop_pixels, whole_crop
from ..core.embeddings import EncodedImage
from ..core.geometry import Boxes
from ..core.network import DecodedBoxes
from ..system.memory import automatic_encoders
from .compiling import Compiled, Compiler, GraphFile
from .grids import encoder_on_grid
from .manifest import Manifest, encoder_paths, read_manifest
from .positions import POSITION_NAMES, Positions, open_pixels, resampled
from .requests import check_decoder, check_encoder, infer, joined
from .runtime import openvino

OPEN_DECODER = "decoder-open"  # name of a decoder of all grids


class CompiledNetwork:
    """An encoder and a decoder ready to run.

    One thread may encode while another one decodes; neither is safe for two threads at once. Any
    thread may prepare a grid while nothing is encoded. The decoder is ready a little later than the
    encoder, and waited for when it is first used.

    Args:
        model_dir: folder that `python -m training.export` wrote.
        settings: precision, threads and cache folder.
        grids: that are encoded at once; others are compiled when they are prepared or first used.
            None is the whole grid, and so is anything where that is the only one.

    Raises:
        ModelError: the folder is no model, or this processor cannot run it as asked.
        ValueError: the model cannot encode such a grid.
    """

    def __init__(
        self, model_dir: Path, settings: Settings, *, grids: Sequence[Grid] | None = None
    ) -> None:
        self.manifest = read_manifest(model_dir)
        whole_grid = self.manifest.whole_grid
        self._most_encoders = automatic_encoders()
        self._grids = (whole_grid,) if settings.regions == "whole" else self.manifest.grids
        self._compiler = Compiler(self.manifest, settings)
        self._pool = ThreadPoolExecutor(max_workers=2, thread_name_prefix="compile")
        self._store_pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store")
        self._lock = threading.Lock()  # held by whoever begins to compile
        self._to_store: list[tuple[GraphFile, Future[Compiled]]] = []
        self._storing: list[Future[None]] = []
        self._parts: dict[Grid, list[Future[Compiled]]] = {}
        self._encoders: dict[Grid, list[openvino.InferRequest]] = {}
        self._decoder_requests: list[openvino.InferRequest] = []
        self._positions: dict[Grid, Positions] = {}
        wanted = [whole_grid] if grids is None else grids
        self._check(wanted)
        if len(self._grids) == 1:
            wanted = self._grids
        wanted = wanted[: self._most_encoders]
        try:
            self._begin(wanted)
            self._decoder = self._compile(_decoder_graph(self._grids))
            self._store()
            for grid_hw in wanted:
                self._compiled_parts(grid_hw)
        except BaseException:
            for pool in (self._pool, self._store_pool):
                pool.shutdown(wait=False, cancel_futures=True)
            raise

    @property
    def image_size(self) -> int:
        """Side of the model frame in pixels."""
        return self.manifest.image_size

    @property
    def grids(self) -> tuple[Grid, ...]:
        """The grids that can be encoded: the model's, or the whole one where that is set."""
        return self._grids

    @property
    def precision(self) -> str:
        """The precision in which floating-point products run: f32 or bf16."""
        return self._compiler.precision

    @property
    def threads(self) -> int:
        """Threads of the network."""
        return int(self._any_model().get_property("INFERENCE_NUM_THREADS"))

    def prepare(self, grids: Sequence[Grid]) -> None:
        """Begin to compile the encoders for grids, unless that was begun before; returns at once.

        Of more than may stay ready the first are begun. Of other grids those that were not used for
        longest make room; nothing may be encoded meanwhile.

        Raises:
            ValueError: the model cannot encode such a grid.
        """
        self._check(grids)
        wanted = grids[: self._most_encoders]
        with self._lock:
            self._make_room(wanted)
            self._begin(wanted)
            self._store()

    def wait(self) -> None:
        """Return when nothing is being compiled any more, and the cache is filled."""
        with self._lock:
            parts = [part for parts in self._parts.values() for part in parts]
            storing = list(self._storing)
        wait([self._decoder, *parts])
        for job in storing:
            job.result()

    def encode(self, image: NDArray[np.float32]) -> EncodedImage:
        """Encode one image.

        Args:
            image: (1, 3, h, w) of a grid, values 0 to 1.

        Returns:
            What the decoder reads of it.

        Raises:
            ModelError: the grid's encoder cannot be compiled or run, or its files have changed.
            ValueError: the model cannot encode such a grid.
        """
        grid_hw = (image.shape[2], image.shape[3])
        return EncodedImage(grid_hw, infer(self._encoder(grid_hw), {IMAGE_NAME: image}))

    def decode(
        self, encoded: EncodedImage, boxes: Boxes, crops: Sequence[Crop] | None = None
    ) -> DecodedBoxes:
        """Decode boxes on an encoded image.

        Args:
            encoded: of `encode`.
            boxes: (N, 4), xyxy, pixels of the grid, N at least 1.
            crops: of one size, to which the logits of each box are limited; None is all.

        Raises:
            ModelError: this processor cannot run the decoder, or its files have changed.
        """
        pixels_hw = embedding_hw(encoded.grid_hw, stride_of(self.image_size))
        if crops is None:
            crops = [whole_crop(pixels_hw)] * len(boxes)
        inputs: dict[str, NDArray[Any]] = {
            **encoded.values,
            **self._positions_on(pixels_hw),
            BOXES_NAME: self._boxes_on_square(boxes, encoded.grid_hw),
            CROPS_NAME: crop_pixels(crops, pixels_hw[1]),
        }
        if not self._decoder_requests:
            self._decoder_requests = self._checked_decoder(inputs)
        found = infer(self._decoder_requests, inputs)
        return DecodedBoxes(found[LOW_RES_LOGITS_NAME], found.get(QUALITY_NAME))

    def _check(self, grids: Sequence[Grid]) -> None:
        unknown = [grid_hw for grid_hw in grids if grid_hw not in self.grids]
        if unknown:
            raise ValueError(f"Grids must be of {self.grids}, got {unknown}")

    def _begin(self, grids: Sequence[Grid]) -> None:
        for grid_hw in grids:
            parts = self._parts.pop(grid_hw, None)  # the one used last stands at the end
            if parts is None:
                graphs = _encoder_graphs(self.manifest, grid_hw)
                parts = [self._compile(graph) for graph in graphs]
            self._parts[grid_hw] = parts

    def _make_room(self, wanted: Sequence[Grid]) -> None:
        others = [grid_hw for grid_hw in self._parts if grid_hw not in wanted]
        for grid_hw in others[: max(0, len(others) + len(wanted) - self._most_encoders)]:
            del self._parts[grid_hw]
            self._encoders.pop(grid_hw, None)

    def _compile(self, graph: GraphFile) -> Future[Compiled]:
        job = self._pool.submit(self._compiler.compile, graph)
        self._to_store.append((graph, job))
        return job

    def _store(self) -> None:
        """Let be cached what is being compiled, once all of it is."""
        if self._to_store:
            self._storing = [job for job in self._storing if not job.done()]
            self._storing.append(self._store_pool.submit(self._store_all, self._to_store))
            self._to_store = []

    def _store_all(self, compiled: Sequence[tuple[GraphFile, Future[Compiled]]]) -> None:
        for _, job in compiled:
            try:
                job.exception()  # `wait` would not return for a job that is given up meanwhile
            except CancelledError:
                return
        for graph, job in compiled:
            self._compiler.store(graph, job)

    def _encoder(self, grid_hw: Grid) -> list[openvino.InferRequest]:
        """Return the parts of a grid's encoder, each of which reads where the last one writes."""
        self.prepare([grid_hw])
        if grid_hw not in self._encoders:
            self._encoders[grid_hw] = joined(self._compiled_parts(grid_hw))
        return self._encoders[grid_hw]

    def _compiled_parts(self, grid_hw: Grid) -> list[openvino.CompiledModel]:
        try:
            parts = [part.result().model for part in self._parts[grid_hw]]
            files = encoder_paths(self.manifest)
            check_encoder(dict(zip(files, parts, strict=True)), {IMAGE_NAME: (1, 3, *grid_hw)})
            return parts
        except BaseException:
            with self._lock:
                del self._parts[grid_hw]  # what failed may succeed another time
            raise

    def _checked_decoder(self, given: Mapping[str, NDArray[Any]]) -> list[openvino.InferRequest]:
        decoder = self._decoder.result().model
        check_decoder(self.manifest.path(DECODER_FILE), decoder, given)
        return joined([decoder])

    def _boxes_on_square(self, boxes: Boxes, grid_hw: Grid) -> Boxes:
        """Return the boxes of a grid where they would be, were it stretched to the square."""
        if grid_hw == self.manifest.whole_grid:
            return boxes
        half = np.float32(0.5)
        factors = np.array(stretch_to_square(grid_hw, self.image_size), dtype=np.float32)
        return (boxes + half) * factors - half

    def _positions_on(self, pixels_hw: tuple[int, int]) -> Positions:
        """Return what the decoder adds to the pixels of an embedding by their places."""
        if pixels_hw not in self._positions:
            self._positions[pixels_hw] = {
                name: resampled(values, pixels_hw)
                for name, values in self._decoder.result().positions.items()
            }
        return self._positions[pixels_hw]

    def _any_model(self) -> openvino.CompiledModel:
        (part, *_), *_ = [*self._parts.values(), [self._decoder]]
        return part.result().model


def _encoder_graphs(manifest: Manifest, grid_hw: Grid) -> list[GraphFile]:
    files = [path.name for path in encoder_paths(manifest)]
    if grid_hw == manifest.whole_grid:
        return [GraphFile(file, Path(file).stem) for file in files]
    height, width = grid_hw
    return [
        GraphFile(file, f"{Path(file).stem}-{height}x{width}", partial(_on_grid, grid_hw=grid_hw))
        for file in files
    ]


def _on_grid(graph: openvino.Model, grid_hw: Grid) -> Positions:
    encoder_on_grid(graph, grid_hw)
    return {}


def _decoder_graph(grids: Sequence[Grid]) -> GraphFile:
    if len(grids) == 1:  # what ships is quicker to compile, and in bf16 rounds one product less
        return GraphFile(DECODER_FILE, Path(DECODER_FILE).stem)
    return GraphFile(DECODER_FILE, OPEN_DECODER, open_pixels, POSITION_NAMES)
