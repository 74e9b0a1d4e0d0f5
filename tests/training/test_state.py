"""Checkpoints of training: the same network comes back, and nothing else is taken for one.

The small network here has the three parts and the shapes of LiteMedSAM and a hundredth of its work;
tests of the stages use it too.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

pytest.importorskip("torch", reason="training/requirements.txt is not installed")

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training import fake_quant, state
from training.checkpoint import SHA256, CheckpointError
from training.layers import ConvNorm, LayerNorm2d, MatMul
from training.network import PromptableNetwork
from training.quant_config import QuantConfig
from training.quantization import activation_quantizers
from training.recipe import Recipe
from training.state import (
    Trained,
    is_trained,
    load_start,
    load_trained,
    quantize_further,
    read_document,
    recipe_in,
    save_document,
    trained_document,
)

pytestmark = pytest.mark.training

SIZE = 256
BOTH = ("image_encoder", "mask_decoder")


class SmallDecoder(nn.Module):
    """The inner product of the prompt with every pixel of the embedding, enlarged."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Linear(256, 16)
        self.pixel = nn.Conv2d(256, 16, 1)
        self.mask_product = MatMul()

    def unused_parts(self) -> list[nn.Module]:
        return []

    def forward(self, pixels: Tensor, pixel_pe: Tensor, prompts: Tensor) -> Tensor:
        placed = pixels + pixel_pe.transpose(1, 2).unflatten(2, (64, 64))
        features = self.pixel(placed).flatten(2)  # (1, 16, 4096)
        logits = self.mask_product(self.token(prompts.sum(1))[:, None], features)
        logits = logits.unflatten(2, (64, 64))  # (N, 1, 64, 64)
        return F.interpolate(logits, scale_factor=4.0, mode="bilinear").squeeze(1)


def small_encoder() -> nn.Module:
    """Build an encoder with what a quantized one has: a folded norm, a norm, two convolutions."""
    return nn.Sequential(
        ConvNorm(3, 8, kernel_size=5, stride=4),
        nn.GELU(),
        nn.Conv2d(8, 256, 1),
        LayerNorm2d(256),
    )


def build_small_network() -> PromptableNetwork:
    network = PromptableNetwork(small_encoder(), SIZE)
    network.mask_decoder = SmallDecoder()
    return network


def seeded_network(seed: int = 0) -> PromptableNetwork:
    """Build the network with weights and running statistics that tell it from others."""
    torch.manual_seed(seed)
    network = build_small_network()
    norm = network.image_encoder[0].bn
    norm.running_mean.uniform_(-0.2, 0.2)
    norm.running_var.uniform_(0.5, 2.0)
    return network.eval()


def images_with_boxes(count: int = 2) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(5)
    boxes = torch.tensor([[10.0, 20.0, 90.0, 120.0], [0.0, 0.0, 255.0, 255.0]])
    return [(torch.rand(1, 3, SIZE, SIZE, generator=generator), boxes) for _ in range(count)]


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Put the small network in the place of LiteMedSAM, compile nothing, and use one thread.

    Its tensors are small, and threads that wait for each other take minutes on a busy machine.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setitem(state.BUILDERS, "lite_medsam", build_small_network)
    for direction in ("forward", "backward"):
        eager = getattr(fake_quant, f"_{direction}")
        monkeypatch.setattr(fake_quant, f"_compiled_{direction}", eager)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def trained():
    history = [{"recipe": {"name": "before"}, "steps": 7, "validation_dsc": {"CT": 0.5}}]
    return Trained("lite_medsam", seeded_network(), (), None, history, "ab12")


def quantized(trained, parts=BOTH, quant=None):
    recipe = Recipe("any", quantized=parts, quant=quant or QuantConfig())
    quantize_further(trained, recipe, images_with_boxes())
    return trained


def weights(network) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


@torch.no_grad()
def logits(network) -> Tensor:
    image, boxes = images_with_boxes(1)[0]
    return network(image, boxes)


def assert_comes_back(trained, path):
    save_document(trained_document(trained), path)
    back = load_trained(path)
    for name in ("name", "quantized", "quant", "history", "source_sha256"):
        assert getattr(back, name) == getattr(trained, name), name
    assert not back.network.training
    before, after = weights(trained.network), weights(back.network)
    assert list(before) == list(after)
    for name, value in before.items():
        torch.testing.assert_close(after[name], value, rtol=0, atol=0)
    torch.testing.assert_close(logits(back.network), logits(trained.network), rtol=0, atol=0)
    return back


