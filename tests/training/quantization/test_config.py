"""Settings of a quantized network are checked when they are made."""

from __future__ import annotations

import dataclasses

import pytest

pytest.importorskip("torch", reason="training/requirements.txt is not installed")

from training.quantization.config import QuantConfig

pytestmark = pytest.mark.training


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scheme": "papers"}, r"Scheme must be one of \('paper', 'deploy'\), got 'papers'"),
        ({"weight_bits": 1}, "Bits must be 2 to 8, got 1"),
        ({"weight_bits": 9}, "Bits must be 2 to 8, got 9"),
        ({"activation_bits": 1}, "Bits must be 2 to 8, got 1"),
        ({"activation_bits": 16}, "Bits must be 2 to 8, got 16"),
        (
            {"activation": "relu"},
            r"Activation must be one of \('gelu', 'hard_swish'\), got 'relu'",
        ),
        ({"scheme": "paper", "activation": "hard_swish"}, "paper's scheme keeps .* gelu"),
        ({"ranges": "max"}, r"Ranges must be one of \('mse', 'percentile'\), got 'max'"),
        ({"percentile": 50}, "Percentile must be above 50, at most 100, got 50"),
        ({"percentile": 100.1}, "Percentile must be above 50, at most 100, got 100.1"),
        ({"smoothing": -0.1}, "Smoothing must be 0 to 1, got -0.1"),
        ({"smoothing": 1.1}, "Smoothing must be 0 to 1, got 1.1"),
    ],
    ids=lambda value: " ".join(map(str, value.values())) if isinstance(value, dict) else "",
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        QuantConfig(**settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"scheme": "paper"},
        {"scheme": "deploy", "activation": "hard_swish"},
        {"weight_bits": 2, "activation_bits": 8},
        {"weight_bits": 8, "activation_bits": 2},
        {"ranges": "percentile", "percentile": 100},
        {"ranges": "percentile", "percentile": 50.1},
        {"smoothing": 0, "correct_biases": False},
        {"smoothing": 1},
    ],
    ids=str,
)
def test_settings_up_to_their_limits_are_kept(settings):
    config = QuantConfig(**settings)
    assert {name: getattr(config, name) for name in settings} == settings


def test_settings_cannot_be_changed_nor_misspelled():
    config = QuantConfig()
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.weight_bits = 4
    assert config == QuantConfig()
    assert hash(config) == hash(QuantConfig())
    with pytest.raises(TypeError, match="weight_bit"):
        QuantConfig(weight_bit=4)


def test_a_changed_copy_is_checked_too():
    config = dataclasses.replace(QuantConfig(), weight_bits=7)
    assert (config.weight_bits, config.activation_bits) == (7, 8)
    with pytest.raises(ValueError, match="got 0"):
        dataclasses.replace(config, activation_bits=0)
