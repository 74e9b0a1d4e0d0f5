"""The loop over cases: read, segment, write, count; a bad case is reported and the rest go on."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .cases import read_case, write_bytes, write_label_map
from .errors import InvalidCaseError
from .memory import peak_memory_bytes, reset_peak_memory
from .overlay import draw_image_overlay, draw_volume_montage, encode_png
from .postprocess import LabelMap
from .prompts import Prompts, check_prompts
from .report import CaseRecord
from .segmenter import Segmenter
from .timing import Stopwatch
from .volume import fixed_visits

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Folders:
    """Where a run writes.

    Attributes:
        output_dir: of the label maps.
        overlay_dir: of the pictures; None draws none.
    """

    output_dir: Path
    overlay_dir: Path | None = None


def run_batch(
    segmenter: Segmenter,
    paths: list[Path],
    folders: Folders,
    on_case: Callable[[CaseRecord], None],
) -> list[CaseRecord]:
    """Segment every case.

    Args:
        segmenter: to use.
        paths: of the cases.
        folders: to write to; they exist.
        on_case: is told of each case when it is done or has failed.

    Returns:
        What happened to each case, in order.
    """
    records = []
    for path in paths:
        reset_peak_memory()
        started = time.perf_counter()
        try:
            record = _run_case(segmenter, path, folders)
        except InvalidCaseError as error:
            logger.error("%s: %s", path, error)
            record = CaseRecord(path.name, error=str(error))
        except Exception as error:
            logger.exception("%s: failed unexpectedly", path)
            record = CaseRecord(path.name, error=f"{type(error).__name__}: {error}")
        records.append(
            replace(
                record,
                total_s=time.perf_counter() - started,
                peak_memory_bytes=peak_memory_bytes(),
            )
        )
        on_case(records[-1])
    return records


def _run_case(segmenter: Segmenter, path: Path, folders: Folders) -> CaseRecord:
    stopwatch = Stopwatch()
    with stopwatch.step("read"):
        case = read_case(path)
    prompts = check_prompts(case.pixels, case.boxes)
    for note in prompts.notes:
        logger.warning("%s: %s", path, note)
    label_map = segmenter.segment_checked(case.pixels, prompts, stopwatch)
    with stopwatch.step("write"):
        write_label_map(folders.output_dir / path.name, label_map)
    if folders.overlay_dir is not None:
        picture = _draw(case.pixels, prompts, label_map)
        write_bytes(folders.overlay_dir / f"{path.stem}.png", picture)
    return CaseRecord(
        path.name,
        notes=prompts.notes,
        shape=case.pixels.shape,
        boxes=len(prompts.boxes),
        slices=_encoded_slices(prompts),
        seconds=stopwatch.seconds,
    )


def _draw(pixels: NDArray[np.uint8], prompts: Prompts, label_map: LabelMap) -> bytes:
    draw = draw_volume_montage if prompts.is_volume else draw_image_overlay
    return encode_png(draw(pixels, prompts.boxes, label_map))


def _encoded_slices(prompts: Prompts) -> int:
    if prompts.is_volume:
        return len(fixed_visits(prompts.boxes))
    return min(1, len(prompts.boxes))
