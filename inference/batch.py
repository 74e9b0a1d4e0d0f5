"""The loop over cases: read, segment, write, count.

A bad case is reported by name and the rest go on; nothing that happens to one case, nor to its
picture, touches another.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .cases import CASE_SUFFIX, read_case, write_bytes, write_label_map
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
class Outputs:
    """What a run leaves behind.

    Attributes:
        output_dir: folder of the label maps.
        overlay_dir: folder of the pictures; None draws none.
        measures_memory: begin a new memory peak with each case. The kernel's figure of the whole
            process begins anew too, so that this is off unless it is asked for.
    """

    output_dir: Path
    overlay_dir: Path | None = None
    measures_memory: bool = False


def run_batch(
    segmenter: Segmenter,
    paths: list[Path],
    *,
    outputs: Outputs,
    on_case: Callable[[CaseRecord], None],
) -> list[CaseRecord]:
    """Segment every case.

    Args:
        segmenter: to use.
        paths: of the cases.
        outputs: what to write; the folders exist.
        on_case: is told of each case when it is done or has failed.

    Returns:
        What happened to each case, in order.
    """
    records = []
    for path in paths:
        if outputs.measures_memory:
            reset_peak_memory()
        started = time.perf_counter()
        try:
            record = _run_case(segmenter, path, outputs)
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


def _run_case(segmenter: Segmenter, path: Path, outputs: Outputs) -> CaseRecord:
    stopwatch = Stopwatch()
    with stopwatch.step("read"):
        case = read_case(path)
    prompts = check_prompts(case.pixels, case.boxes)
    for note in prompts.notes:
        logger.warning("%s: %s", path, note)
    label_map = segmenter.segment_checked(case.pixels, prompts, stopwatch=stopwatch)
    with stopwatch.step("write"):
        write_label_map(outputs.output_dir / path.name, label_map)
    return CaseRecord(
        path.name,
        error=_draw(case.pixels, prompts, label_map, path=path, folder=outputs.overlay_dir),
        notes=prompts.notes,
        shape=case.pixels.shape,
        boxes=len(prompts.boxes),
        slices=_encoded_slices(prompts),
        seconds=stopwatch.seconds,
    )


def _draw(
    pixels: NDArray[np.uint8],
    prompts: Prompts,
    label_map: LabelMap,
    *,
    path: Path,
    folder: Path | None,
) -> str | None:
    """Draw the picture of a case whose label map is safe; return what went wrong."""
    if folder is None:
        return None
    draw = draw_volume_montage if prompts.is_volume else draw_image_overlay
    try:
        picture = encode_png(draw(pixels, prompts.boxes, label_map, objects=prompts.objects))
        write_bytes(folder / f"{path.name.removesuffix(CASE_SUFFIX)}.png", picture)
    except Exception as error:
        logger.exception("%s: the label map is written, its picture failed", path)
        return f"Picture failed: {type(error).__name__}: {error}"
    return None


def _encoded_slices(prompts: Prompts) -> int:
    if prompts.is_volume:
        return len(fixed_visits(prompts.boxes, prompts.objects))
    return min(1, len(prompts.objects))
