"""What is asked of the compiler on processors that offer this and that."""

from __future__ import annotations

import pytest

from qmedsam import ModelError, Settings
from qmedsam.model import compiling
from qmedsam.model.compiling import Compiler, precision_of, runnable_precisions
from qmedsam.model.manifest import Manifest
from qmedsam.model.runtime import said_by

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


@pytest.mark.parametrize("precision", ["auto", "f32"])
def test_the_precision_is_told_before_anything_is_compiled(precision):
    compiler = Compiler(Manifest("fake", "f32", 256, {}), Settings(precision=precision))
    assert precision_of(Settings(precision=precision)) == compiler.precision


def test_bf16_is_refused_where_the_processor_lacks_it():
    with pytest.raises(ModelError, match="Precision bf16 needs a processor that has it"):
        compiling._compile_config(FakeCore("FP32", "INT8"), Settings(precision="bf16"))


NO_PLUGIN = """Exception from src/inference/src/cpp/core.cpp:268:
Exception from src/inference/src/dev/core_impl.cpp:847:
Failed to create plugin "libopenvino_intel_cpu_plugin.so" for device CPU
Please, check your environment
Exception from src/plugins/intel_cpu/src/plugin.cpp:921:
{}



"""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (NO_PLUGIN.format("Resource temporarily unavailable"), "the limit on processes is reached"),
        (
            NO_PLUGIN.format("Out of luck"),
            "for device CPU; Please, check your environment; Out of luck",
        ),
        (
            "Exception from a.cpp:1:\nCheck 'is_so' failed at b.cpp:2:\nIt is not so\n\n",
            "It is not so",
        ),
        ("Exception from a.cpp:1:\nCheck 'is_so' failed at b.cpp:2:\n", "Check 'is_so' failed"),
        ("", ""),
    ],
    ids=["threads", "plugin", "check", "places", "nothing"],
)
def test_what_the_runtime_says_is_one_line_without_its_places(text, said):
    found = said_by(RuntimeError(text))
    assert said in found
    assert "\n" not in found
    assert "Exception from src" not in found


def test_a_runtime_that_does_not_start_is_a_model_error(monkeypatch):
    class BrokenCore:
        def get_property(self, device, name):
            raise RuntimeError(NO_PLUGIN.format("Resource temporarily unavailable"))

    monkeypatch.setattr(compiling.openvino, "Core", BrokenCore)
    for ask in (
        lambda: Compiler(Manifest("fake", "f32", 256, {}), Settings()),
        lambda: precision_of(Settings()),
        runnable_precisions,
    ):
        with pytest.raises(ModelError, match=r"^OpenVINO cannot be started: no thread can be"):
            ask()
