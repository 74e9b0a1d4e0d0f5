"""The published LiteMedSAM pipeline in PyTorch: what speed and accuracy are compared with.

    python -m training.baseline -i inputs -o outputs

Structure after the challenge's baseline (MedSAM, LiteMedSAM branch, Apache-2.0), written for this
project: one box at a time; in a volume each box walks its slices from the middle outward and
embeds every slice anew. Boxes are truncated to integers of the model frame; masks are upsampled
over the full frame.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from qmedsam import InferenceError
from qmedsam.batch.cases import Case, list_cases, read_case, write_label_map
from qmedsam.core.geometry import ModelFrame
from qmedsam.core.preprocess import (
    as_rgb,
    normalize_min_max,
    pad_to_grid,
    resize_to_frame,
    to_tensor,
)
from qmedsam.core.prompts import VOLUME_COLUMNS
from qmedsam.core.propagation import middle_slice, slice_range
from qmedsam.exit_status import DONE, NOTHING_RAN
from qmedsam.options import at_least
from training.checkpoint import load_lite_medsam
from training.networks.network import PromptableNetwork
from training.published import DEFAULT_PATH, CheckpointError

logger = logging.getLogger(__name__)

BOX_SHIFT_PX = 3  # by which the box of the neighbour's mask grows, in the model frame
Box = NDArray[np.integer]


class Baseline:
    """The pipeline around one network.

    Args:
        network: LiteMedSAM.
        encode: image (1, 3, S, S) to image_embedding; the network's own unless given, for one
            that remembers what it has encoded.
    """

    def __init__(
        self, network: PromptableNetwork, encode: Callable[[Tensor], Tensor] | None = None
    ) -> None:
        self._network = network
        self._encode = encode or network.encode

    def segment(self, pixels: NDArray[np.uint8], boxes: NDArray[np.generic]) -> NDArray[np.uint16]:
        """Segment an image by boxes (N, 4), or a volume by boxes (N, 6)."""
        is_volume = boxes.shape[1] == VOLUME_COLUMNS
        return (self.segment_volume if is_volume else self.segment_image)(pixels, boxes)

    @torch.inference_mode()
    def segment_image(
        self, image: NDArray[np.uint8], boxes: NDArray[np.generic]
    ) -> NDArray[np.uint16]:
        """Segment (H, W, 3) by boxes (N, 4), xyxy, one after the other: label map (H, W)."""
        frame = ModelFrame.square(image.shape[:2], self._network.image_size)
        image_embedding = self._embed(image, frame)
        label_map = np.zeros(image.shape[:2], dtype=np.uint16)
        for label, box in enumerate(boxes, start=1):
            mask = self._decode(image_embedding, _truncated(box, frame), frame)
            label_map[mask] = label
        return label_map

    @torch.inference_mode()
    def segment_volume(
        self, volume: NDArray[np.uint8], boxes: NDArray[np.generic]
    ) -> NDArray[np.uint16]:
        """Segment (D, H, W) by boxes (N, 6), xyzxyz, z inclusive: label map (D, H, W)."""
        frame = ModelFrame.square(volume.shape[1:], self._network.image_size)
        label_map = np.zeros(volume.shape, dtype=np.uint16)
        for label, box in enumerate(boxes, start=1):
            own = _truncated(box[[0, 1, 3, 4]], frame)
            first, last, middle = int(box[2]), int(box[5]), middle_slice(box)
            masks: dict[int, NDArray[np.bool_]] = {}
            for z in range(middle, last + 1):
                masks[z] = self._follow(volume[z], masks.get(z - 1), own=own, frame=frame)
            for z in range(middle - 1, first - 1, -1):
                masks[z] = self._follow(volume[z], masks.get(z + 1), own=own, frame=frame)
            for z, mask in masks.items():
                label_map[z][mask] = label
        return label_map

    def _follow(
        self,
        image: NDArray[np.uint8],
        neighbour: NDArray[np.bool_] | None,
        *,
        own: Box,
        frame: ModelFrame,
    ) -> NDArray[np.bool_]:
        found = None if neighbour is None else _mask_box(neighbour, frame)
        return self._decode(self._embed(image, frame), own if found is None else found, frame)

    def _embed(self, image: NDArray[np.uint8], frame: ModelFrame) -> Tensor:
        resized = resize_to_frame(as_rgb(image), frame, cv2.INTER_AREA)
        square = pad_to_grid(normalize_min_max(resized), frame.grid_hw)
        return self._encode(torch.from_numpy(to_tensor(square)))

    def _decode(self, image_embedding: Tensor, box: Box, frame: ModelFrame) -> NDArray[np.bool_]:
        boxes = torch.from_numpy(box.astype(np.float32))[None]
        logits = self._network.decode(image_embedding, boxes)[:, None]
        height, width = frame.resized_hw
        upsampled = F.interpolate(
            logits[..., :height, :width], frame.original_hw, mode="bilinear", align_corners=False
        )
        mask: NDArray[np.bool_] = (upsampled[0, 0] > 0).numpy()
        return mask


def _truncated(box: NDArray[np.generic], frame: ModelFrame) -> Box:
    return (box.astype(np.float64) * frame.scale).astype(np.int64)


def _mask_box(mask: NDArray[np.bool_], frame: ModelFrame) -> Box | None:
    """Return the grown box of a mask after it was resized to the model frame; None when empty."""
    height, width = frame.resized_hw
    resized = cv2.resize(mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_AREA)
    rows, columns = np.nonzero(resized)
    if rows.size == 0:
        return None
    return np.array(
        [
            max(0, columns.min() - BOX_SHIFT_PX),
            max(0, rows.min() - BOX_SHIFT_PX),
            min(frame.grid_hw[1], columns.max() + BOX_SHIFT_PX),
            min(frame.grid_hw[0], rows.max() + BOX_SHIFT_PX),
        ]
    )


class TimedBaseline:
    """The baseline on at most so many slices of each object, with the time of a visit to one.

    Args:
        network: LiteMedSAM.
        most_slices: None walks all.
    """

    def __init__(self, network: PromptableNetwork, most_slices: int | None) -> None:
        self._network = network
        self._most_slices = most_slices
        self._starts: list[float] = []

    def segment(self, case: Case) -> tuple[NDArray[np.uint16], int, int]:
        """Return the label map, how many slices and boxes there are, and how many were walked."""
        self._starts.clear()
        pipeline = Baseline(self._network, self._encode)
        boxes = case.boxes
        if boxes.shape[1] != VOLUME_COLUMNS:
            return pipeline.segment(case.pixels, boxes), len(boxes), len(boxes)
        walked = boxes if self._most_slices is None else sampled_boxes(boxes, self._most_slices)
        label_map = pipeline.segment(case.pixels, walked)
        visits, walked_visits = (
            sum(len(slice_range(box)) for box in rows) for rows in (boxes, walked)
        )
        return label_map, visits, walked_visits

    def visit_s(self) -> float | None:
        """Return the median seconds from one embedding to the next; None of a single one.

        The first visit, which also prepares what later ones reuse, is one of many.
        """
        return float(np.median(np.diff(self._starts))) if len(self._starts) > 1 else None

    def _encode(self, image: Tensor) -> Tensor:
        self._starts.append(time.perf_counter())
        return self._network.encode(image)


def sampled_boxes(boxes: NDArray[np.generic], most_slices: int) -> NDArray[np.generic]:
    """Return (N, 6) boxes of at most so many slices each, round their middle slices."""
    sampled = boxes.copy()
    for row in sampled:
        middle = middle_slice(row)
        row[2] = max(row[2], middle - (most_slices - 1) // 2)
        row[5] = min(row[5], middle + most_slices // 2)
    return sampled


def _segment_file(pipeline: TimedBaseline, path: Path, output_dir: Path) -> dict[str, object]:
    """Segment one case; say how many visits to slices it takes and how long one lasts."""
    case = read_case(path)
    label_map, visits, walked = pipeline.segment(case)
    write_label_map(output_dir / path.name, label_map)
    return {"name": path.name, "visits": visits, "walked": walked, "visit_s": pipeline.visit_s()}


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of `python -m training.baseline`."""
    parser = argparse.ArgumentParser(
        prog="python -m training.baseline",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("-i", "--input-dir", type=Path, required=True, help="folder of the cases")
    parser.add_argument("-o", "--output-dir", type=Path, required=True, help="for label maps")
    parser.add_argument(
        "--checkpoint", type=Path, default=DEFAULT_PATH, help="weights (default: %(default)s)"
    )
    parser.add_argument(
        "--most-slices",
        type=at_least(1),
        metavar="N",
        help="walk at most N slices of each object, to estimate the time of all (default: all)",
    )
    parser.add_argument(
        "--report", type=Path, help="also write visits and seconds of one as JSON here"
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Segment every case of a folder."""
    arguments = build_parser().parse_args(argv)
    logging.basicConfig(format="%(levelname)s: %(message)s")
    try:
        network = load_lite_medsam(arguments.checkpoint)
        arguments.output_dir.mkdir(parents=True, exist_ok=True)
        pipeline = TimedBaseline(network, arguments.most_slices)
        paths = list_cases(arguments.input_dir)
        report = [_segment_file(pipeline, path, arguments.output_dir) for path in paths]
    except (CheckpointError, InferenceError, OSError) as error:
        logger.error("%s", error)
        return NOTHING_RAN
    if arguments.report:
        arguments.report.write_text(json.dumps(report, indent=1) + "\n")
    return DONE


if __name__ == "__main__":
    sys.exit(main())
