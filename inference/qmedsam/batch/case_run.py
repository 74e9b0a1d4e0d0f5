"""One case on its way: read, segmented, written, and counted.

Whatever happens to it, or to its picture, is logged and ends up in its record.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..core.postprocess import LabelMap
from ..core.prompts import Prompts, check_prompts
from ..core.propagation import covered_slices
from ..core.segmentation import Segmentation
from ..core.tally import Tally
from ..core.timing import Stopwatch
from ..errors import InvalidCaseError, ModelError, OutputError
from ..segmenter import Segmenter
from ..system.files import printable
from ..system.memory import peak_memory_bytes
from .case_file import open_case
from .cases import Case, case_of, read_label_map_shape, read_shape
from .outputs import CaseOutputs, Outputs
from .overlay import draw_overlay
from .report import CaseRecord
from .results import mark_of

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Prompted:
    pixels: NDArray[np.uint8]
    prompts: Prompts


class CaseRun:
    """One case on its way, first in the reading thread, then in the main and the writing one.

    A step that fails is logged, and the later ones are left out.

    Args:
        path: of the case.
        outputs: what to write; the folders exist.
    """

    def __init__(self, path: Path, outputs: Outputs) -> None:
        self.path = path
        self._shown = printable(path)
        self._outputs = outputs
        self._files = CaseOutputs(path, outputs)
        self.record = CaseRecord(path.name)
        self._stopwatch = Stopwatch()
        self._case: Case | None = None
        self._mark = b""
        self._info: NDArray[np.str_] | None = None
        self._segmentation: Segmentation | None = None
        self._drawn: _Prompted | None = None  # kept where a picture is wanted

    def read(self) -> CaseRun:
        """Read the file, unless there is nothing to do."""
        # Once, so that what is marked is what was read.
        with self._attempt(), self._stopwatch.step("read"), open_case(self.path) as opened:
            self._mark = mark_of(opened, self._outputs.maker)
            if self._outputs.keeps_earlier and self._files.are_done(self._mark):
                self.record = replace(self.record, is_kept=True)
            else:
                self._case = case_of(opened)
        return self

    def segment(self, segmenter: Segmenter) -> None:
        """Check what was read and segment it.

        Raises:
            ModelError: no case can be run.
        """
        case, self._case = self._case, None
        if case is None:
            return
        with self._attempt():
            pixels, self._info = case.pixels, case.info
            prompts = check_prompts(pixels, case.boxes)
            self._note(prompts.notes)
            segmentation = segmenter.pipeline.segment(pixels, prompts, stopwatch=self._stopwatch)
            self._note(segmentation.notes)
            self._segmentation = segmentation
            if self._outputs.overlay_dir is not None:
                self._drawn = _Prompted(pixels, prompts)
            self.record = replace(
                self.record,
                shape=pixels.shape,
                boxes=len(prompts.boxes),
                slices=covered_slices(prompts.slices[list(prompts.objects)]),
                regions=segmentation.tally.encoded.total(),
                grids=_by_size(segmentation.tally),
                gmacs=segmentation.tally.gmacs,
                quality=_listed(segmentation.quality),
                peak_memory_bytes=peak_memory_bytes(),
            )

    def write(self) -> CaseRecord:
        """Write what was found and let go of it; return what happened to the case."""
        segmentation, drawn = self._segmentation, self._drawn
        self._segmentation = self._drawn = None
        if segmentation is not None:
            with self._attempt(), self._stopwatch.step("write"):
                self._files.write(segmentation.label_map, self._mark, self._info)
                self.record = replace(self.record, is_empty=segmentation.is_empty)
            if self.record.error is not None:
                self._files.discard()
            elif drawn is not None:
                self._draw(drawn, segmentation.label_map)
        elif self.record.error is not None:
            if self._stands_empty():
                self._files.discard_picture()
            else:
                self._files.discard()
        if self.record.error is not None and self.record.shape is None:
            self.record = replace(self.record, shape=read_shape(self.path))
        peak = self.record.peak_memory_bytes or peak_memory_bytes()
        return replace(self.record, seconds=self._stopwatch.seconds, peak_memory_bytes=peak)

    def _note(self, notes: Sequence[str]) -> None:
        for note in notes:
            logger.warning("%s: %s", self._shown, note)
        self.record = replace(self.record, notes=(*self.record.notes, *notes))

    def _stands_empty(self) -> bool:
        """Leave a label map of background where one is wanted; say whether there is one now.

        It has no mark, so that a run that keeps what is done does the case again.
        """
        if self._outputs.on_error != "empty":
            return False
        try:
            shape = read_label_map_shape(self.path)
            if shape is None:
                return False
            self._files.write(np.zeros(shape, dtype=np.uint8))
        except (OutputError, MemoryError) as error:
            logger.error("%s: no empty label map either: %s", self._shown, error)
            return False
        except Exception:
            logger.exception("%s: its empty label map failed unexpectedly", self._shown)
            return False
        logger.warning("%s: an empty label map is written in its place", self._shown)
        self.record = replace(self.record, is_empty=True)
        return True

    @contextmanager
    def _attempt(self) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        except ModelError:
            raise
        except (InvalidCaseError, OutputError) as error:
            logger.error("%s: %s", self._shown, error)
            self.record = replace(self.record, error=str(error))
        except Exception as error:
            logger.exception("%s: failed unexpectedly", self._shown)
            self.record = replace(self.record, error=f"{type(error).__name__}: {error}")
        finally:
            total_s = self.record.total_s + time.perf_counter() - started
            self.record = replace(self.record, total_s=total_s)

    def _draw(self, drawn: _Prompted, label_map: LabelMap) -> None:
        """Draw the picture of a case whose label map is safe."""
        boxes, objects = drawn.prompts.boxes, drawn.prompts.objects
        try:
            picture = draw_overlay(drawn.pixels, boxes, label_map, objects=objects)
            self._files.draw(picture, self._mark)
            return
        except OutputError as error:
            logger.error("%s: the label map is written, not its picture: %s", self._shown, error)
            self.record = replace(self.record, error=f"Picture failed: {error}")
        except Exception as error:
            logger.exception("%s: the label map is written, its picture failed", self._shown)
            message = f"Picture failed: {type(error).__name__}: {error}"
            self.record = replace(self.record, error=message)
        self._files.discard_picture()


def _listed(quality: NDArray[np.float32]) -> tuple[float | None, ...]:
    """Return what is predicted of each box, None for nothing; no boxes where it is of none."""
    if np.isnan(quality).all():
        return ()
    return tuple(None if np.isnan(value) else round(float(value), 3) for value in quality)


def _by_size(tally: Tally) -> dict[str, int]:
    return {f"{height}x{width}": n for (height, width), n in sorted(tally.encoded.items())}
