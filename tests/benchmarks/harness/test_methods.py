"""What the accuracy tables compare."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks import accuracy
from benchmarks.harness import methods
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


def test_a_quantized_model_is_compared_only_where_it_exists(monkeypatch, tmp_path, caplog):
    quantized = {"nncf": (tmp_path, "NNCF int8"), "qat": (tmp_path / "none", "QAT int8")}
    monkeypatch.setattr(accuracy, "QUANTIZED", quantized)
    titles = [method.title for method in accuracy.compared_methods(tmp_path, ["f32", "bf16"])]
    assert titles == [
        "PyTorch baseline f32",
        *("service f32", "NNCF int8, rest f32"),
        *("service bf16", "NNCF int8, rest bf16"),
    ]
    assert "QAT int8 is left out" in caplog.text


@pytest.mark.model
def test_scores_come_by_the_titles_of_the_methods(tmp_path):
    folder = tmp_path / "data" / "US"
    folder.mkdir(parents=True)
    image = np.zeros((64, 64, 3), dtype=np.uint8)
    image[20:40, 20:40] = 255
    truth = (image[..., 0] > 0).astype(np.uint8)
    np.savez(folder / "a.npz", imgs=image, boxes=[[18, 18, 42, 42]], gts=truth)
    method = accuracy.shipped_method("f32")
    documents = accuracy.score_methods([method], [folder / "a.npz"], tmp_path / "work")
    assert documents["service f32"]["modalities"]["US"]["correct"]["dsc"] > 0.9
