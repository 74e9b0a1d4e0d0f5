"""Ablation of the preprocessing: interpolation, and padding before or after normalization.

    python -m benchmarks.preprocessing

Everything else is the service's own: boxes, decoder, masks; volumes with the fixed prompt rule.
"""

from __future__ import annotations

import argparse
import json
import sys

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.split import (
    Predict,
    ScoredCase,
    add_data_options,
    markdown_table,
    score_methods,
    scored_cases,
)
from inference import Segmenter, Settings
from inference.config import PRECISIONS
from inference.geometry import ModelFrame
from inference.pipeline import Prepare
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


def prepared_by(segmenter: Segmenter, prepare: Prepare) -> Predict:
    """Return the service with another way to prepare its images."""

    def predict(case: ScoredCase) -> LabelMap:
        prompts = check_prompts(case.pixels, case.boxes)
        return segmenter.segment_checked(
            case.pixels, prompts, stopwatch=Stopwatch(), prepare=prepare
        )

    return predict


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of `python -m benchmarks.preprocessing`."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.preprocessing", description=__doc__)
    add_data_options(parser)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--kind", choices=["2D", "3D", "all"], default="all")
    parser.add_argument("--precision", choices=PRECISIONS, default="f32")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Print the table of the ablation."""
    arguments = build_parser().parse_args(argv)
    segmenter = Segmenter(settings=Settings(precision=arguments.precision))
    compared = {name: prepared_by(segmenter, VARIANTS[name]) for name in arguments.variants}
    scores = score_methods(scored_cases(arguments.data, arguments.kind), compared)
    if arguments.json:
        arguments.json.write_text(json.dumps(scores, indent=1) + "\n")
    print(markdown_table(scores))
    return 0


if __name__ == "__main__":
    sys.exit(main())
