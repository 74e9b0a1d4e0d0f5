"""The exported encoder and decoder, compiled by OpenVINO for this processor.

The one home of OpenVINO: all that the rest knows of it are arrays in and arrays out.
"""

from __future__ import annotations

import hashlib
import json
import logging
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .config import Settings
from .contract import (
    BOXES_NAME,
    CONTRACT_VERSION,
    DECODER_FILE,
    ENCODER_FILE,
    IMAGE_NAME,
    LOW_RES_LOGITS_NAME,
    MANIFEST_FILE,
    WINDOWS_NAME,
)
from .embeddings import EncodedImage
from .errors import ModelError
from .geometry import Boxes
from .windows import WHOLE, Window, window_pixels

# OpenVINO reports usage through this package where it can be imported, and uses a stub of its
# own where it cannot. A medical service does not phone home.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

import openvino  # type: ignore[import-untyped]  # noqa: E402

logger = logging.getLogger(__name__)

DEVICE = "CPU"


@dataclass(frozen=True)
class Manifest:
    """What the exporter wrote about a model.

    Attributes:
        name: of the network.
        precision: in which the weights are stored.
        image_size: side of the model frame in pixels.
        sha256: digest of each file by its name.
    """

    name: str
    precision: str
    image_size: int
    sha256: dict[str, str]


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_manifest(model_dir: Path) -> Manifest:
    """Read the manifest of a model folder and check that its files are there.

    Raises:
        ModelError: the manifest or a file is missing or malformed, or of another contract.
    """
    path = model_dir / MANIFEST_FILE
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        version = document["contract_version"]
        manifest = Manifest(
            name=str(document["name"]),
            precision=str(document["precision"]),
            image_size=int(document["image_size"]),
            sha256=dict(document["sha256"]),
        )
    except OSError as error:
        raise ModelError(f"Model folder {model_dir} has no readable {MANIFEST_FILE}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path} is not a manifest: {error!r}") from error
    if version != CONTRACT_VERSION:
        raise ModelError(f"{path} must have contract version {CONTRACT_VERSION}, got {version}")
    needed = {ENCODER_FILE, DECODER_FILE, *manifest.sha256}
    missing = sorted(name for name in needed if not (model_dir / name).is_file())
    if missing:
        raise ModelError(f"Model folder {model_dir} lacks {', '.join(missing)}")
    return manifest


class CompiledNetwork:
    """An encoder and a decoder ready to run; not safe for use by several threads at once.

    Args:
        model_dir: folder that `python -m training.export` wrote.
        settings: precision, threads and cache folder.

    Raises:
        ModelError: the folder is no model, or this processor cannot run it as asked.
    """

    def __init__(self, model_dir: Path, settings: Settings) -> None:
        self.manifest = read_manifest(model_dir)
        # Hashing 42 MB runs beside the compilation, which leaves 0.03 s of it in the time to start.
        with ThreadPoolExecutor(max_workers=1) as pool:
            verification = pool.submit(_verify, model_dir, self.manifest)
            try:
                self._load(model_dir, settings)
            except RuntimeError as error:
                verification.result()
                raise ModelError(f"Model in {model_dir} cannot be compiled: {error}") from error
            verification.result()

    def _load(self, model_dir: Path, settings: Settings) -> None:
        core = openvino.Core()
        config = _compile_config(core, settings, self.manifest)
        self._encoder = _compile(core, model_dir / ENCODER_FILE, config)
        self._decoder = _compile(core, model_dir / DECODER_FILE, config)
        self._encoder_request = self._encoder.create_infer_request()
        self._decoder_request = self._decoder.create_infer_request()

    @property
    def image_size(self) -> int:
        """Side of the model frame in pixels."""
        return self.manifest.image_size

    @property
    def precision(self) -> str:
        """The precision in which floating-point products run: f32 or bf16."""
        return str(self._encoder.get_property("INFERENCE_PRECISION_HINT").to_string())

    @property
    def threads(self) -> int:
        """Threads of the network."""
        return int(self._encoder.get_property("INFERENCE_NUM_THREADS"))

    def encode(self, image: NDArray[np.float32]) -> EncodedImage:
        """Encode one image.

        Args:
            image: (1, 3, S, S), values 0 to 1.

        Returns:
            What the decoder reads of it, by name.
        """
        return _infer(self._encoder_request, {IMAGE_NAME: image})

    def decode(
        self, encoded: EncodedImage, boxes: Boxes, windows: Sequence[Window] | None = None
    ) -> NDArray[np.float32]:
        """Decode boxes on an encoded image.

        Args:
            encoded: of `encode`.
            boxes: (N, 4), xyxy, pixels of the model frame, N at least 1.
            windows: of one size, to which the logits of each box are limited; None is all.

        Returns:
            low_res_logits (N, h, w), four for each pixel of the window along a side.
        """
        pixels = window_pixels([WHOLE] * len(boxes) if windows is None else windows)
        inputs: dict[str, NDArray[Any]] = {**encoded, BOXES_NAME: boxes, WINDOWS_NAME: pixels}
        return _infer(self._decoder_request, inputs)[LOW_RES_LOGITS_NAME]


