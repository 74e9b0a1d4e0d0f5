"""The loop over cases: read, segment, write, count.

While a case is segmented the next one is read and the one before is written, each in a thread.
An invalid case is reported by name and the rest go on; nothing that happens to one case, nor to
its picture, touches another.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..config import OnError
from ..core.postprocess import LabelMap
from ..core.prompts import Prompts, check_prompts
from ..core.propagation import covered_slices
from ..core.segmentation import Segmentation
from ..core.tally import Tally
from ..core.timing import Stopwatch
from ..errors import InvalidCaseError, ModelError, OutputError
from ..segmenter import Segmenter
from ..system.files import printable, write_bytes
from ..system.memory import peak_memory_bytes, reset_peak_memory
from .cases import (
    CASE_SUFFIX,
    Case,
    Outline,
    read_case,
    read_label_map_shape,
    read_outline,
    read_shape,
    write_label_map,
)
from .overlay import draw_overlay, encode_png, is_own_picture
from .report import CaseRecord
from .results import is_own_label_map, is_result, mark_of

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outputs:
    """What a run leaves behind.

    Attributes:
        output_dir: folder of the label maps.
        overlay_dir: folder of the pictures; None draws none.
        measures_memory: begin a new memory peak with each case. The kernel's figure of the whole
            process begins anew too, so that this is off unless it is asked for.
        on_error: `empty` leaves a label map of background for a case that failed, where the shape
            of its pixels can be read; `skip` leaves none.
        maker: model and settings, as of `results.maker_of`; label maps are marked with it.
        keeps_earlier: a whole label map that is there already is kept, and its case not run again,
            where it is of the same inputs, model and settings.
        overwrites: files that are no label maps of an earlier run are replaced, too.
    """

    output_dir: Path
    overlay_dir: Path | None = None
    measures_memory: bool = False
    on_error: OnError = "skip"
    maker: str = ""
    keeps_earlier: bool = False
    overwrites: bool = False


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
        self._target = outputs.output_dir / path.name
        self.record = CaseRecord(path.name)
        self._stopwatch = Stopwatch()
        self._case: Case | None = None
        self._mark = b""
        self._info: NDArray[np.str_] | None = None
        self._segmentation: Segmentation | None = None
        self._drawn: _Prompted | None = None  # kept where a picture is wanted

    def read(self) -> CaseRun:
        """Read the file, unless there is nothing to do."""
        with self._attempt(), self._stopwatch.step("read"):
            self._mark = mark_of(self.path, self._outputs.maker)
            if self._outputs.keeps_earlier and self._is_done():
                self.record = replace(self.record, is_kept=True)
            else:
                self._case = read_case(self.path)
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
                self._write(segmentation.label_map, self._mark, self._info)
                self.record = replace(self.record, is_empty=segmentation.is_empty)
            picture = self._picture()
            if self.record.error is not None:
                self._discard_earlier()
            elif drawn is not None and picture is not None:
                self._draw(drawn, segmentation.label_map, picture)
        elif self.record.error is not None and not self._stands_empty():
            self._discard_earlier()
        if self.record.error is not None and self.record.shape is None:
            self.record = replace(self.record, shape=read_shape(self.path))
        peak = self.record.peak_memory_bytes or peak_memory_bytes()
        return replace(self.record, seconds=self._stopwatch.seconds, peak_memory_bytes=peak)

    def _note(self, notes: Sequence[str]) -> None:
        for note in notes:
            logger.warning("%s: %s", self._shown, note)
        self.record = replace(self.record, notes=(*self.record.notes, *notes))

    def _is_done(self) -> bool:
        picture = self._picture()
        is_drawn = picture is None or os.path.exists(picture)
        return is_drawn and is_result(self._target, self._mark)

    def _picture(self) -> Path | None:
        folder = self._outputs.overlay_dir
        return None if folder is None else folder / picture_name(self.path.name)

    def _write(
        self, label_map: LabelMap, mark: bytes = b"", info: NDArray[np.str_] | None = None
    ) -> None:
        # Of a link no more is replaced than the link.
        is_kept = os.path.exists(self._target) and not os.path.islink(self._target)
        if is_kept and not self._outputs.overwrites and not is_own_label_map(self._target):
            raise OutputError(
                f"{printable(self._target)} must be a label map of an earlier run to be replaced, "
                "and is something else; --overwrite replaces it"
            )
        try:
            write_label_map(self._target, label_map, mark, info)
        except OSError as error:
            raise OutputError(f"Label map cannot be written: {error}") from error

    def _stands_empty(self) -> bool:
        """Leave a label map of background where one is wanted; say whether there is one now.

        It has no mark, so that a run that keeps what is done does the case again.
        """
        shape = read_label_map_shape(self.path) if self._outputs.on_error == "empty" else None
        if shape is None:
            return False
        try:
            self._write(np.zeros(shape, dtype=np.uint8))
        except (OutputError, MemoryError) as error:
            logger.error("%s: no empty label map either: %s", self._shown, error)
            return False
        logger.warning("%s: an empty label map is written in its place", self._shown)
        self.record = replace(self.record, is_empty=True)
        return True

    def _discard_earlier(self) -> None:
        """Remove the label map that an earlier run left of a case that has failed now."""
        if not is_own_label_map(self._target):
            return
        try:
            self._target.unlink()
        except OSError as error:
            logger.error("%s: its label map of an earlier run stays: %s", self._shown, error)
            return
        logger.warning("%s: its label map of an earlier run is removed", self._shown)

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

    def _draw(self, drawn: _Prompted, label_map: LabelMap, target: Path) -> None:
        """Draw the picture of a case whose label map is safe."""
        prompts = drawn.prompts
        try:
            if target.exists() and not self._outputs.overwrites and not is_own_picture(target):
                raise OutputError(f"{target} is no picture of an earlier run; --overwrite replaces")
            picture = draw_overlay(drawn.pixels, prompts.boxes, label_map, objects=prompts.objects)
            write_bytes(target, encode_png(picture))
        except OutputError as error:
            logger.error("%s: the label map is written, not its picture: %s", self._shown, error)
            self.record = replace(self.record, error=f"Picture failed: {error}")
        except Exception as error:
            logger.exception("%s: the label map is written, its picture failed", self._shown)
            message = f"Picture failed: {type(error).__name__}: {error}"
            self.record = replace(self.record, error=message)


class ReadAhead:
    """Reads cases in order, each while the one before is worked on, and the first at once.

    Args:
        paths: of the cases.
        outputs: what to write of them; the folders exist.
    """

    def __init__(self, paths: Sequence[Path], outputs: Outputs) -> None:
        self.outputs = outputs
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="read")
        self._paths = list(paths)
        self._is_abandoned = False
        self._reading = self._start(0)

    def __len__(self) -> int:
        return len(self._paths)

    def __iter__(self) -> Iterator[CaseRun]:
        for index in range(len(self._paths)):
            reading = self._reading
            self._reading = self._start(index + 1)
            if reading is not None:
                yield reading.result()

    def first_outline(self) -> Outline | None:
        """Return the outline of the first case, which is soon read; None where that fails."""
        try:
            return read_outline(self._paths[0]) if self._paths else None
        except OSError:  # what reads the case says so
            return None

    def close(self) -> None:
        """Give the thread back, when it has read what it reads; at once where that is abandoned."""
        self._thread.shutdown(wait=not self._is_abandoned, cancel_futures=self._is_abandoned)

    def abandon(self) -> None:
        """Let nobody wait for what is being read: the process ends."""
        self._is_abandoned = True

    def _start(self, index: int) -> Future[CaseRun] | None:
        if index >= len(self._paths):
            return None
        return self._thread.submit(CaseRun(self._paths[index], self.outputs).read)


def run_batch(
    segmenter: Segmenter,
    cases: ReadAhead,
    *,
    on_case: Callable[[CaseRecord], None],
) -> None:
    """Segment every case.

    Args:
        segmenter: to use.
        cases: of which the first is being read.
        on_case: is told of each case, in order and in a thread of its own, when it is done or has
            failed.

    Raises:
        ModelError: the model cannot be run.
    """

    def finish(run: CaseRun) -> None:
        on_case(run.write())

    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="write") as thread:
        writing: Future[None] | None = None
        for run in cases:
            if cases.outputs.measures_memory:
                reset_peak_memory()
            run.segment(segmenter)
            if writing is not None:
                writing.result()  # at most one label map waits
            writing = thread.submit(finish, run)
        if writing is not None:
            writing.result()


def picture_name(case_name: str) -> str:
    """Return the name of the picture of a case, which no other case's picture has.

    Letters of the ending keep their case: `a.npz` becomes `a.png`, `a.NPZ` becomes `a.PNG`.
    """
    stem, ending = case_name[: -len(CASE_SUFFIX)], case_name[-len(CASE_SUFFIX) :]
    return stem + ending.translate(str.maketrans("npzNPZ", "pngPNG"))


def _listed(quality: NDArray[np.float32]) -> tuple[float | None, ...]:
    """Return what is predicted of each box, None for nothing; no boxes where it is of none."""
    if np.isnan(quality).all():
        return ()
    return tuple(None if np.isnan(value) else round(float(value), 3) for value in quality)


def _by_size(tally: Tally) -> dict[str, int]:
    return {f"{height}x{width}": n for (height, width), n in sorted(tally.encoded.items())}
