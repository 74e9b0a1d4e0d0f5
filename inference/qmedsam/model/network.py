"""The exported encoder and decoder, compiled by OpenVINO for this processor.

The one home of OpenVINO: all that the rest knows of it are arrays in and arrays out.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..config import Settings
from ..core.contract import (
    BOXES_NAME,
    CROPS_NAME,
    DECODER_FILE,
    ENCODER_FILE,
    ENCODER_REST_FILE,
    IMAGE_NAME,
    LOW_RES_LOGITS_NAME,
)
from ..core.crops import WHOLE, Crop, crop_pixels
from ..core.embeddings import EncodedImage
from ..core.geometry import Boxes
from ..errors import ModelError
from ..system.processor import available_cores
from .cache import ModelCache, cache_key
from .manifest import Manifest, file_sha256, read_manifest

# OpenVINO reports usage through this package where it can be imported, and uses a stub of its
# own where it cannot. A medical service does not phone home.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
# The converter of models is not needed, and takes time to import (docs/decisions.md); OpenVINO does
# without where it is absent. Whoever needs it imports it from its own package.
_CONVERTER = "openvino.tools.ovc"
_has_converter = _CONVERTER in sys.modules
if not _has_converter:
    sys.modules[_CONVERTER] = None  # type: ignore[assignment]

import openvino  # noqa: E402

if not _has_converter:
    del sys.modules[_CONVERTER]

logger = logging.getLogger(__name__)

DEVICE = "CPU"
PRECISION_HINT = "INFERENCE_PRECISION_HINT"


@dataclass(frozen=True)
class _Compiled:
    model: openvino.CompiledModel
    is_new: bool  # and not out of the cache


class CompiledNetwork:
    """An encoder and a decoder ready to run.

    One thread may encode while another one decodes; neither is safe for two threads at once.
    The decoder is ready a little later than the encoder, and waited for when it is first used.

    Args:
        model_dir: folder that `python -m training.export` wrote.
        settings: precision, threads and cache folder.

    Raises:
        ModelError: the folder is no model, or this processor cannot run it as asked.
    """

    def __init__(self, model_dir: Path, settings: Settings) -> None:
        self.manifest = read_manifest(model_dir)
        core = openvino.Core()
        config = _compile_config(core, settings)
        cache = _cache(core, config, manifest=self.manifest, folder=settings.cache_dir)
        files = [ENCODER_FILE, ENCODER_REST_FILE, DECODER_FILE]
        pool = ThreadPoolExecutor(max_workers=2, thread_name_prefix="compile")
        try:
            jobs = {
                file: pool.submit(
                    _compile,
                    core,
                    model_dir / file,
                    config=config,
                    cache=cache,
                    manifest=self.manifest,
                )
                for file in files
                if file != ENCODER_REST_FILE or file in self.manifest.sha256
            }
            self._encoder = [
                job.result().model for file, job in jobs.items() if file != DECODER_FILE
            ]
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
        self._decoder = jobs[DECODER_FILE]
        self._storing = [
            pool.submit(_store, cache, Path(file).stem, job) for file, job in jobs.items() if cache
        ]
        pool.shutdown(wait=False)
        self._encoder_requests = [part.create_infer_request() for part in self._encoder]
        for before, after in pairwise(self._encoder_requests):
            after.set_input_tensor(before.get_output_tensor())  # read where it is written
        self._decoder_request: openvino.InferRequest | None = None

    @property
    def image_size(self) -> int:
        """Side of the model frame in pixels."""
        return self.manifest.image_size

    @property
    def precision(self) -> str:
        """The precision in which floating-point products run: f32 or bf16."""
        return str(self._encoder[0].get_property(PRECISION_HINT).to_string())

    @property
    def threads(self) -> int:
        """Threads of the network."""
        return int(self._encoder[0].get_property("INFERENCE_NUM_THREADS"))

    def wait(self) -> None:
        """Return when nothing is being compiled any more, and the cache is filled."""
        wait([self._decoder])
        for storing in self._storing:
            storing.result()

    def encode(self, image: NDArray[np.float32]) -> EncodedImage:
        """Encode one image.

        Args:
            image: (1, 3, S, S), values 0 to 1.

        Returns:
            What the decoder reads of it, by name.
        """
        first, *rest = self._encoder_requests
        first.infer({IMAGE_NAME: image}, share_inputs=True, share_outputs=True)
        for request in rest:
            request.infer(share_outputs=True)
        return _outputs(self._encoder_requests[-1])

    def decode(
        self, encoded: EncodedImage, boxes: Boxes, crops: Sequence[Crop] | None = None
    ) -> NDArray[np.float32]:
        """Decode boxes on an encoded image.

        Args:
            encoded: of `encode`.
            boxes: (N, 4), xyxy, pixels of the model frame, N at least 1.
            crops: of one size, to which the logits of each box are limited; None is all.

        Returns:
            low_res_logits (N, h, w), four for each pixel of the crop along a side.

        Raises:
            ModelError: this processor cannot run the decoder, or its files have changed.
        """
        pixels = crop_pixels([WHOLE] * len(boxes) if crops is None else crops)
        inputs: dict[str, NDArray[Any]] = {**encoded, BOXES_NAME: boxes, CROPS_NAME: pixels}
        if self._decoder_request is None:
            self._decoder_request = self._decoder.result().model.create_infer_request()
        self._decoder_request.infer(inputs, share_inputs=True, share_outputs=True)
        return _outputs(self._decoder_request)[LOW_RES_LOGITS_NAME]


def runnable_precisions() -> list[str]:
    """Return the precisions in which this processor runs layers that are not in int8."""
    return ["f32", "bf16"] if _has_bf16(openvino.Core()) else ["f32"]


def _has_bf16(core: openvino.Core) -> bool:
    return "BF16" in core.get_property(DEVICE, "OPTIMIZATION_CAPABILITIES")


def _compile_config(core: openvino.Core, settings: Settings) -> dict[str, Any]:
    has_bf16 = _has_bf16(core)
    if settings.precision == "bf16" and not has_bf16:
        offered = core.get_property(DEVICE, "OPTIMIZATION_CAPABILITIES")
        raise ModelError(f"Precision bf16 needs a processor that has it, this one has {offered}")
    precision = settings.precision
    if precision == "auto":
        precision = "bf16" if has_bf16 else "f32"
    config: dict[str, Any] = {
        "PERFORMANCE_HINT": "LATENCY",
        PRECISION_HINT: precision,
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


def _cache(
    core: openvino.Core, config: dict[str, Any], *, manifest: Manifest, folder: Path | None
) -> ModelCache | None:
    if folder is None:
        return None
    key = cache_key(
        runtime=openvino.__version__,
        processor=core.get_property(DEVICE, "FULL_DEVICE_NAME"),
        precision=config[PRECISION_HINT],
        digests=manifest.sha256,
    )
    return ModelCache(folder / key)


def _compile(
    core: openvino.Core,
    path: Path,
    *,
    config: dict[str, Any],
    cache: ModelCache | None,
    manifest: Manifest,
) -> _Compiled:
    blob = cache.load(path.stem) if cache else None
    if blob is not None:
        try:
            return _Compiled(core.import_model(blob, DEVICE, config), is_new=False)
        except RuntimeError as error:
            logger.warning("Cached model of %s is compiled anew: %s", path.name, error)
    _verify(path, manifest)
    try:
        return _Compiled(core.compile_model(str(path), DEVICE, config), is_new=True)
    except RuntimeError as error:
        raise ModelError(f"Model file {path} cannot be compiled: {error}") from error


def _verify(path: Path, manifest: Manifest) -> None:
    """Check a graph and its weights against the manifest.

    What was compiled before was checked then, and the cache names it after the manifest's digests.
    """
    for file in (path, path.with_suffix(".bin")):
        expected, digest = manifest.sha256[file.name], file_sha256(file)
        if digest != expected:
            raise ModelError(f"{file} must have SHA-256 {expected}, got {digest}")


def _store(cache: ModelCache, name: str, job: Future[_Compiled]) -> None:
    """Keep what has been compiled, where that is possible; the model runs in any case."""
    if job.exception() is not None or not job.result().is_new or not cache.is_writable():
        return
    try:
        cache.store(name, job.result().model.export_model().getvalue())
    except (OSError, RuntimeError, MemoryError) as error:
        logger.info("Compiled %s is not cached: %s", name, error)


def _outputs(request: openvino.InferRequest) -> dict[str, NDArray[np.float32]]:
    # The tensors belong to the request, whose next run overwrites them.
    return {
        output.any_name: np.array(request.get_tensor(output).data, dtype=np.float32)
        for output in request.model_outputs
    }
