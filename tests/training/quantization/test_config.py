"""Settings of a quantized network are checked when they are made."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="training/requirements.txt is not installed")

from pydantic import ValidationError

from training.quantization.config import QuantConfig
from training.settings import explain

pytestmark = pytest.mark.training


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scheme": "papers"}, "must be 'paper' or 'deploy', got 'papers'"),
        ({"weight_bits": 1}, "must be greater than or equal to 2, got 1"),
        ({"weight_bits": 9}, "must be less than or equal to 8, got 9"),
        ({"weight_bits": 7.5}, "must be a valid integer, got 7.5"),
        ({"activation_bits": 1}, "must be greater than or equal to 2, got 1"),
        ({"activation_bits": 16}, "must be less than or equal to 8, got 16"),
        ({"activation": "relu"}, "must be 'gelu' or 'hard_swish', got 'relu'"),
        (
            {"activation": "hard_swish", "scheme": "paper"},
            "must be 'gelu', the network's own, in the paper's scheme, got 'hard_swish'",
        ),
        ({"ranges": "max"}, "must be 'mse' or 'percentile', got 'max'"),
        ({"percentile": 50}, "must be greater than 50, got 50"),
        ({"percentile": 100.1}, "must be less than or equal to 100, got 100.1"),
        ({"smoothing": -0.1}, "must be greater than or equal to 0, got -0.1"),
        ({"smoothing": 1.1}, "must be less than or equal to 1, got 1.1"),
    ],
    ids=lambda value: " ".join(map(str, value.values())) if isinstance(value, dict) else "",
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(ValidationError) as raised:
        QuantConfig(**settings)
    assert explain(raised.value, QuantConfig) == f"{next(iter(settings))} {message}"


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
    with pytest.raises(ValidationError, match="frozen"):
        config.weight_bits = 4
    assert config == QuantConfig()
    assert hash(config) == hash(QuantConfig())
    with pytest.raises(ValidationError) as raised:
        QuantConfig(weight_bit=4)
    told = explain(raised.value, QuantConfig)
    assert told.startswith("Unknown key weight_bit; there are scheme,")
