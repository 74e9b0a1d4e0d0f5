"""What the accuracy tables compare: the PyTorch baseline and the service in its variants."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.split import Method, Predict
from inference import Segmenter, Settings
from inference.cases import Case
from inference.pipeline import SERVED, Stages
from inference.postprocess import LabelMap
from inference.prompts import check_prompts
from inference.timing import Stopwatch
from training.baseline import Baseline
from training.checkpoint import DEFAULT_PATH, load_lite_medsam


def baseline_method(checkpoint: Path = DEFAULT_PATH) -> Method:
    """Return the published PyTorch pipeline; see `training.baseline`."""
    return Method("pytorch-f32", "PyTorch baseline f32", lambda: _baseline(checkpoint))


def service_method(
    settings: Settings,
    *,
    key: str,
    title: str,
    model_dir: Path | None = None,
    stages: Stages = SERVED,
) -> Method:
    """Return the service with a model (the one that ships unless given) and stages."""

    def load() -> Predict:
        segmenter = Segmenter(model_dir, settings)

        def predict(case: Case) -> LabelMap:
            prompts = check_prompts(case.pixels, case.boxes)
            return segmenter.segment_checked(
                case.pixels, prompts, stopwatch=Stopwatch(), stages=stages
            )

        return predict

    return Method(key, title, load)


def _baseline(checkpoint: Path) -> Predict:
    """Remember the embeddings between the boxes of a case: its time changes, its masks do not."""
    network = load_lite_medsam(checkpoint)
    remembered: dict[bytes, Tensor] = {}

    def encode(image: Tensor) -> Tensor:
        key = image.numpy().tobytes()
        if key not in remembered:
            remembered[key] = network.encode(image)
        return remembered[key]

    pipeline = Baseline(network, encode)

    def predict(case: Case) -> NDArray[np.uint16]:
        remembered.clear()
        segment = pipeline.segment_volume if case.boxes.shape[1] == 6 else pipeline.segment_image
        return segment(case.pixels, case.boxes)

    return predict
