"""DSC per modality of the PyTorch baseline and of the service, on the same weights and cases.

    python -m benchmarks.accuracy

Images are scored whole and volumes whole. The baseline's embeddings are remembered between the
boxes of a volume, which changes its time and not its masks.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.split import (
    Predict,
    ScoredCase,
    add_data_options,
    markdown_table,
    score_methods,
    scored_cases,
)
from inference import Segmenter, Settings
from inference.config import PRECISIONS, Precision
from training.baseline import Baseline
from training.checkpoint import DEFAULT_PATH, load_lite_medsam


def baseline(checkpoint: Path) -> Predict:
    """Return the PyTorch baseline on a checkpoint."""
    network = load_lite_medsam(checkpoint)
    remembered: dict[bytes, Tensor] = {}

    def encode(image: Tensor) -> Tensor:
        key = image.numpy().tobytes()
        if key not in remembered:
            remembered[key] = network.encode(image)
        return remembered[key]

    pipeline = Baseline(network, encode)

    def predict(case: ScoredCase) -> NDArray[np.integer]:
        remembered.clear()
        segment = pipeline.segment_volume if case.boxes.shape[1] == 6 else pipeline.segment_image
        return segment(case.pixels, case.boxes)

    return predict


def service(settings: Settings) -> Predict:
    """Return the service with the model that ships."""
    segmenter = Segmenter(settings=settings)
    return lambda case: segmenter.segment(case.pixels, case.boxes)


def methods(checkpoint: Path, precisions: Sequence[Precision], kind: str) -> dict[str, Predict]:
    """Return everything that is compared, by the name of its column."""
    compared = {"PyTorch baseline f32": baseline(checkpoint)}
    for precision in precisions:
        compared[f"service {precision}, fixed"] = service(Settings(precision=precision))
        if kind == "3D":
            settings = Settings(precision=precision, volume_prompt="propagate")
            compared[f"service {precision}, propagate"] = service(settings)
    return compared


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of `python -m benchmarks.accuracy`."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy", description=__doc__)
    add_data_options(parser)
    parser.add_argument(
        "--checkpoint", type=Path, default=DEFAULT_PATH, help="weights (default: %(default)s)"
    )
    parser.add_argument(
        "--precision",
        nargs="+",
        choices=PRECISIONS,
        default=["f32"],
        help="of the service (default: f32)",
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Print a table for the images and one for the volumes."""
    arguments = build_parser().parse_args(argv)
    document = {}
    for kind in ("2D", "3D"):
        compared = methods(arguments.checkpoint, arguments.precision, kind)
        scores = score_methods(scored_cases(arguments.data, kind), compared)
        document[kind] = scores
        print(markdown_table(scores), end="\n\n", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(document, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
