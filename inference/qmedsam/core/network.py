"""What the pipeline needs of a model, and what a model gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from .contract import Grid
from .crops import Crop
from .embeddings import EncodedImage
from .geometry import Boxes


@dataclass(frozen=True, eq=False)
class DecodedBoxes:
    """What the decoder makes of boxes.

    Attributes:
        low_res_logits: (N, h, w), four for each pixel of the crops along a side.
        quality: (N,), the DSC, 0 to 1, that is predicted of each mask; None of a model that does
            not say.
    """

    low_res_logits: NDArray[np.float32]
    quality: NDArray[np.float32] | None = None


class Network(Protocol):
    """What the pipeline needs of a model."""

    @property
    def image_size(self) -> int:
        """Side of the model frame in pixels."""
        ...

    @property
    def grids(self) -> tuple[Grid, ...]:
        """What it can encode, among them the square that a whole image is seen on."""
        ...

    def prepare(self, grids: Sequence[Grid]) -> None:
        """Begin to get ready for grids, while nothing is encoded; returns at once."""
        ...

    def encode(self, image: NDArray[np.float32]) -> EncodedImage:
        """Encode (1, 3, h, w) of a grid."""
        ...

    def decode(self, encoded: EncodedImage, boxes: Boxes, crops: Sequence[Crop]) -> DecodedBoxes:
        """Decode (N, 4) boxes of the model frame in crops of one size."""
        ...
