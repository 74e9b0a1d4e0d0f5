"""What a segmentation took of the network: regions by grid, boxes by grid."""

from __future__ import annotations

from collections import Counter

from .contract import Grid
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

    @property
    def gmacs(self) -> float:
        """What the network computed, in billions of multiply-accumulates."""
        encoding = sum(encoder_gmacs(grid) * count for grid, count in self.encoded.items())
        return encoding + sum(decoder_gmacs(grid) * count for grid, count in self.decoded.items())
