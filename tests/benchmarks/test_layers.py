"""A profile by kind of layer."""

from __future__ import annotations

import pytest

from benchmarks import layers
from benchmarks.layers import model_milliseconds
from inference.variant import default_model_dir


@pytest.mark.model
def test_all_kinds_of_layers_of_a_model_are_counted():
    parts = model_milliseconds(default_model_dir("int8"), "f32", 1)
    products = {"convolutions, int8", "depth-wise convolutions, int8", "linear layers, int8"}
    rest = {"element by element", "moving values", "normalization"}
    assert parts["encoder"].keys() >= products | rest | {"fused attention, int8"}
    assert parts["decoder"].keys() >= {"linear layers", "products of two activations"} | rest
    for taken in parts.values():
        assert all(value > 0 for value in taken.values())


@pytest.mark.parametrize("options", [[], ["--before", "old", "--precision", "f32"]])
def test_a_part_of_a_profile_does_not_overwrite_the_record_of_the_whole(options, capsys):
    with pytest.raises(SystemExit):
        layers.main(options)
    assert "--json of its own" in capsys.readouterr().err
