"""What the network's passes cost, in GMACs (billions of multiply-accumulates); pure arithmetic.

Of LiteMedSAM, whose encoder is a TinyViT and whose decoder is SAM's, folded as it is exported. A
test holds the figures to the graphs that ship.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from .contract import Grid
from .crops import SIDES

GIGA = 1e9
# Multiply-accumulates for each pixel of the image in the layers at full resolution, two blocks of
# convolutions among them, up to where the resolution is halved.
FULL_RESOLUTION = 84_864
# Those of a box: for each pixel of the embedding, for each of its crop, and once.
LOOKED_AT_PIXEL, DECODED_PIXEL, BOX = 104_576, 98_816, 21_653_888


@dataclass(frozen=True)
class _Stage:
    """Blocks of one resolution.

    Attributes:
        stride: pixels of the image along a side of one token.
        window: tokens along a side of an attention window, to which a side is filled up.
        blocks: how many.
        filled: for each token of a block, those that fill up the windows included.
        token: for each token of a block.
        after: for each token, once: what changes the width behind the blocks.
    """

    stride: int
    window: int
    blocks: int
    filled: int
    token: int
    after: int

    def multiply_accumulates(self, grid_hw: Grid) -> int:
        height, width = (side // self.stride for side in grid_hw)
        filled = _filled(height, self.window) * _filled(width, self.window)
        return self.blocks * (self.filled * filled + self.token * height * width) + (
            self.after * height * width
        )


STAGES = (
    _Stage(stride=2, window=7, blocks=2, filled=78_080, token=132_224, after=27_240),
    _Stage(stride=4, window=14, blocks=6, filled=165_120, token=206_240, after=156_480),
    # Behind the last are the neck and what the decoder reads of an image.
    _Stage(stride=4, window=7, blocks=2, filled=440_960, token=822_080, after=770_048),
)


@cache
def encoder_gmacs(grid_hw: Grid) -> float:
    """Return what encoding on a grid costs, 37.88 of the largest one, 256 x 256."""
    height, width = grid_hw
    stages = sum(stage.multiply_accumulates(grid_hw) for stage in STAGES)
    return (FULL_RESOLUTION * height * width + stages) / GIGA


@cache
def decoder_gmacs(grid_hw: Grid, crop_pixels: int = SIDES[0] ** 2) -> float:
    """Return what decoding one box on a grid costs.

    Args:
        grid_hw: of the image; on the largest one a box costs 0.48 with the smallest crop, and 0.38
            more with the largest, which is all of it.
        crop_pixels: of the embedding, that are decoded.
    """
    height, width = grid_hw
    looked_at = LOOKED_AT_PIXEL * (height // 4) * (width // 4)
    return (looked_at + DECODED_PIXEL * crop_pixels + BOX) / GIGA


def _filled(side: int, window: int) -> int:
    return -(-side // window) * window
