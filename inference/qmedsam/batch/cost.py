"""What a case costs, before it is run: regions to encode, boxes to decode, voxels to read.

Regions are planned as they will be, but for those of objects that leave theirs and for slices that
are equal. Seconds are of one core of the Xeon that docs/scaling.md names; other machines are
quicker or slower as a whole, so that shares of work stay what they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ..config import Settings
from ..core.planning import Planner
from ..core.prompts import Prompts, check_prompts
from ..core.work import encoder_gmacs
from ..errors import InvalidCaseError
from ..model.manifest import read_manifest
from ..model.variant import default_model_dir
from .cases import Outline

# Measured by `python -m benchmarks cluster`, with one thread; docs/scaling.md has the table.
SLICE_S, BOX_S, VOXEL_S, CASE_S = 0.21, 0.009, 5e-9, 0.01
FIXED_SHARE = 0.5  # of a box; the rest goes by the pixels of its grid
READERS = 32  # threads that read headers: a shared folder makes each of them wait
Name = TypeVar("Name")


@dataclass(frozen=True)
class Work:
    """What there is to do of a case.

    Attributes:
        slices: to encode, as many whole ones as take what their regions take.
        decodes: of a box on a slice, as many on whole ones as take what they take in regions.
        voxels: to read, of which as many labels are written.
    """

    slices: float = 0.0
    decodes: float = 0.0
    voxels: int = 0

    @property
    def seconds(self) -> float:
        """What it takes on the machine above, once the model is loaded."""
        run = SLICE_S * self.slices + BOX_S * self.decodes
        return CASE_S + run + VOXEL_S * self.voxels


def planner_of(settings: Settings, model_dir: Path | None) -> Planner:
    """Return how a segmenter chooses regions, without loading its model.

    Raises:
        ModelError: there is no such model.
    """
    manifest = read_manifest(model_dir or default_model_dir(settings.variant))
    return Planner(settings.regions, manifest.whole_grid, manifest.grids)


def work_of(outline: Outline | None, planner: Planner) -> Work:
    """Return what there is to do of a case; nothing of one that is bad, or None."""
    if outline is None:
        return Work()
    try:
        pixels = np.broadcast_to(np.zeros((), outline.dtype), outline.shape)  # takes no memory
        prompts = check_prompts(pixels, outline.boxes)
    except (InvalidCaseError, ValueError):  # ValueError of a shape that cannot be
        return Work()
    plan = planner.plan(prompts, _slice_hw(outline.shape, prompts))
    places = np.array(plan.of_object, dtype=np.intp)[list(prompts.objects)]
    spans = _spans(prompts)
    slices = decodes = 0.0
    for place, region in enumerate(plan.regions):
        encoded, decoded = _visited(spans[places == place])
        slices += encoded * encoder_gmacs(region.grid_hw) / encoder_gmacs(planner.whole_grid)
        share = prod(region.grid_hw) / prod(planner.whole_grid)
        decodes += decoded * (FIXED_SHARE + (1 - FIXED_SHARE) * share)
    return Work(slices, decodes, prod(outline.shape))


def read_works(
    cases: Sequence[Name],
    planner: Planner,
    read: Callable[[Name], Outline | None],
) -> list[Work]:
    """Return what there is to do of each case; many are read at once.

    Args:
        cases: whatever `read` takes.
        planner: of the run.
        read: returns what a case says of itself, as `read_outline` does.
    """
    with ThreadPoolExecutor(READERS, thread_name_prefix="work") as pool:
        return [work_of(outline, planner) for outline in pool.map(read, cases)]


def _slice_hw(shape: tuple[int, ...], prompts: Prompts) -> tuple[int, int]:
    height, width = shape[1:] if prompts.is_volume else shape[:2]
    return height, width


def _spans(prompts: Prompts) -> NDArray[np.int64]:
    """Return the first slice of each object and the one behind its last, (N, 2)."""
    boxes = prompts.boxes[list(prompts.objects)]
    if not prompts.is_volume:
        return np.tile(np.array([0, 1], dtype=np.int64), (len(boxes), 1))
    spans: NDArray[np.int64] = boxes[:, [2, 5]].astype(np.int64) + np.array([0, 1])
    return spans


def _visited(spans: NDArray[np.int64]) -> tuple[int, int]:
    """Return how many slices there are objects on, and how many objects on slices."""
    if len(spans) == 0:
        return 0, 0
    changes = np.zeros(int(spans.max()) + 1, dtype=np.int64)
    np.add.at(changes, spans[:, 0], 1)
    np.add.at(changes, spans[:, 1], -1)
    objects = np.cumsum(changes)  # on each slice
    return int((objects > 0).sum()), int(objects.sum())
