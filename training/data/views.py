"""What a network is shown of a slice: the whole image, or the regions that serving would choose."""

from __future__ import annotations

from qmedsam.config import Regions
from qmedsam.core.contract import LOW_RES_SIZE, Grid
from qmedsam.core.geometry import ModelFrame
from qmedsam.core.planning import REGION_GRIDS, Planner
from qmedsam.core.regions import Region


def planner_of(regions: Regions, image_size: int) -> Planner:
    """Return how regions are chosen for a network, by the side of its model frame."""
    square = image_size, image_size
    return Planner(regions, square, REGION_GRIDS if square in REGION_GRIDS else (square,))


def low_res_frame(region: Region, image_size: int) -> ModelFrame:
    """Return how a region lies on the logits of its grid, by the side of the model frame."""
    height, width = region.grid_hw
    low_res: Grid = height * LOW_RES_SIZE // image_size, width * LOW_RES_SIZE // image_size
    return ModelFrame(region.hw, low_res)
