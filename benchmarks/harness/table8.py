"""The fourteen cases of the paper's Table 8 by shape and number of objects, built from real images.

The originals are not public; what decides the time is rebuilt: the shape, the number of boxes and
on how many slices they lie. The last is read from the paper's times of its baseline: about 1.3 s to
start and 0.345 s for each slice of each object. By that the objects of three volumes cover all
slices (3DBox_MR_0121 would have even more), those of four a share.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from qmedsam.batch.cases import read_case

EXAMPLES = Path("examples/cases")
FALLBACKS = {2: EXAMPLES / "2DBox_Fundus_retina.npz", 3: EXAMPLES / "3DBox_MR_brain.npz"}
MARGIN = 0.15  # of a grid cell between its border and its box


@dataclass(frozen=True)
class CaseSpec:
    """One case of the table.

    Attributes:
        shape: of the pixels.
        sources: where to look for a real image, below the data folder; the first match is taken.
        share: of the slices that each object covers.
        paper_s: seconds in the paper, baseline and proposed; None is a run out of memory.
    """

    name: str
    shape: tuple[int, int, int]
    objects: int
    sources: str
    paper_s: tuple[float | None, float]
    share: float = 1.0

    @property
    def is_volume(self) -> bool:
        """Whether the shape is (D, H, W)."""
        return self.shape[2] != 3


CT, MR = "speed/3DBox_CT_*.npz", "val/MR/3DBox_MR_0004.npz"
SPECS = (
    CaseSpec("3DBox_CT_0566", (287, 512, 512), 6, CT, (591.1, 142.1)),
    CaseSpec("3DBox_CT_0888", (237, 512, 512), 6, CT, (168.7, 51.0), 0.34),
    CaseSpec("3DBox_CT_0860", (246, 512, 512), 1, CT, (23.4, 12.4), 0.26),
    CaseSpec("3DBox_MR_0621", (115, 400, 400), 6, MR, (245.6, 51.5)),
    CaseSpec("3DBox_MR_0121", (64, 290, 320), 6, MR, (168.4, 31.4)),
    CaseSpec("3DBox_MR_0179", (84, 512, 512), 1, MR, (22.5, 11.9), 0.72),
    CaseSpec("3DBox_PET_0001", (264, 200, 200), 1, "speed/3DBox_PET_*.npz", (15.1, 7.3), 0.15),
    CaseSpec("2DBox_US_0525", (256, 256, 3), 1, "val/US/*.npz", (1.6, 0.7)),
    CaseSpec("2DBox_X-Ray_0053", (320, 640, 3), 34, "val/XRay/*.npz", (9.2, 1.8)),
    CaseSpec("2DBox_Dermoscopy_0003", (3024, 4032, 3), 1, "val/Dermoscopy/*.npz", (6.5, 1.1)),
    CaseSpec("2DBox_Endoscopy_0086", (480, 560, 3), 1, "val/Endoscopy/*.npz", (2.3, 0.6)),
    CaseSpec("2DBox_Fundus_0003", (2048, 2048, 3), 1, "val/Fundus/*.npz", (3.5, 0.7)),
    CaseSpec("2DBox_Microscope_0008", (1536, 2040, 3), 19, "val/Microscopy/*.npz", (15.6, 1.6)),
    CaseSpec("2DBox_Microscope_0016", (1920, 2560, 3), 241, "val/Microscopy/*.npz", (None, 14.0)),
)


def build_case(spec: CaseSpec, data: Path, path: Path) -> None:
    """Write a case of the table, from an image below `data` or else from an example."""
    found = sorted(data.glob(spec.sources))
    source = found[0] if found else FALLBACKS[3 if spec.is_volume else 2]
    pixels = read_case(source).pixels
    boxes = spread_boxes(spec)
    resampled = resample_volume(pixels, spec.shape) if spec.is_volume else resize(pixels, spec)
    np.savez_compressed(path, imgs=resampled, boxes=boxes)


def resize(image: NDArray[np.uint8], spec: CaseSpec) -> NDArray[np.uint8]:
    """Resize (H, W, 3) to the shape of a case."""
    height, width = spec.shape[:2]
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC))


def resample_volume(volume: NDArray[np.uint8], shape: Sequence[int]) -> NDArray[np.uint8]:
    """Resample (D, H, W) linearly to a shape; slices between two are blended, so no two repeat."""
    depth, height, width = shape
    result = np.empty((depth, height, width), dtype=np.uint8)
    for z, position in enumerate(np.linspace(0, len(volume) - 1, depth)):
        low = min(int(position), len(volume) - 2)
        weight = position - low
        blended = cv2.addWeighted(volume[low], 1 - weight, volume[low + 1], weight, 0)
        result[z] = cv2.resize(blended, (width, height), interpolation=cv2.INTER_LINEAR)
    return result


def spread_boxes(spec: CaseSpec) -> NDArray[np.float32]:
    """Return a box in each cell of a grid over the image; in a volume, with its range of slices."""
    height, width = spec.shape[1:] if spec.is_volume else spec.shape[:2]
    columns = min(spec.objects, math.ceil(math.sqrt(spec.objects * width / height)))
    rows = math.ceil(spec.objects / columns)
    y, x = (axis.ravel()[: spec.objects] for axis in np.mgrid[:rows, :columns])
    cell_w, cell_h = width / columns, height / rows
    low = np.stack([(x + MARGIN) * cell_w, (y + MARGIN) * cell_h], axis=1)
    high = np.stack([(x + 1 - MARGIN) * cell_w, (y + 1 - MARGIN) * cell_h], axis=1)
    if not spec.is_volume:
        return np.concatenate([low, high], axis=1).round().astype(np.float32)
    depth = spec.shape[0]
    length = max(1, round(spec.share * depth))
    places = np.linspace(0, 1, spec.objects) if spec.objects > 1 else np.array([0.5])
    first = np.floor(places * (depth - length))[:, None]
    boxes = np.concatenate([low, first, high, first + length - 1], axis=1)
    return boxes.round().astype(np.float32)
