"""What happened in a run, as JSON.

Times are seconds of wall time, memory is bytes of resident memory.
"""

from __future__ import annotations

import json
import platform
from dataclasses import asdict, dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from ..segmenter import Segmenter
from ..system.files import open_regular
from ..version import __version__

BEGINNING = b'{\n  "versions": {\n    "qmedsam": "'
PACKAGES = ("openvino", "numpy", "opencv-python-headless", "isal")


@dataclass(frozen=True)
class CaseRecord:
    """What happened to one case.

    Attributes:
        name: of the file.
        error: None when all went well; else what was wrong.
        is_empty: the label map that was written is all background: nothing was found, there were
            no boxes, or the case failed and this stands in place of its own.
        is_kept: its label map is of an earlier run.
        notes: what was corrected in the input, and which labels are missing from the label map.
        shape: of the pixels, of a case that failed as its file says; None where that cannot be
            read, and of a case that is kept.
        boxes: how many.
        slices: how many were needed.
        regions: how many were encoded, on all slices; of equal slices one alone was.
        grids: how many of them by height and width of the grid, as `128x192`.
        quality: the DSC, 0 to 1, that the model predicts of the mask of each box: 0 where nothing
            was found, None for a box outside the image; nothing of a model that does not say.
        gmacs: what encoder and decoder computed, in billions of multiply-accumulates.
        seconds: by step.
        total_s: wall time of reading, segmenting and writing it. Steps of a case overlap, and so do
            cases: the next slice is encoded while one is decoded, the next case read meanwhile.
        peak_memory_bytes: of the process until the case was segmented.
    """

    name: str
    error: str | None = None
    is_empty: bool = False
    is_kept: bool = False
    notes: tuple[str, ...] = ()
    shape: tuple[int, ...] | None = None
    boxes: int = 0
    slices: int = 0
    regions: int = 0
    grids: dict[str, int] = field(default_factory=dict)
    quality: tuple[float | None, ...] = ()
    gmacs: float = 0.0
    seconds: dict[str, float] = field(default_factory=dict)
    total_s: float = 0.0
    peak_memory_bytes: int = 0


@dataclass(frozen=True)
class Start:
    """What came before the first case: arguments, folders, and the encoder.

    Attributes:
        seconds: since the command began to run.
        peak_memory_bytes: of the process until then.
    """

    seconds: float
    peak_memory_bytes: int


def describe_model(segmenter: Segmenter) -> dict[str, Any]:
    """Return which model runs and how, as it is in a report."""
    return {
        "name": segmenter.network.manifest.name,
        "variant": segmenter.variant,
        "weights": segmenter.network.manifest.precision,
        "precision": segmenter.network.precision,
        "threads": segmenter.network.threads,
        "box_batch_size": segmenter.box_batch_size,
        "volume_prompt": segmenter.settings.volume_prompt,
        "regions": segmenter.settings.regions,
        "sha256": segmenter.network.manifest.sha256,
    }


def render_report(
    model: dict[str, Any],
    records: list[CaseRecord],
    start: Start,
    stopped_by: str | None = None,
    **more: Any,
) -> str:
    """Write a run as a JSON document.

    Args:
        model: of `describe_model`.
        records: of the cases, in order.
        start: what came before the first case.
        stopped_by: name of the signal that ended the run; None where it went to its end.
        more: to be added to the document.
    """
    failed = sum(record.error is not None for record in records)
    document = {
        "versions": {
            "qmedsam": __version__,
            "python": platform.python_version(),
            **{package: _installed(package) for package in PACKAGES},
        },
        "model": model,
        "start_s": round(start.seconds, 4),
        "start_peak_memory_bytes": start.peak_memory_bytes,
        "peak_memory_bytes": max(
            [start.peak_memory_bytes, *(record.peak_memory_bytes for record in records)]
        ),
        "cases_done": len(records) - failed,
        "cases_failed": failed,
        "cases_kept": sum(record.is_kept for record in records),
        "stopped_by": stopped_by,
        **more,
        "cases": [asdict(_rounded(record)) for record in records],
    }
    return json.dumps(document, indent=2) + "\n"


def is_own_report(path: Path) -> bool:
    """Say whether a file is a report that `render_report` made."""
    try:
        with open_regular(path) as stream:
            return stream.read(len(BEGINNING)) == BEGINNING
    except OSError:
        return False


def _installed(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "unknown"


def _rounded(record: CaseRecord) -> CaseRecord:
    seconds = {step: round(value, 4) for step, value in record.seconds.items()}
    return replace(
        record, seconds=seconds, total_s=round(record.total_s, 4), gmacs=round(record.gmacs, 2)
    )
