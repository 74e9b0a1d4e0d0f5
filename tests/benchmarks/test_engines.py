"""Engines compute the same, and rows are those of models that exist."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.engines import Row, network_rows, time_rows
from benchmarks.harness import timed_engine
from benchmarks.harness.timed_engine import PRECISIONS, Task, load_engine, time_engine
from qmedsam import ModelError
from qmedsam.model.compiling import runnable_precisions
from qmedsam.model.variant import default_model_dir
from tests.conftest import ROOT
from training.checkpoint import load_lite_medsam
from training.published import DEFAULT_PATH

# Of the largest logit: rounding in another order, 8 bits of mantissa, 8 bits of linear layers.
TOLERANCES = {"f32": 1e-4, "bf16": 0.05, "int8": 0.2}


class CountingEngine:
    def __init__(self):
        self.calls = []

    def encode(self, image):
        self.calls.append("encode")
        return image

    def decode(self, image_embedding, boxes):
        self.calls.append("decode")
        return boxes


def test_warm_ups_do_not_count():
    engine = CountingEngine()
    seconds = time_engine(engine, Task("pytorch", warmups=2, runs=5, budget_s=60))
    assert {part: len(values) for part, values in seconds.items()} == {
        "encoder": 5,
        "decoder": 5,
        "whole": 5,
    }
    assert engine.calls == ["encode", "decode"] * 7


def test_a_precision_that_an_engine_does_not_have_is_refused():
    with pytest.raises(ValueError, match=r"openvino has .* only, got int8"):
        Task("openvino", "int8")


def test_three_runs_are_made_whatever_the_budget():
    assert (
        len(time_engine(CountingEngine(), Task("pytorch", warmups=0, runs=9, budget_s=0))["whole"])
        == 3
    )


@pytest.fixture(scope="module")
def network():
    return load_lite_medsam(ROOT / DEFAULT_PATH)


@pytest.fixture(scope="module")
def inputs():
    image = np.random.default_rng(0).random((1, 3, 256, 256), dtype=np.float32)
    return image, np.array([[40, 50, 200, 210]], dtype=np.float32)


@pytest.fixture(scope="module")
def expected(network, inputs):
    """The logits of the network as it is written."""
    image, boxes = map(torch.from_numpy, inputs)
    with torch.inference_mode():
        return network.decode(network.encode(image), boxes).numpy()


@pytest.mark.model
@pytest.mark.parametrize(
    ("engine", "precision"),
    [(engine, precision) for engine, offered in PRECISIONS.items() for precision in offered],
)
def test_every_engine_computes_the_network(
    engine, precision, network, inputs, expected, monkeypatch
):
    if engine == "onnxruntime" and not any(default_model_dir("float").glob("*.onnx")):
        pytest.skip("`make model` has not written the ONNX files")
    monkeypatch.setattr(timed_engine, "torch_network", lambda name, checkpoint: network)
    task = Task(engine, precision)
    if engine == "openvino" and precision not in runnable_precisions():
        with pytest.raises(ModelError, match="needs a processor that has it"):
            load_engine(task)
        return
    image, boxes = inputs
    made = load_engine(task)
    found = made.decode(made.encode(image), boxes)
    assert np.abs(found - expected).max() < TOLERANCES[precision] * np.abs(expected).max()


@pytest.mark.model
def test_a_row_runs_in_a_process_of_its_own():
    task = Task("openvino", model_dir=str(default_model_dir("float")), runs=1, warmups=0)
    row = Row("LiteMedSAM", "OpenVINO", "f32", task)
    (timed,) = time_rows([row], rounds=1, threads=1, runs=1)
    assert (timed["engine"], timed["precision"], timed["runs"]) == ("OpenVINO", "f32", 1)
    for part in ("encoder", "decoder", "whole"):
        assert 0 < timed[part]["min_s"] <= timed[part]["median_s"] <= timed[part]["max_s"]


def test_rows_of_onnx_runtime_need_the_files(tmp_path):
    (tmp_path / "with").mkdir()
    (tmp_path / "with" / "encoder.onnx").touch()
    without, with_files = tmp_path / "without", tmp_path / "with"
    folders = {"as exported": without, "NNCF int8": with_files, "as served": with_files}
    rows = network_rows("medsam", folders, Path("weights.pth"))
    assert [(row.engine, row.precision) for row in rows] == [
        ("PyTorch", "f32"),
        ("PyTorch", "bf16 (autocast)"),
        ("PyTorch", "int8 (dynamic, linear layers)"),
        ("ONNX Runtime", "NNCF int8"),
        ("OpenVINO", "f32, as exported"),
        ("OpenVINO", "bf16, as exported"),
        ("OpenVINO", "NNCF int8, other layers in f32"),
        ("OpenVINO", "NNCF int8, other layers in bf16"),
        ("OpenVINO", "f32, as served"),
        ("OpenVINO", "bf16, as served"),
    ]
    assert rows[0].task.checkpoint == "weights.pth"


def test_nncf_cannot_report_usage():
    code = "import benchmarks.nncf_int8, sys; print(sys.modules['openvino_telemetry'])"
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "None"
