"""The quality that is predicted of objects."""

from __future__ import annotations

import numpy as np

from qmedsam.core.pipeline import Pipeline
from qmedsam.core.postprocess import MaskPatch
from qmedsam.core.prompts import check_prompts
from qmedsam.core.quality import QualityTally
from tests.conftest import FakeNetwork, mask_of

BIG, SMALL = (MaskPatch(mask_of(rows), 0, 0) for rows in (["###", "###"], ["..", ".#"]))
EMPTY = MaskPatch(mask_of(["..."]), 0, 0)


def test_slices_count_by_the_pixels_of_their_masks():
    tally = QualityTally(4)
    tally.add(1, BIG, 0.9)
    tally.add(1, SMALL, 0.2)
    tally.add(1, EMPTY, 0.0)
    tally.add(3, EMPTY, 0.8)
    found = tally.qualities()
    np.testing.assert_allclose(found, [np.nan, (6 * 0.9 + 0.2) / 7, np.nan, 0], rtol=1e-6)
    assert found.dtype == np.float32


def test_a_model_that_does_not_say_leaves_all_unknown():
    tally = QualityTally(2)
    tally.add(0, BIG, None)
    assert np.isnan(tally.qualities()).all()


class RatingNetwork(FakeNetwork):
    """Predicts the share of the model frame that a box is wide."""

    def rate(self, boxes):
        return (boxes[:, 2] - boxes[:, 0]) / self.image_size  # edges: of 128 pixels 128


def test_each_box_gets_what_is_predicted_of_its_mask():
    image = np.zeros((256, 256), dtype=np.uint8)
    boxes = np.array([[0, 10, 127, 50], [300, 300, 310, 310], [50, 60, 113, 90]])
    pipeline = Pipeline(RatingNetwork(), volume_prompt="fixed", regions="whole", box_batch_size=1)
    found = pipeline.segment(image, check_prompts(image, boxes))
    np.testing.assert_allclose(found.quality, [128 / 256, np.nan, 64 / 256], rtol=1e-6)
    (note,) = found.notes
    assert note.startswith("Boxes 1 (0, 10, 127, 50) and 3 (50, 60, 113, 90) may have poor masks")
