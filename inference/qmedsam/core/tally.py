"""What a segmentation took of the network: regions by grid, boxes by grid."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from .contract import Grid
from .crops import Crop
from .work import decoder_gmacs, encoder_gmacs


class Tally:
    """Counts what is encoded and decoded.

    Attributes:
        encoded: regions that were encoded, by grid.
        decoded: boxes that were decoded, by grid.
    """

    def __init__(self) -> None:
        self.encoded: Counter[Grid] = Counter()
        self.decoded: Counter[Grid] = Counter()
        self._decoding_gmacs = 0.0

    def add_decoded(self, grid_hw: Grid, crops: Sequence[Crop]) -> None:
        """Count boxes that were decoded on a grid, each in its crop."""
        self.decoded[grid_hw] += len(crops)
        for crop in crops:
            self._decoding_gmacs += decoder_gmacs(grid_hw, crop.height * crop.width)

    @property
    def gmacs(self) -> float:
        """What LiteMedSAM computed, in billions of multiply-accumulates."""
        encoding = sum(encoder_gmacs(grid) * count for grid, count in self.encoded.items())
        return encoding + self._decoding_gmacs
