"""What is asked of the compiler on processors that offer this and that."""

from __future__ import annotations

import pytest

from qmedsam import ModelError, Settings
from qmedsam.model import compiling

pytestmark = pytest.mark.model


class FakeCore:
    """A processor that offers what it is told."""

    def __init__(self, *offered):
        self.offered = list(offered)

    def get_property(self, device, name):
        assert (device, name) == ("CPU", "OPTIMIZATION_CAPABILITIES")
        return self.offered


@pytest.mark.parametrize(
    ("offered", "asked", "runs"),
    [
        (("FP32", "INT8", "BF16"), "auto", "bf16"),
        (("FP32", "INT8", "BF16"), "bf16", "bf16"),
        (("FP32", "INT8", "BF16"), "f32", "f32"),
        (("FP32", "INT8"), "auto", "f32"),
        (("FP32", "INT8"), "f32", "f32"),
    ],
)
def test_a_precision_is_one_that_the_processor_offers(offered, asked, runs):
    config = compiling._compile_config(FakeCore(*offered), Settings(precision=asked))
    assert config["INFERENCE_PRECISION_HINT"] == runs


def test_bf16_is_refused_where_the_processor_lacks_it():
    with pytest.raises(ModelError, match="Precision bf16 needs a processor that has it"):
        compiling._compile_config(FakeCore("FP32", "INT8"), Settings(precision="bf16"))