def test_a_float_network_comes_back(trained, tmp_path):
    back = assert_comes_back(trained, tmp_path / "last.pt")
    assert activation_quantizers(back.network) == {}


@pytest.mark.parametrize(
    ("parts", "quant"),
    [
        pytest.param(("image_encoder",), QuantConfig(), id="encoder"),
        pytest.param(BOTH, QuantConfig(weight_bits=7), id="both"),
        pytest.param(BOTH, QuantConfig(scheme="paper", activation_bits=4), id="paper"),
    ],
)
def test_a_quantized_network_comes_back(trained, tmp_path, parts, quant):
    before = logits(trained.network)
    quantized(trained, parts, quant)
    assert not torch.equal(logits(trained.network), before)
    back = assert_comes_back(trained, tmp_path / "last.pt")
    assert (back.quantized, back.quant) == (parts, quant)
    for part in BOTH:
        assert bool(activation_quantizers(getattr(back.network, part))) == (part in parts)


def test_learned_ranges_come_back(trained, tmp_path):
    quantized(trained)
    with torch.no_grad():
        for proxy in activation_quantizers(trained.network).values():
            for parameter in proxy.parameters():
                parameter.add_(0.5)
    assert_comes_back(trained, tmp_path / "last.pt")


def test_a_checkpoint_is_what_the_network_was_when_it_was_written(trained, tmp_path):
    before = weights(trained.network)
    save_document(trained_document(trained), tmp_path / "last.pt")
    with torch.no_grad():
        trained.network.mask_decoder.token.weight.zero_()
    back = load_trained(tmp_path / "last.pt").network.mask_decoder.token.weight
    torch.testing.assert_close(back, before["mask_decoder.token.weight"], rtol=0, atol=0)


def test_the_recipe_of_the_stage_comes_back(tmp_path):
    recipe = Recipe("mine", frozen=("image_encoder.0",), quant=QuantConfig(weight_bits=5), seed=3)
    document = {"format": state.FORMAT, "recipe": dataclasses.asdict(recipe)}
    save_document(document, tmp_path / "last.pt")
    assert recipe_in(read_document(tmp_path / "last.pt")) == recipe


def test_what_is_left_float_is_quantized_further(trained):
    quantized(trained, ("image_encoder",))
    encoder = weights(trained.network.image_encoder)
    quantized(trained)
    assert trained.quantized == BOTH
    assert trained.quant == QuantConfig()
    assert activation_quantizers(trained.network.mask_decoder)
    for name, value in weights(trained.network.image_encoder).items():
        torch.testing.assert_close(value, encoder[name], rtol=0, atol=0)


def test_nothing_is_quantized_twice(trained):
    quantized(trained)
    before = weights(trained.network)
    quantizers = list(activation_quantizers(trained.network))
    quantized(trained, ("image_encoder",))
    assert list(activation_quantizers(trained.network)) == quantizers
    assert trained.quantized == BOTH
    for name, value in weights(trained.network).items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


def test_a_recipe_that_quantizes_nothing_leaves_the_network_float(trained):
    before = logits(trained.network)
    quantized(trained, ())
    assert (trained.quantized, trained.quant) == ((), None)
    torch.testing.assert_close(logits(trained.network), before, rtol=0, atol=0)


@pytest.mark.parametrize("parts", [("image_encoder",), BOTH], ids=["the-same-part", "another"])
def test_a_network_is_not_quantized_in_two_ways(trained, parts):
    quantized(trained, ("image_encoder",))
    before = weights(trained.network)
    with pytest.raises(
        CheckpointError, match=r"must be QuantConfig\(.*weight_bits=7.*weight_bits=8"
    ):
        quantized(trained, parts, QuantConfig(weight_bits=7))
    assert trained.quantized == ("image_encoder",)
    assert list(weights(trained.network)) == list(before)


def test_a_stage_starts_from_a_checkpoint_of_training_or_a_published_one(
    trained, tmp_path, monkeypatch
):
    save_document(trained_document(quantized(trained)), tmp_path / "best.pt")
    asked = []

    def load_published(path):
        asked.append(path)
        return seeded_network(1)

    for name in ("lite_medsam", "medsam"):
        monkeypatch.setitem(state.LOADERS, name, load_published)
    own = load_start("medsam", tmp_path / "best.pt")
    assert (own.name, own.quantized, own.history) == ("lite_medsam", BOTH, trained.history)
    assert asked == []
    published = tmp_path / "lite_medsam.pth"
    torch.save(seeded_network(1).state_dict(), published)
    start = load_start("lite_medsam", published)
    assert asked == [published]
    assert (start.quantized, start.quant, start.history) == ((), None, [])
    assert start.source_sha256 == SHA256
    assert load_start("medsam", published).source_sha256 is None


