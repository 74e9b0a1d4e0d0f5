"""The exported model is held to the PyTorch network on real images."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training/requirements.txt is not installed")

from qmedsam import Settings  # noqa: E402
from qmedsam.batch.cases import list_cases, read_case  # noqa: E402
from qmedsam.core.geometry import ModelFrame  # noqa: E402
from qmedsam.core.postprocess import logits_to_patch  # noqa: E402
from qmedsam.core.preprocess import preprocess_image  # noqa: E402
from qmedsam.model.manifest import read_manifest  # noqa: E402
from qmedsam.model.network import CompiledNetwork  # noqa: E402
from qmedsam.model.variant import default_model_dir  # noqa: E402
from tests.conftest import EXAMPLES, ROOT  # noqa: E402
from training.checkpoint import DEFAULT_PATH, load_lite_medsam  # noqa: E402
from training.export import Source, export_network  # noqa: E402
from training.graphs.check import check_export  # noqa: E402
from training.networks.network import build_medsam  # noqa: E402

pytestmark = [pytest.mark.training, pytest.mark.model]

# Float rounding in another order of operations; logits span about -45 to 45.
LOGIT_TOLERANCE = 1e-3
PIXELS_THAT_MAY_DIFFER = 1e-4


@pytest.fixture(scope="module")
def network():
    if not (ROOT / DEFAULT_PATH).is_file():
        pytest.skip("run `python -m training.checkpoint fetch` first")
    return load_lite_medsam(ROOT / DEFAULT_PATH)


@pytest.fixture(scope="module")
def compiled() -> CompiledNetwork:
    return CompiledNetwork(default_model_dir("float"), Settings(precision="f32"))


def slices_and_boxes(path):
    case = read_case(path)
    if case.boxes.shape[1] == 4:
        return case.pixels, case.boxes
    z = int(case.boxes[:, 5].min())
    return case.pixels[z], case.boxes[:, [0, 1, 3, 4]]


@pytest.mark.parametrize("path", list_cases(EXAMPLES), ids=lambda path: path.stem)
def test_the_shipped_model_equals_the_network_on_real_images(network, compiled, path):
    image, boxes = slices_and_boxes(path)
    frame = ModelFrame(image.shape[:2], 256)
    tensor = preprocess_image(image, 256)
    prompts = frame.boxes_to_model(boxes.astype(np.float32))
    logits = compiled.decode(compiled.encode(tensor), prompts)
    with torch.inference_mode():
        expected = network(torch.from_numpy(tensor), torch.from_numpy(prompts)).numpy()
    assert np.abs(logits - expected).max() < LOGIT_TOLERANCE
    for ours, theirs in zip(logits, expected, strict=True):
        assert differing_pixels(ours, theirs, frame) <= PIXELS_THAT_MAY_DIFFER


def differing_pixels(ours, theirs, frame) -> float:
    masks = [logits_to_patch(logits, frame).whole(frame.original_hw) for logits in (ours, theirs)]
    assert masks[1].any()
    return float(np.mean(masks[0] != masks[1]))


def test_windowed_masks_equal_torch_interpolation(network, compiled):
    """The service's masks against the baseline's way to upsample: crop, bilinear, threshold."""
    image, boxes = slices_and_boxes(EXAMPLES / "2DBox_Fundus_retina.npz")
    frame = ModelFrame(image.shape[:2], 256)
    prompts = frame.boxes_to_model(boxes.astype(np.float32))
    logits = compiled.decode(compiled.encode(preprocess_image(image, 256)), prompts)
    height, width = frame.resized_hw
    upsampled = torch.nn.functional.interpolate(
        torch.from_numpy(logits)[:, None, :height, :width],
        frame.original_hw,
        mode="bilinear",
        align_corners=False,
    )
    for one, full in zip(logits, upsampled[:, 0].numpy(), strict=True):
        drawn = logits_to_patch(one, frame).whole(frame.original_hw)
        assert np.mean(drawn != (full > 0)) <= PIXELS_THAT_MAY_DIFFER


def test_the_manifest_names_the_published_checkpoint():
    folder = default_model_dir("float")
    manifest = read_manifest(folder)
    assert (manifest.name, manifest.precision, manifest.image_size) == ("lite_medsam", "f32", 256)
    parts = ("decoder", "encoder", "encoder_rest")
    assert set(manifest.sha256) == {f"{part}.{kind}" for part in parts for kind in ("bin", "xml")}
    for part in parts:
        assert "conversion_parameters" not in (folder / f"{part}.xml").read_text(encoding="utf-8")


def test_the_command_makes_the_shipped_model_again(network, tmp_path):
    command = [sys.executable, "-m", "training.export", "--output-dir", str(tmp_path / "model")]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    made, shipped = (
        CompiledNetwork(folder, Settings(precision="f32"))
        for folder in (tmp_path / "model", default_model_dir("float"))
    )
    # Constants are folded by the exporting machine's mathematics, so digests may differ.
    assert set(made.manifest.sha256) == set(shipped.manifest.sha256)
    image, boxes = slices_and_boxes(EXAMPLES / "2DBox_Fundus_retina.npz")
    tensor = preprocess_image(image, 256)
    prompts = ModelFrame(image.shape[:2], 256).boxes_to_model(boxes.astype(np.float32))
    logits = [model.decode(model.encode(tensor), prompts) for model in (made, shipped)]
    assert np.abs(logits[0] - logits[1]).max() < LOGIT_TOLERANCE
    assert {path.name for path in (tmp_path / "model").glob("*.onnx")} == {
        "encoder.onnx",
        "decoder.onnx",
    }


def test_medsam_goes_through_the_same_export(tmp_path):
    medsam = build_medsam(depth=1).eval()
    checkpoint = tmp_path / "medsam_vit_b.pth"
    checkpoint.write_bytes(b"random weights")
    export_network(Source("medsam", medsam, checkpoint), tmp_path / "model")
    assert read_manifest(tmp_path / "model").image_size == 1024
    check_export(medsam, tmp_path / "model", is_quantized=False)