def _verify(model_dir: Path, manifest: Manifest) -> None:
    for name, expected in manifest.sha256.items():
        digest = file_sha256(model_dir / name)
        if digest != expected:
            raise ModelError(f"{model_dir / name} must have SHA-256 {expected}, got {digest}")


def _compile_config(core: openvino.Core, settings: Settings, manifest: Manifest) -> dict[str, Any]:
    offered = core.get_property(DEVICE, "OPTIMIZATION_CAPABILITIES")
    has_bf16 = "BF16" in offered
    if settings.precision == "bf16" and not has_bf16:
        raise ModelError(f"Precision bf16 needs a processor that has it, this one has {offered}")
    precision = settings.precision
    if precision == "auto":
        precision = "bf16" if has_bf16 else "f32"
    config: dict[str, Any] = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": precision,
    }
    if settings.threads:
        config["INFERENCE_NUM_THREADS"] = settings.threads
    if settings.cache_dir is not None:
        config["CACHE_DIR"] = str(settings.cache_dir / _cache_key(core, config, manifest))
    return config


def _cache_key(core: openvino.Core, config: dict[str, Any], manifest: Manifest) -> str:
    """Name a folder of the cache by all that a compiled model depends on.

    The runtime's own key leaves the precision and the weights out: a model compiled for f32 is
    then loaded where bf16 is asked for, and is slow and wrong (seen with 2026.4.1).
    """
    processor = core.get_property(DEVICE, "FULL_DEVICE_NAME")
    described = json.dumps(
        [openvino.__version__, processor, config, manifest.sha256], sort_keys=True
    )
    return hashlib.sha256(described.encode()).hexdigest()[:16]


def _compile(core: openvino.Core, path: Path, config: dict[str, Any]) -> openvino.CompiledModel:
    try:
        return core.compile_model(str(path), DEVICE, config)
    except RuntimeError as error:
        if "CACHE_DIR" not in config:
            raise
        uncached = {name: value for name, value in config.items() if name != "CACHE_DIR"}
        compiled = core.compile_model(str(path), DEVICE, uncached)
        # Only now is it the cache, and not the model, that is at fault.
        logger.warning("Cache %s is broken, compiled without it: %s", config["CACHE_DIR"], error)
        return compiled


def _infer(
    request: openvino.InferRequest, inputs: Mapping[str, NDArray[Any]]
) -> dict[str, NDArray[np.float32]]:
    request.infer(inputs, share_inputs=True)
    # The tensors belong to the request, whose next run overwrites them.
    return {
        output.any_name: np.array(request.get_tensor(output).data, dtype=np.float32)
        for output in request.model_outputs
    }
