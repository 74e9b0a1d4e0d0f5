"""What the accuracy tables compare."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.harness import methods
from benchmarks.harness.methods import service_method
from qmedsam import Settings
from qmedsam.batch.cases import Case
from tests.conftest import FakeNetwork
from training.baseline import Baseline


class WanderingTorchNetwork(FakeNetwork):
    """Its masks are its boxes, which it moves by what the image looks like."""

    def encode(self, image):
        return torch.from_numpy(self.embed(image.numpy()))

    def decode(self, image_embedding, boxes):
        shift = torch.round(20 * image_embedding.mean())
        return torch.from_numpy(self.draw((boxes + shift).numpy()))


def test_remembered_embeddings_leave_the_masks_of_the_baseline_as_they_are(monkeypatch):
    generator = np.random.default_rng(0)
    volume = generator.integers(0, 256, (6, 40, 40)).astype(np.uint8)
    volume[3] //= 4
    boxes = np.array([[5, 5, 0, 20, 20, 5], [12, 8, 1, 30, 25, 4]])
    network = WanderingTorchNetwork()
    monkeypatch.setattr(methods, "load_lite_medsam", lambda checkpoint: network)
    predict = methods.remembering_baseline(None)
    found = predict(Case(volume, boxes))
    assert len(network.encoded) == 6  # each slice once, though two objects lie on four of them
    expected = Baseline(WanderingTorchNetwork()).segment_volume(volume, boxes)
    np.testing.assert_array_equal(found, expected)
    assert set(np.unique(found)) == {0, 1, 2}
    image = np.repeat(volume[0][..., None], 3, axis=2)
    np.testing.assert_array_equal(
        predict(Case(image, boxes[:, [0, 1, 3, 4]])),
        Baseline(network).segment_image(image, boxes[:, [0, 1, 3, 4]]),
    )


@pytest.mark.model
def test_the_service_is_loaded_when_it_is_to_predict():
    method = service_method(Settings(variant="float", precision="f32"), title="ours")
    image = np.zeros((64, 64, 3), dtype=np.uint8)
    image[20:40, 20:40] = 255
    found = method.load()(Case(image, np.array([[18, 18, 42, 42]])))
    agreement = (found > 0) == (image[..., 0] > 0)
    assert agreement.mean() > 0.95
