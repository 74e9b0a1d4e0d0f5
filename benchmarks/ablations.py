"""Ablations on the same weights: one choice of the service is varied, all else stays.

    python -m benchmarks.ablations volume-prompt      # which box prompts which slice
    python -m benchmarks.ablations preprocessing      # interpolation, and the order of padding
    python -m benchmarks.ablations threshold          # before or after the logits are upsampled
    python -m benchmarks.ablations crop             # how far round a box is decoded
    python -m benchmarks.ablations models --model A=DIR --model B=DIR

The last compares exported models, for what is varied in training: samplers, quantization schemes.
"""

from __future__ import annotations

import argparse
import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.accuracy import score_methods
from benchmarks.harness.command import run_command
from benchmarks.harness.methods import service_method
from benchmarks.harness.record import RESULTS_DIR, write_record
from benchmarks.harness.split import Method, add_data_options, case_paths
from qmedsam import Settings
from qmedsam.config import VOLUME_PROMPTS, Precision
from qmedsam.core.contract import LOGIT_THRESHOLD, LOW_RES_SIZE, MANIFEST_FILE, UPSCALING
from qmedsam.core.crops import MARGIN, WHOLE, Crop, crop_around
from qmedsam.core.geometry import ModelFrame
from qmedsam.core.pipeline import Stages
from qmedsam.core.postprocess import MaskPatch
from qmedsam.core.preprocess import (
    as_rgb,
    normalize_min_max,
    pad_to_square,
    resize_long_side,
    to_tensor,
)

INTERPOLATIONS = {
    "area": cv2.INTER_AREA,
    "cubic": cv2.INTER_CUBIC,
    "linear": cv2.INTER_LINEAR,
}


def pad_after(interpolation: int) -> Stages:
    """Normalize the resized image, then pad with 0, the image's minimum (the baseline's order)."""

    def prepare(image: NDArray[np.uint8], image_size: int) -> NDArray[np.float32]:
        normalized = normalize_min_max(_resized(image, image_size, interpolation))
        return to_tensor(pad_to_square(normalized, image_size))

    return Stages(prepare=prepare)


def pad_before(interpolation: int) -> Stages:
    """Pad the resized image with 0, then normalize the square (the paper's order)."""

    def prepare(image: NDArray[np.uint8], image_size: int) -> NDArray[np.float32]:
        square = pad_to_square(_resized(image, image_size, interpolation), image_size)
        return to_tensor(normalize_min_max(square))

    return Stages(prepare=prepare)


def threshold_first(
    low_res_logits: NDArray[np.float32], frame: ModelFrame, decoded: Crop = WHOLE
) -> MaskPatch:
    """Threshold in the model frame, then resize the binary mask (QMedSAM's order).

    The mask is resized linearly and cut at one half.
    """
    stride = LOW_RES_SIZE / frame.image_size
    height, width = (round(side * stride) for side in frame.resized_hw)
    small = np.zeros((LOW_RES_SIZE, LOW_RES_SIZE), dtype=np.uint8)
    rows, columns = low_res_logits.shape
    top, left = UPSCALING * decoded.top, UPSCALING * decoded.left
    small[top : top + rows, left : left + columns][low_res_logits > LOGIT_THRESHOLD] = 255
    original_h, original_w = frame.original_hw
    resized = cv2.resize(
        small[:height, :width], (original_w, original_h), interpolation=cv2.INTER_LINEAR
    )
    return MaskPatch(resized > 127, 0, 0)


def volume_prompt_methods(precision: Precision) -> list[Method]:
    """Return the rules by which volumes are prompted."""
    return [
        service_method(
            Settings(variant="float", precision=precision, volume_prompt=rule), title=rule
        )
        for rule in VOLUME_PROMPTS
    ]


def stage_methods(precision: Precision, variants: dict[str, Stages]) -> list[Method]:
    """Return the service with other stages, and as it is served last."""
    settings = Settings(variant="float", precision=precision)
    methods = [
        service_method(settings, title=name, stages=stages, stages_name=name)
        for name, stages in variants.items()
    ]
    return [*methods, service_method(settings, title="as served")]


