"""What a case costs, before it is run: regions to encode, boxes to decode, voxels to read.

Regions are planned as they will be, but for those of objects that leave theirs and for slices that
are equal. Seconds are of one core of the Xeon that docs/scaling.md names; other machines are
quicker or slower as a whole, so that shares of work stay what they are.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TypeVar

import numpy as np

from ..config import Settings
from ..core.contract import Grid
from ..core.pipeline import volume_shape
from ..core.planning import Planner
from ..core.prompts import Prompts, check_prompts
from ..core.propagation import covered_slices, follows_masks
from ..core.regions import RegionPlan
from ..core.work import encoder_gmacs
from ..model.manifest import read_manifest
from ..model.variant import find_model
from .cases import Outline

logger = logging.getLogger(__name__)

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
    manifest = read_manifest(find_model(model_dir, settings.variant))
    follows = follows_masks(settings.volume_prompt)
    return Planner(settings.regions, manifest.whole_grid, manifest.grids, follows=follows)


def grids_of(outline: Outline | None, planner: Planner) -> list[Grid]:
    """Return the grids that a case is encoded on; none of one that is bad, or None."""
    planned = _planned(outline, planner)
    if planned is None:
        return []
    prompts, plan = planned
    return plan.grids(prompts.objects)


def work_of(outline: Outline | None, planner: Planner) -> Work:
    """Return what there is to do of a case; nothing of one that is bad, or None."""
    planned = _planned(outline, planner)
    if outline is None or planned is None:
        return Work()
    prompts, plan = planned
    inside = list(prompts.objects)
    places = np.array(plan.of_object, dtype=np.intp)[inside]
    ranges = prompts.slices[inside]
    whole_grid = planner.whole_grid
    slices = decodes = 0.0
    for place, region in enumerate(plan.regions):
        own = ranges[places == place]
        share_of_slice = encoder_gmacs(region.grid_hw) / encoder_gmacs(whole_grid)
        share_of_pixels = prod(region.grid_hw) / prod(whole_grid)
        decoded = int((own[:, 1] - own[:, 0] + 1).sum())
        slices += covered_slices(own) * share_of_slice
        decodes += decoded * (FIXED_SHARE + (1 - FIXED_SHARE) * share_of_pixels)
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
    pool = ThreadPoolExecutor(READERS, thread_name_prefix="work")
    try:
        return [work_of(outline, planner) for outline in pool.map(read, cases)]
    finally:
        pool.shutdown(cancel_futures=True)  # also where a signal ends this


def _planned(outline: Outline | None, planner: Planner) -> tuple[Prompts, RegionPlan] | None:
    if outline is None or outline.dtype != np.uint8:  # of other types messages look at all values
        return None
    try:
        pixels = np.broadcast_to(np.zeros((), outline.dtype), outline.shape)  # takes no memory
        prompts = check_prompts(pixels, outline.boxes)
        return prompts, planner.plan(prompts, volume_shape(pixels, prompts)[1:])
    except Exception as error:  # whatever is wrong with it, its own run says so; the others go on
        logger.debug("A case costs nothing, as it cannot be run: %s", error)
        return None
