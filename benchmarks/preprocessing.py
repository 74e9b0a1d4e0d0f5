"""Ablation of the preprocessing: interpolation, and padding before or after normalization.

    python -m benchmarks.preprocessing

Everything else is the service's own: boxes, decoder, masks; volumes with the fixed prompt rule.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.split import DEFAULT_ROOT, ScoredCase, markdown_table, scored_cases
from inference.config import PRECISIONS, Settings
from inference.geometry import ModelFrame
from inference.memory import automatic_block_size
from inference.model import CompiledNetwork, default_model_dir
from inference.pipeline import Prepare, segment_slices
from inference.postprocess import LabelMap
from inference.preprocess import (
    as_rgb,
    normalize_min_max,
    pad_to_square,
    preprocess_image,
    resize_long_side,
    to_tensor,
)
from inference.prompts import check_prompts
from inference.timing import Stopwatch
from inference.volume import boxes_2d, fixed_visits, image_visits
from training.metrics import case_dsc


def pad_after(interpolation: int) -> Prepare:
    """Normalize the resized image, then pad with 0, the image's minimum (the baseline's order)."""

    def prepare(image: NDArray[np.uint8], image_size: int) -> NDArray[np.float32]:
        normalized = normalize_min_max(_resized(image, image_size, interpolation))
        return to_tensor(pad_to_square(normalized, image_size))

    return prepare


def pad_before(interpolation: int) -> Prepare:
    """Pad the resized image with 0, then normalize the square (the paper's order)."""

    def prepare(image: NDArray[np.uint8], image_size: int) -> NDArray[np.float32]:
        square = pad_to_square(_resized(image, image_size, interpolation), image_size)
        return to_tensor(normalize_min_max(square))

    return prepare


def _resized(image: NDArray[np.uint8], image_size: int, interpolation: int) -> NDArray[np.uint8]:
    frame = ModelFrame((image.shape[0], image.shape[1]), image_size)
    return resize_long_side(as_rgb(image), frame, interpolation)


VARIANTS: dict[str, Prepare] = {
    "area, pad after": pad_after(cv2.INTER_AREA),
    "area, pad before": pad_before(cv2.INTER_AREA),
    "cubic, pad after": pad_after(cv2.INTER_CUBIC),
    "cubic, pad before": pad_before(cv2.INTER_CUBIC),
    "linear, pad after": pad_after(cv2.INTER_LINEAR),
    "as served": preprocess_image,
}


def predict(network: CompiledNetwork, case: ScoredCase, prepare: Prepare) -> LabelMap:
    """Segment one case with one way to prepare its images."""
    prompts = check_prompts(case.pixels, case.boxes)
    if prompts.is_volume:
        boxes, visits = (
            boxes_2d(prompts.boxes),
            fixed_visits(prompts.boxes, prompts.objects),
        )
    else:
        boxes, visits = prompts.boxes, image_visits(prompts.objects)
    label_map = segment_slices(
        network,
        case.pixels if prompts.is_volume else [case.pixels],
        boxes=boxes,
        visits=visits,
        block_size=automatic_block_size(),
        stopwatch=Stopwatch(),
        prepare=prepare,
    )
    return label_map.reshape(case.truth.shape)


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
            predicted = predict(network, case, VARIANTS[name])
            scores[name][case.modality].append(case_dsc(case.truth, predicted))
        print(f"{case.modality}/{case.name}", file=sys.stderr)
    if arguments.json:
        arguments.json.write_text(json.dumps(scores, indent=1) + "\n")
    print(markdown_table(scores))
    return 0


if __name__ == "__main__":
    sys.exit(main())
