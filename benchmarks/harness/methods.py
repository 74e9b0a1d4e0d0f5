"""What the accuracy tables compare: the PyTorch baseline and the service in its variants."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.harness.predictions import Method, Predict
from qmedsam import Segmenter, Settings
from qmedsam.batch.cases import Case
from qmedsam.core import planning, region_groups, region_rule, whereabouts
from qmedsam.core.contract import MANIFEST_FILE
from qmedsam.model.variant import default_model_dir
from training.baseline import Baseline
from training.checkpoint import load_lite_medsam
from training.published import DEFAULT_PATH

RULES = (region_rule, region_groups, planning, whereabouts)  # by which regions are chosen
BASELINE_TITLE = "PyTorch baseline f32"


def baseline_method(checkpoint: Path = DEFAULT_PATH) -> Method:
    """Return the published PyTorch pipeline; see `training.baseline`."""
    return Method(
        "pytorch-f32", BASELINE_TITLE, checkpoint, lambda: remembering_baseline(checkpoint)
    )


def service_method(
    settings: Settings, *, title: str, model: str = "", model_dir: Path | None = None
) -> Method:
    """Return the service.

    Args:
        settings: precision, volume prompt and regions; they are in the key, and the rule of these.
        title: heads its column.
        model: names a model that does not ship, in the key.
        model_dir: folder of it; None takes the one that ships.
    """

    def load() -> Predict:
        segmenter = Segmenter(model_dir, settings)
        return lambda case: segmenter.segment(case.pixels, case.boxes)

    variant = "" if model_dir else settings.variant
    words = ["service", model, variant, settings.precision, settings.volume_prompt]
    words.append(settings.regions)
    if settings.regions == "auto":  # label maps by other rules are not kept
        rules = [Path(module.__file__).read_bytes() for module in RULES]
        words.append(hashlib.sha256(b"".join(rules)).hexdigest()[:8])
    key = "-".join(word.replace(",", "").replace(" ", "-") for word in words if word)
    weights = (model_dir or default_model_dir(settings.variant)) / MANIFEST_FILE
    return Method(key, title, weights, load)


def remembering_baseline(checkpoint: Path) -> Predict:
    """Return the baseline with the embeddings of a case kept between its boxes.

    Its time changes, its masks do not.
    """
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
        return pipeline.segment(case.pixels, case.boxes)

    return predict
