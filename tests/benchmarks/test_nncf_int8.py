"""The peer: NNCF on the float model."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.harness.peers import has_onnx
from benchmarks.nncf_int8 import calibration_samples, quantize_model
from qmedsam import Segmenter
from qmedsam.model.manifest import read_manifest
from tests.conftest import EXAMPLES, ROOT
from training.graphs.inference_graphs import plain_graphs
from training.graphs.model_folder import export_network
from training.loop.state import load_source
from training.published import DEFAULT_PATH


@pytest.fixture
def root(tmp_path):
    for path in EXAMPLES.iterdir():
        folder = tmp_path / "data" / path.name.split("_")[1]
        folder.mkdir(parents=True)
        (folder / path.name).write_bytes(path.read_bytes())
    return tmp_path / "data"


def test_modalities_give_samples_in_turn(root):
    extra = root / "Fundus" / "a.npz"
    extra.write_bytes((root / "Fundus" / "2DBox_Fundus_retina.npz").read_bytes())
    samples = calibration_samples(root, 256, 3)
    assert [image.shape for image, _ in samples] == [(1, 3, 256, 256)] * 3
    # Fundus, the middle slice of MR with two of its objects, Microscopy.
    assert [len(boxes) for _, boxes in samples] == [2, 2, 5]
    assert len(calibration_samples(root, 256, 100)) == 4


def test_a_folder_without_cases_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="must hold <Modality>/"):
        calibration_samples(tmp_path, 256, 1)


@pytest.mark.slow
@pytest.mark.model
def test_the_quantized_model_runs_like_any_other(root, tmp_path):
    if not (ROOT / DEFAULT_PATH).is_file():
        pytest.skip("run `python -m training.checkpoint fetch` first")
    source = load_source("lite_medsam", ROOT / DEFAULT_PATH)
    export_network(source, tmp_path / "plain", plain_graphs)
    samples = calibration_samples(root, 256, 3)
    quantize_model(tmp_path / "plain", samples, tmp_path / "int8")
    assert has_onnx(tmp_path / "int8")
    assert read_manifest(tmp_path / "int8").precision == "int8"
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    label_map = Segmenter(tmp_path / "int8").segment(image, [[8, 8, 50, 50]])
    assert label_map.shape == (64, 64)
