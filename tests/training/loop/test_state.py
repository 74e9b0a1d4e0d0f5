"""Checkpoints of training: the same network comes back, and nothing else is taken for one."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="training/requirements.txt is not installed")

import torch
from torch import Tensor

from tests.training.small_networks import BOTH, images_with_boxes, seeded_network
from training.loop import state
from training.loop.recipe import Recipe
from training.loop.state import (
    Trained,
    check_resumable,
    load_source,
    load_start,
    load_trained,
    quantize_further,
    read_document,
    save_document,
    trained_document,
    unquantized_parts,
)
from training.published import SHA256, CheckpointError
from training.quantization.config import QuantConfig
from training.quantization.quantize import activation_quantizers

pytestmark = [pytest.mark.training, pytest.mark.usefixtures("small_lite_medsam")]


@pytest.fixture
def trained():
    history = [{"recipe": {"name": "before"}, "steps": 7, "validation": {"CT": 0.5}}]
    return Trained("lite_medsam", seeded_network(), (), None, history, "ab12")


def quantized(trained, parts=BOTH, quant=None):
    recipe = Recipe(name="any", quantized=parts, quant=quant or QuantConfig())
    if missing := unquantized_parts(trained, recipe):
        quantize_further(trained, recipe, images_with_boxes(), missing)
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


@pytest.mark.parametrize("scheme", ["deploy", "paper"])
def test_a_quantized_network_has_the_same_weights_in_float(trained, tmp_path, scheme):
    float_logits, before = logits(trained.network), weights(trained.network)
    quantized(trained, BOTH, QuantConfig(scheme=scheme, smoothing=0.0, correct_biases=False))
    save_document(trained_document(trained), tmp_path / "best.pt")
    source = load_source("lite_medsam", tmp_path / "best.pt", in_float=True)
    assert source.quant is None
    assert activation_quantizers(source.network) == {}
    assert source.history == trained.history
    torch.testing.assert_close(logits(source.network), float_logits, rtol=1e-4, atol=1e-5)
    if scheme == "paper":
        for name, value in weights(source.network).items():
            torch.testing.assert_close(value, before[name], rtol=0, atol=0)
    # Nothing is changed of a float one, or where that is not asked for.
    assert load_source("lite_medsam", tmp_path / "best.pt").quant == trained.quant


def test_a_network_says_whether_it_was_taught_quality(trained, tmp_path):
    for loss, rates in (({}, False), ({"quality": 0.0}, False), ({"quality": 0.5}, True)):
        trained.history[0]["recipe"]["loss"] = loss
        save_document(trained_document(trained), tmp_path / "best.pt")
        assert load_trained(tmp_path / "best.pt").network.rates == rates
        quantized(trained)
        save_document(trained_document(trained), tmp_path / "int8.pt")
        for in_float in (False, True):
            source = load_source("lite_medsam", tmp_path / "int8.pt", in_float=in_float)
            assert source.network.rates == rates


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


ORIGIN = {"data": "ab12", "number of processes": "2"}
UNDER_WAY = Recipe(
    name="mine", frozen=("image_encoder.0",), quant=QuantConfig(weight_bits=5), seed=3
)


def under_way(tmp_path, **changes) -> dict:
    """Return what comes back of a stage that was under way."""
    kept = dict.fromkeys(state.RESUME_KEYS, 0)
    kept |= {"recipe": UNDER_WAY.model_dump(), "origin": ORIGIN, **changes}
    save_document({"format": state.FORMAT, **kept}, tmp_path / "last.pt")
    return read_document(tmp_path / "last.pt")


def test_a_stage_goes_on_with_its_recipe_and_what_it_began_with(tmp_path):
    check_resumable(under_way(tmp_path), tmp_path / "last.pt", UNDER_WAY, ORIGIN)


@pytest.mark.parametrize(
    ("recipe", "origin", "message"),
    [
        (
            UNDER_WAY.model_copy(update={"seed": 4}),
            ORIGIN,
            "another recipe: it has seed 3 and not 4",
        ),
        (UNDER_WAY, {**ORIGIN, "number of processes": "1"}, "another number of processes;"),
        (UNDER_WAY, {**ORIGIN, "data": "x", "number of processes": "1"}, "another data, another"),
    ],
)
def test_another_stage_does_not_go_on(tmp_path, recipe, origin, message):
    with pytest.raises(CheckpointError, match=f"last.pt .*{message}"):
        check_resumable(under_way(tmp_path), tmp_path / "last.pt", recipe, origin)


def test_a_stage_of_another_version_does_not_go_on(tmp_path):
    document = under_way(tmp_path)
    del document["ema"]
    with pytest.raises(CheckpointError, match="of another version: it lacks ema"):
        check_resumable(document, tmp_path / "last.pt", UNDER_WAY, ORIGIN)
    document = under_way(tmp_path, recipe={"name": "mine", "speed": 3})
    with pytest.raises(CheckpointError, match="of another version: Unknown key speed"):
        check_resumable(document, tmp_path / "last.pt", UNDER_WAY, ORIGIN)


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
        "folder": "must be a checkpoint, but is a folder",
        "missing": "must be a checkpoint, but is missing",
    }


def test_a_broken_or_missing_file_is_named(tmp_path):
    for name, expected in damaged_files(tmp_path).items():
        with pytest.raises(CheckpointError) as raised:
            load_trained(tmp_path / name)
        assert str(raised.value).startswith(f"{tmp_path / name} {expected}"), name


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
