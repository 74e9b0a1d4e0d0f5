"""Ablation of the preprocessing: interpolation, and padding before or after normalization.

    python -m benchmarks.preprocessing

Everything else is the service's own: boxes, decoder, masks; volumes with the fixed prompt rule.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.split import DEFAULT_ROOT, ScoredCase, markdown_table, scored_cases
from inference.config import PRECISIONS, Settings
from inference.geometry import ModelFrame
from inference.model import CompiledNetwork, default_model_dir
from inference.postprocess import LabelCanvas, logits_to_window
from inference.preprocess import (
    as_rgb,
    normalize_min_max,
    pad_to_square,
    preprocess_image,
    resize_long_side,
    to_tensor,
)
from inference.prompts import check_prompts
from inference.volume import boxes_2d, fixed_visits, image_visits
from training.metrics import case_dsc

Prepare = Callable[[NDArray[np.uint8], ModelFrame], NDArray[np.float32]]


def as_served(image: NDArray[np.uint8], frame: ModelFrame) -> NDArray[np.float32]:
    """Prepare an image as the service does."""
    return preprocess_image(image, frame.image_size)


def pad_after(interpolation: int) -> Prepare:
    """Normalize the resized image, then pad with 0, the image's minimum (the baseline's order)."""

    def prepare(image: NDArray[np.uint8], frame: ModelFrame) -> NDArray[np.float32]:
        resized = resize_long_side(as_rgb(image), frame, interpolation)
        return to_tensor(pad_to_square(normalize_min_max(resized), frame.image_size))

    return prepare


def pad_before(interpolation: int) -> Prepare:
    """Pad the resized image with 0, then normalize the square (the paper's order)."""

    def prepare(image: NDArray[np.uint8], frame: ModelFrame) -> NDArray[np.float32]:
        resized = resize_long_side(as_rgb(image), frame, interpolation)
        square = pad_to_square(resized, frame.image_size)
        return to_tensor(normalize_min_max(square))

    return prepare


VARIANTS: dict[str, Prepare] = {
    "area, pad after": pad_after(cv2.INTER_AREA),
    "area, pad before": pad_before(cv2.INTER_AREA),
    "cubic, pad after": pad_after(cv2.INTER_CUBIC),
    "cubic, pad before": pad_before(cv2.INTER_CUBIC),
    "linear, pad after": pad_after(cv2.INTER_LINEAR),
    "as served": as_served,
}


def predict(
    network: CompiledNetwork, case: ScoredCase, *, prepare: Prepare, block_size: int
) -> NDArray[np.integer]:
    """Segment one case with one way to prepare its images."""
    prompts = check_prompts(case.pixels, case.boxes)
    if prompts.is_volume:
        slices, boxes = case.pixels, boxes_2d(prompts.boxes)
        visits = fixed_visits(prompts.boxes, prompts.objects)
    else:
        slices, boxes = case.pixels[None], prompts.boxes
        visits = image_visits(prompts.objects)
    frame = ModelFrame((slices.shape[1], slices.shape[2]), network.image_size)
    canvas = LabelCanvas((len(slices), *frame.original_hw), len(boxes))
    for visit in visits:
        embedding = network.encode(prepare(slices[visit.z], frame))
        for start in range(0, len(visit.objects), block_size):
            chosen = list(visit.objects[start : start + block_size])
            logits = network.decode(embedding, frame.boxes_to_model(boxes[chosen]))
            for index, one in zip(chosen, logits, strict=True):
                canvas.paint(visit.z, logits_to_window(one, frame), index + 1)
    return canvas.label_map.reshape(case.truth.shape)


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of `python -m benchmarks.preprocessing`."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.preprocessing", description=__doc__)
    parser.add_argument(
        "--data",
        type=Path,
        default=DEFAULT_ROOT,
        help="folder of modalities (default: %(default)s)",
    )
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--kind", choices=["2D", "3D", "all"], default="all")
    parser.add_argument("--precision", choices=PRECISIONS, default="f32")
    parser.add_argument("--json", type=Path, help="also write the scores of each case here")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Print the table of the ablation."""
    arguments = build_parser().parse_args(argv)
    network = CompiledNetwork(default_model_dir(), Settings(precision=arguments.precision))
    names: list[str] = arguments.variants
    scores: dict[str, dict[str, list[float]]] = {name: defaultdict(list) for name in names}
    for case in scored_cases(arguments.data, arguments.kind):
        for name in names:
            predicted = predict(network, case, prepare=VARIANTS[name], block_size=4)
            scores[name][case.modality].append(case_dsc(case.truth, predicted, len(case.boxes)))
        print(f"{case.modality}/{case.name}", file=sys.stderr)
    if arguments.json:
        arguments.json.write_text(json.dumps(scores, indent=1) + "\n")
    print(markdown_table(scores))
    return 0


if __name__ == "__main__":
    sys.exit(main())
