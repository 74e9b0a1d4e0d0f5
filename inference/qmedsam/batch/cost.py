"""What a case costs, before it is run: slices to encode, boxes to decode, voxels to read.

Seconds are of one core of the Xeon that docs/scaling.md names; other machines are quicker or slower
as a whole, so that shares of work stay what they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from ..core.prompts import check_prompts
from ..errors import InvalidCaseError
from .cases import Outline, read_outline

# Measured by `python -m benchmarks cluster`, with one thread; docs/scaling.md has the table.
SLICE_S, BOX_S, VOXEL_S, CASE_S = 0.21, 0.009, 5e-9, 0.01
READERS = 32  # threads that read headers: a shared folder makes each of them wait


@dataclass(frozen=True)
class Work:
    """What there is to do of a case.

    Attributes:
        slices: to encode.
        decodes: of a box on a slice.
        voxels: to read, of which as many labels are written.
    """

    slices: int = 0
    decodes: int = 0
    voxels: int = 0

    @property
    def seconds(self) -> float:
        """What it takes on the machine above, once the model is loaded."""
        run = SLICE_S * self.slices + BOX_S * self.decodes
        return CASE_S + run + VOXEL_S * self.voxels


def work_of(outline: Outline | None) -> Work:
    """Return what there is to do of a case; nothing of one that is bad, or None."""
    if outline is None:
        return Work()
    try:
        pixels = np.broadcast_to(np.zeros((), outline.dtype), outline.shape)  # takes no memory
        prompts = check_prompts(pixels, outline.boxes)
    except (InvalidCaseError, ValueError):  # ValueError of a shape that cannot be
        return Work()
    voxels = prod(outline.shape)
    if not prompts.is_volume:
        return Work(min(1, len(prompts.objects)), len(prompts.objects), voxels)
    first, last = prompts.boxes[list(prompts.objects)][:, [2, 5]].astype(np.int64).T
    changes = np.zeros(outline.shape[0] + 1, dtype=np.int64)
    np.add.at(changes, first, 1)
    np.add.at(changes, last + 1, -1)
    objects = np.cumsum(changes)  # on each slice
    return Work(int((objects > 0).sum()), int(objects.sum()), voxels)


def read_work(path: Path) -> Work:
    """Return what there is to do of a case, by its headers and boxes."""
    return work_of(read_outline(path))


def read_works(cases: Sequence[Any], read: Callable[[Any], Work] = read_work) -> list[Work]:
    """Return what there is to do of each case; many are read at once."""
    with ThreadPoolExecutor(READERS, thread_name_prefix="work") as pool:
        return list(pool.map(read, cases))
