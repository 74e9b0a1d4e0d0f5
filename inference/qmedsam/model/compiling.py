"""Graphs compiled by OpenVINO for this processor, or read from the cache of what was before."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..config import Precision, Settings
from ..errors import ModelError
from ..system.processor import available_cores
from .cache import ModelCache, cache_key
from .grids import REWRITING
from .manifest import Manifest, file_sha256
from .positions import PIXELS, Positions
from .runtime import openvino, said_by

logger = logging.getLogger(__name__)

DEVICE = "CPU"
PRECISION_HINT = "INFERENCE_PRECISION_HINT"

Rewriting = Callable[[openvino.Model], Positions]


@dataclass(frozen=True, eq=False)
class Compiled:
    """A compiled graph.

    Attributes:
        model: what OpenVINO made of it.
        positions: what rewriting took out of it, by the name of the input that takes it.
        is_new: and not out of the cache.
    """

    model: openvino.CompiledModel
    positions: Positions
    is_new: bool


@dataclass(frozen=True)
class GraphFile:
    """A graph of a model's folder and what is made of it.

    Attributes:
        file: its name.
        name: under which it is cached.
        rewriting: what is done to the graph before it is compiled, if anything; returns what it
            takes out of it.
        positions: the names of that.
    """

    file: str
    name: str
    rewriting: Rewriting | None = None
    positions: tuple[str, ...] = ()


class Compiler:
    """Compiles the graphs of one model; several threads may at once.

    Args:
        manifest: of the model.
        settings: precision, threads and cache folder.

    Raises:
        ModelError: this processor cannot run the model as asked, or OpenVINO does not start.
    """

    def __init__(self, manifest: Manifest, settings: Settings) -> None:
        self._manifest = manifest
        with _started() as self._core:
            self._config = _compile_config(self._core, settings)
            self._cache = self._cache_in(settings.cache_dir)

    @property
    def precision(self) -> str:
        """In which floating-point products run: f32 or bf16."""
        return str(self._config[PRECISION_HINT])

    def compile(self, graph: GraphFile) -> Compiled:
        """Compile a graph, unless it is cached.

        Raises:
            ModelError: its files have changed, or it cannot be rewritten or compiled.
        """
        return self._cached(graph) or self._compiled(graph)

    def store(self, graph: GraphFile, job: Future[Compiled]) -> None:
        """Cache what a job compiles, where that is possible; the model runs in any case."""
        if self._cache is None or job.exception() is not None:
            return
        compiled = job.result()
        if not compiled.is_new or not self._cache.is_writable():
            return
        try:
            for name, values in compiled.positions.items():
                self._cache.store(name, values.tobytes())
            self._cache.store(graph.name, compiled.model.export_model().getvalue())
        except (OSError, RuntimeError, MemoryError) as error:
            said = said_by(error) if isinstance(error, RuntimeError) else error
            logger.info("Compiled %s is not cached: %s", graph.name, said)

    def _cached(self, graph: GraphFile) -> Compiled | None:
        if self._cache is None:
            return None
        blob = self._cache.load(graph.name)
        values = {name: self._cache.load(name) for name in graph.positions}
        if blob is None or None in values.values():
            return None
        try:
            model = self._core.import_model(blob, DEVICE, self._config)
        except RuntimeError as error:
            logger.warning("Cached model of %s is compiled anew: %s", graph.file, said_by(error))
            return None
        positions = {
            name: np.frombuffer(content, dtype=np.float32).reshape(1, PIXELS, -1)
            for name, content in values.items()
            if content is not None
        }
        return Compiled(model, positions, is_new=False)

    def _compiled(self, graph: GraphFile) -> Compiled:
        path = self._path(graph)
        self._verify(path)
        positions: Positions = {}
        try:
            source = self._core.read_model(path)
            if graph.rewriting is not None:
                positions = graph.rewriting(source)
            model = self._core.compile_model(source, DEVICE, self._config)
        except RuntimeError as error:
            raise ModelError(f"Model file {path} cannot be compiled: {said_by(error)}") from error
        return Compiled(model, positions, is_new=True)

    def _path(self, graph: GraphFile) -> Path:
        try:
            return self._manifest.path(graph.file)
        except OSError as error:  # which was not there when the manifest was read
            raise ModelError(f"Model file {graph.file} cannot be read: {error}") from error

    def _verify(self, path: Path) -> None:
        """Check a graph and its weights against the manifest.

        What was compiled before was checked then, and the cache names it after the manifest's
        digests.
        """
        for file in (path, path.with_suffix(".bin")):
            try:
                expected, digest = self._manifest.sha256[file.name], file_sha256(file)
            except OSError as error:
                raise ModelError(f"Model file {file} cannot be read: {error}") from error
            if digest != expected:
                raise ModelError(f"{file} must have SHA-256 {expected}, got {digest}")

    def _cache_in(self, folder: Path | None) -> ModelCache | None:
        if folder is None:
            return None
        key = cache_key(
            runtime=openvino.__version__,
            processor=self._core.get_property(DEVICE, "FULL_DEVICE_NAME"),
            precision=self._config[PRECISION_HINT],
            digests=self._manifest.sha256,
            rewriting=REWRITING,
        )
        return ModelCache(folder / key)


def runnable_precisions() -> list[str]:
    """Return the precisions in which this processor runs layers that are not in int8.

    Raises:
        ModelError: OpenVINO does not start.
    """
    with _started() as core:
        return ["f32", "bf16"] if _has_bf16(core) else ["f32"]


def precision_of(settings: Settings) -> str:
    """Return the precision in which this processor runs layers that are not in int8: f32 or bf16.

    Raises:
        ModelError: it lacks the one that is asked for, or OpenVINO does not start.
    """
    with _started() as core:
        return _runs_in(core, settings.precision)


@contextmanager
def _started() -> Iterator[openvino.Core]:
    """Give OpenVINO; what it raises, which makes threads when it is first asked, is said."""
    try:
        yield openvino.Core()
    except RuntimeError as error:
        raise ModelError(f"OpenVINO cannot be started: {said_by(error)}") from error


def _has_bf16(core: openvino.Core) -> bool:
    return "BF16" in core.get_property(DEVICE, "OPTIMIZATION_CAPABILITIES")


def _runs_in(core: openvino.Core, wanted: Precision) -> str:
    has_bf16 = _has_bf16(core)
    if wanted == "bf16" and not has_bf16:
        offered = core.get_property(DEVICE, "OPTIMIZATION_CAPABILITIES")
        raise ModelError(f"Precision bf16 needs a processor that has it, this one has {offered}")
    if wanted == "auto":
        return "bf16" if has_bf16 else "f32"
    return wanted


def _compile_config(core: openvino.Core, settings: Settings) -> dict[str, Any]:
    config: dict[str, Any] = {
        "PERFORMANCE_HINT": "LATENCY",
        PRECISION_HINT: _runs_in(core, settings.precision),
        # Each process would keep to the first cores, so that two side by side shared them.
        "ENABLE_CPU_PINNING": False,
    }
    threads = _threads(settings.threads)
    if threads:
        config["INFERENCE_NUM_THREADS"] = threads
    return config


def _threads(wanted: int) -> int:
    """Return how many threads to ask for, 0 for what the runtime chooses.

    It goes by the cores that the process may run on; a container's quota it does not see, and more
    threads than that are stopped in the middle of a layer. A part of a core counts as one
    (docs/decisions.md).
    """
    cores = available_cores()
    if wanted > cores:
        logger.warning("%d threads are used, not %d: there are no more cores", cores, wanted)
    if wanted:
        return min(wanted, cores)
    return cores if cores < (os.cpu_count() or 1) else 0
