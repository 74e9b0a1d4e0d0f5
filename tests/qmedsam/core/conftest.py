"""Volumes and boxes for the pipeline, and a network whose masks wander."""

from __future__ import annotations

import numpy as np

from qmedsam.core.embeddings import EncodedImage
from qmedsam.core.network import DecodedBoxes
from tests.conftest import cut


def random_volume(depth: int, hw=(48, 64)) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (depth, *hw)).astype(np.uint8)


def random_boxes(objects: int, depth: int, hw=(48, 64)) -> np.ndarray:
    generator = np.random.default_rng(2)
    extent = np.array([hw[1], hw[0], depth - 1])
    corners = np.sort(generator.uniform(0, 1, (objects, 2, 3)), axis=1) * extent
    corners[..., 2] = np.rint(corners[..., 2])
    return corners.reshape(objects, 6).astype(np.float32)


class WanderingNetwork:
    """Draws each box moved and shrunk by what the slice looks like; sometimes draws nothing."""

    image_size = 256
    grids = ((256, 256),)

    def prepare(self, grids):
        pass

    def encode(self, image):
        embedding = np.full((1, 256, 64, 64), image.sum(), dtype=np.float32)
        return EncodedImage(image.shape[2:], {"image_embedding": embedding})

    def decode(self, encoded, boxes, crops):
        return DecodedBoxes(cut(self.draw(encoded, boxes), crops))

    def draw(self, encoded, boxes):
        """Draw where the crop of a box always reaches."""
        seed = int(encoded.values["image_embedding"][0, 0, 0, 0])
        shift = np.random.default_rng(seed).integers(-6, 7, 4)
        centres = np.arange(256) + 0.5
        logits = np.full((len(boxes), 256, 256), -1, dtype=np.float32)
        if seed % 5 == 0:
            return logits
        for one, (x0, y0, x1, y1) in zip(logits, boxes + shift, strict=True):
            rows = (y0 < centres) & (centres < y1)
            columns = (x0 < centres) & (centres < x1)
            one[np.ix_(rows, columns)] = 1
        return logits
