"""How good the mask of each object may be, as the network predicts it.

Of an object on several slices it is the mean over them, each weighted by the pixels of its mask.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .postprocess import MaskPatch

# Below this predicted DSC a mask is worth a look; docs/results.md says how often that is right.
LOW_QUALITY = 0.7


class QualityTally:
    """Gathers what is predicted of objects.

    Args:
        objects: how many there may be.
    """

    def __init__(self, objects: int) -> None:
        self._weighted = np.zeros(objects)
        self._pixels = np.zeros(objects)
        self._is_rated = np.zeros(objects, dtype=np.bool_)

    def add(self, index: int, patch: MaskPatch, quality: float | None) -> None:
        """Take in what is predicted of an object's mask on a slice; None is nothing."""
        if quality is None:
            return
        pixels = int(np.count_nonzero(patch.mask))
        self._is_rated[index] = True
        self._weighted[index] += quality * pixels
        self._pixels[index] += pixels

    def qualities(self) -> NDArray[np.float32]:
        """Return the DSC that is predicted of each object, 0 to 1.

        It is 0 where nothing was found, and NaN where nothing was looked for, or the model does not
        say.
        """
        means = self._weighted / np.maximum(self._pixels, 1)
        return np.where(self._is_rated, means, np.nan).astype(np.float32)