def crop_methods(precision: Precision) -> list[Method]:
    """Return both models with crops of several margins round each box; see `crop_around`."""
    methods = []
    for variant in ("float", "int8"):
        settings = Settings(variant=variant, precision=precision)
        model = "int8" if variant == "int8" else ""
        for name, stages in WINDOWS.items():
            methods.append(
                service_method(
                    settings,
                    title=f"{variant}, {name}",
                    model=model,
                    stages=stages,
                    stages_name=name,
                )
            )
        title = f"{variant}, as served"
        methods.append(service_method(settings, title=title, model=model))
    return methods


PREPROCESSING = {
    **{f"{name}, pad after": pad_after(code) for name, code in INTERPOLATIONS.items()},
    **{f"{name}, pad before": pad_before(code) for name, code in INTERPOLATIONS.items()},
}
THRESHOLD = {"threshold, then upsample": Stages(to_patch=threshold_first)}
WINDOWS = {
    "whole": Stages(crop=lambda box, image_size: WHOLE),
    **{
        f"margin {margin}": Stages(crop=partial(crop_around, margin=margin))
        for margin in range(MARGIN)
    },
}


def _resized(image: NDArray[np.uint8], image_size: int, interpolation: int) -> NDArray[np.uint8]:
    frame = ModelFrame((image.shape[0], image.shape[1]), image_size)
    return resize_long_side(as_rgb(image), frame, interpolation)


ABLATIONS = ("volume-prompt", "preprocessing", "threshold", "crop", "models")


def ablation_methods(
    name: str, precision: Precision, models: dict[str, Path]
) -> tuple[str, list[Method]]:
    """Return the kind of cases that an ablation is about, and what it compares."""
    if name == "volume-prompt":
        return "3D", volume_prompt_methods(precision)
    if name == "preprocessing":
        return "all", stage_methods(precision, PREPROCESSING)
    if name == "threshold":
        return "all", stage_methods(precision, THRESHOLD)
    if name == "crop":
        return "all", crop_methods(precision)
    return "all", [
        service_method(Settings(precision=precision), title=title, model=title, model_dir=folder)
        for title, folder in models.items()
    ]


def training_of(model_dir: Path) -> list[dict[str, Any]]:
    """Return the stages that an exported model was trained in: name, and steps and images kept."""
    manifest = json.loads((model_dir / MANIFEST_FILE).read_text(encoding="utf-8"))
    return [
        {
            "stage": stage["recipe"]["name"],
            "steps": stage["steps"],
            "images": stage["images"],
        }
        for stage in manifest.get("training", [])
    ]


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of `python -m benchmarks.ablations`."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.ablations",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("ablation", choices=ABLATIONS, help="what is varied")
    add_data_options(parser, None)
    parser.add_argument(
        "--precision", choices=["f32", "bf16"], default="f32", help="(default: %(default)s)"
    )
    parser.add_argument(
        "--model",
        action="append",
        default=[],
        type=_named_folder,
        metavar="NAME=DIR",
        help="exported model to compare; may be repeated",
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Print a table per variant and write the record."""
    parser = build_parser()
    arguments = parser.parse_args(argv)
    if (arguments.ablation == "models") != bool(arguments.model):
        parser.error("--model goes with `models`, and only with it")

    def body() -> int:
        models = dict(arguments.model)
        kind, methods = ablation_methods(arguments.ablation, arguments.precision, models)
        documents = score_methods(methods, case_paths(arguments.data, kind), arguments.work_dir)
        record = arguments.json or RESULTS_DIR / f"ablation-{arguments.ablation}.json"
        results = {"precision": arguments.precision, "methods": documents}
        if models:
            results["training"] = {title: training_of(folder) for title, folder in models.items()}
        write_record(record, results)
        return 0

    return run_command(body)


def _named_folder(text: str) -> tuple[str, Path]:
    name, separator, folder = text.partition("=")
    if not (name and separator and Path(folder).is_dir()):
        raise argparse.ArgumentTypeError(f"must be NAME=DIR of an exported model, got {text!r}")
    return name, Path(folder)


if __name__ == "__main__":
    sys.exit(main())
