"""The exported model is held to the PyTorch network on real images."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

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
from tests.conftest import EXAMPLES, HANGS_AFTER_S, ROOT  # noqa: E402
from tests.training.small_networks import narrow_medsam  # noqa: E402
from training import export  # noqa: E402
from training.checkpoint import load_lite_medsam  # noqa: E402
from training.graphs import onnx_files  # noqa: E402
from training.graphs.model_folder import Source, export_network  # noqa: E402
from training.published import DEFAULT_PATH  # noqa: E402

pytestmark = [pytest.mark.training, pytest.mark.model]

# Float rounding in another order of operations; logits span about -45 to 45.
LOGIT_TOLERANCE = 1e-3
PIXELS_THAT_MAY_DIFFER = 1e-4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--checkpoint", "a-folder"], "a-folder must be a checkpoint, but is a folder"),
        (["--checkpoint", "none.pt"], "none.pt must be a checkpoint, but is missing"),
        (["--network", "medsam"], "--network medsam needs --checkpoint"),
        (["--checkpoint", "text.pt", "--output-dir", "text.pt"], "text.pt is a file"),
        (["--checkpoint", "text.pt"], "text.pt is no checkpoint, or cut short"),
    ],
    ids=["folder", "missing", "medsam", "output", "text"],
)
def test_what_cannot_be_exported_is_a_sentence(tmp_path, monkeypatch, caplog, options, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a-folder").mkdir()
    (tmp_path / "text.pt").write_text("text")
    monkeypatch.setattr(onnx_files, "silence_exporters", lambda: None)  # for the other tests
    assert export.main(["--output-dir", "out", *options]) == 2
    assert message in caplog.text


@pytest.fixture(scope="module")
def network():
    if not (ROOT / DEFAULT_PATH).is_file():
        pytest.skip("run `python -m training.checkpoint fetch` first")
    return load_lite_medsam(ROOT / DEFAULT_PATH)


@pytest.fixture(scope="module")
def command(network, tmp_path_factory):
    """Start the command, which runs on one core while another test exports on the other."""
    output_dir = tmp_path_factory.mktemp("export") / "model"
    process = subprocess.Popen(
        [sys.executable, "-m", "training.export", "--output-dir", str(output_dir)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with process:
        yield SimpleNamespace(process=process, output_dir=output_dir)
        process.kill()  # where a test has failed before its end


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
    frame = ModelFrame.square(image.shape[:2], 256)
    tensor = preprocess_image(image, 256)
    prompts = frame.boxes_to_model(boxes.astype(np.float32))
    logits = compiled.decode(compiled.encode(tensor), prompts).low_res_logits
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
    frame = ModelFrame.square(image.shape[:2], 256)
    prompts = frame.boxes_to_model(boxes.astype(np.float32))
    encoded = compiled.encode(preprocess_image(image, 256))
    logits = compiled.decode(encoded, prompts).low_res_logits
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


@pytest.mark.slow
@pytest.mark.usefixtures("command")
def test_medsam_goes_through_the_same_export(tmp_path, monkeypatch):
    medsam = narrow_medsam(monkeypatch)
    checkpoint = tmp_path / "medsam_vit_b.pth"
    checkpoint.write_bytes(b"random weights")
    # Which holds the model to the network before it is put in place.
    export_network(Source("medsam", medsam, checkpoint), tmp_path / "model")
    assert read_manifest(tmp_path / "model").image_size == 1024


def test_the_command_makes_the_shipped_model_again(command, compiled):
    said, _ = command.process.communicate(timeout=HANGS_AFTER_S)
    assert command.process.returncode == 0, said
    made = CompiledNetwork(command.output_dir, Settings(precision="f32"))
    # Constants are folded by the exporting machine's mathematics, so digests may differ.
    assert set(made.manifest.sha256) == set(compiled.manifest.sha256)
    image, boxes = slices_and_boxes(EXAMPLES / "2DBox_Fundus_retina.npz")
    tensor = preprocess_image(image, 256)
    prompts = ModelFrame.square(image.shape[:2], 256).boxes_to_model(boxes.astype(np.float32))
    logits = [
        model.decode(model.encode(tensor), prompts).low_res_logits for model in (made, compiled)
    ]
    assert np.abs(logits[0] - logits[1]).max() < LOGIT_TOLERANCE
    assert {path.name for path in command.output_dir.glob("*.onnx")} == {
        "encoder.onnx",
        "decoder.onnx",
    }