def damaged_files(folder):
    """Write files that are no checkpoints, with what their refusal says."""
    whole = folder / "whole.pt"
    torch.save({"format": state.FORMAT, "network": {"weight": torch.arange(1000.0)}}, whole)
    content = whole.read_bytes()
    files = {
        "empty": b"",
        "text": b"name = 'a recipe'\n",
        "half": content[: len(content) // 2],
        "head": content[:20],
        "noise": np.random.default_rng(0).bytes(4000),
        "zeros": bytes(100),
    }
    for name, damage in files.items():
        (folder / name).write_bytes(damage)
    np.savez(folder / "archive.npz", imgs=np.zeros(3))
    (folder / "folder").mkdir()
    return {
        **dict.fromkeys([*files, "archive.npz"], "is no checkpoint"),
        **dict.fromkeys(["folder", "missing"], "cannot be read"),
    }


def test_a_broken_or_missing_file_is_named(tmp_path):
    for name, expected in damaged_files(tmp_path).items():
        with pytest.raises(CheckpointError) as raised:
            load_trained(tmp_path / name)
        assert str(raised.value).startswith(f"{tmp_path / name} {expected}"), name
        assert not is_trained(tmp_path / name)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"broken", id="IndexError"),
        pytest.param(b"hello", id="KeyError"),
        pytest.param(b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9", id="struct.error"),
    ],
)
def test_a_text_or_a_part_of_an_old_checkpoint_is_named(tmp_path, content):
    path = tmp_path / "last.pt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"last\.pt is no checkpoint"):
        load_trained(path)


@pytest.mark.parametrize(
    "document",
    [
        pytest.param({"weight": torch.zeros(2)}, id="published"),
        pytest.param({"format": state.FORMAT + 1, "network": {}}, id="newer"),
        pytest.param([1, 2], id="list"),
        pytest.param(torch.zeros(3), id="tensor"),
    ],
)
def test_a_file_of_another_format_is_named(tmp_path, document):
    path = tmp_path / "other.pt"
    torch.save(document, path)
    with pytest.raises(CheckpointError) as raised:
        load_trained(path)
    expected = f"{path} must be a checkpoint of training of format {state.FORMAT}"
    assert str(raised.value) == expected
    assert not is_trained(path)


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path):
    path = tmp_path / "code.pt"
    torch.save({"format": state.FORMAT, "network": print}, path)
    with pytest.raises(CheckpointError, match=r"code\.pt is no checkpoint"):
        load_trained(path)


@pytest.mark.parametrize("change", ["shape", "missing", "extra", "float"])
def test_weights_that_do_not_fit_are_refused(trained, tmp_path, change):
    document = trained_document(quantized(trained))
    kept = document["network"]
    if change == "shape":
        kept["mask_decoder.token.weight"] = torch.zeros(16, 255)
    elif change == "missing":
        del kept["mask_decoder.token.weight"]
    elif change == "extra":
        kept["mask_decoder.more"] = torch.zeros(1)
    else:
        document.update(quantized=[], quant=None)
    save_document(document, tmp_path / "last.pt")
    with pytest.raises(CheckpointError, match=r"last\.pt does not fit the network"):
        load_trained(tmp_path / "last.pt")


@pytest.mark.parametrize("change", ["no-name", "another-network", "another-setting"])
def test_a_checkpoint_of_another_version_is_named(trained, tmp_path, change):
    document = trained_document(quantized(trained))
    if change == "no-name":
        del document["name"]
    elif change == "another-network":
        document["name"] = "large_medsam"
    else:
        document["quant"]["rounding"] = "floor"
    save_document(document, tmp_path / "last.pt")
    with pytest.raises(CheckpointError, match=r"last\.pt"):
        load_trained(tmp_path / "last.pt")


def test_a_checkpoint_appears_whole_or_not_at_all(trained, tmp_path, monkeypatch):
    path = tmp_path / "last.pt"
    save_document(trained_document(trained), path)
    content = path.read_bytes()

    def fail_halfway(document, target):
        target.write(b"half of it")
        raise OSError("No space left on device")

    monkeypatch.setattr(torch, "save", fail_halfway)
    with pytest.raises(OSError, match="No space left"):
        save_document(trained_document(trained), path)
    with pytest.raises(OSError, match="No space left"):
        save_document(trained_document(trained), tmp_path / "best.pt")
    assert path.read_bytes() == content
    assert [file.name for file in tmp_path.iterdir()] == ["last.pt"]
