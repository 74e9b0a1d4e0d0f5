"""The rules by which volumes are prompted."""

from __future__ import annotations

from benchmarks.harness.methods import service_method
from benchmarks.volume_prompt import compared_methods
from qmedsam import Settings


def test_all_rules_are_compared_and_kept_apart():
    methods = compared_methods("f32")
    assert [method.title for method in methods] == ["fixed", "propagate", "hybrid"]
    assert len({method.key for method in methods}) == 3


def test_what_is_served_is_predicted_once_for_all_measurements():
    served = service_method(Settings(variant="float", precision="f32"), title="any")
    assert compared_methods("f32")[0].key == served.key
    assert served.key.startswith("service-float-f32-fixed-auto-")
