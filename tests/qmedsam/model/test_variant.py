"""Which of the models that ship is run."""

from __future__ import annotations

import json

import numpy as np
import pytest

from qmedsam import ModelError, Segmenter, Settings
from qmedsam.cli import main
from qmedsam.model import variant as variant_module
from qmedsam.model.variant import choose_variant, default_model_dir, find_model, has_vnni
from tests.conftest import ROOT

PLACE = "inference/qmedsam/model/variant.py"  # in a checkout


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("fpu sse4_2 avx2 avx512f avx512_vnni", True),
        ("fpu avx2 avx_vnni", True),
        ("fpu avx2 avx512f avx512vbmi", False),
        ("fpu avx512_vnni_of_the_future", False),
        ("", False),
    ],
)
def test_vnni_is_one_of_the_flags_of_the_processor(monkeypatch, flags, expected):
    monkeypatch.setattr(variant_module, "processor_flags", lambda: frozenset(flags.split()))
    assert has_vnni() is expected


@pytest.mark.parametrize(("vnni", "expected"), [(True, "int8"), (False, "float")])
def test_the_processor_chooses_where_nobody_does(monkeypatch, vnni, expected):
    monkeypatch.setattr(variant_module, "has_vnni", lambda: vnni)
    assert choose_variant("auto") == expected
    assert choose_variant("int8") == "int8"
    assert choose_variant("float") == "float"
    assert default_model_dir().name == expected


def test_an_installation_without_models_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(variant_module, "__file__", str(tmp_path / PLACE))
    with pytest.raises(ModelError, match="No float model ships"):
        default_model_dir("float")


@pytest.mark.model
@pytest.mark.parametrize(("variant", "weights"), [("int8", "int8"), ("float", "f32")])
def test_the_settings_choose_the_model(variant, weights):
    segmenter = Segmenter(settings=Settings(variant=variant))
    assert segmenter.model_dir.name == variant
    assert segmenter.network.manifest.precision == weights


def test_a_slimmed_installation_runs_what_it_has(monkeypatch, tmp_path):
    monkeypatch.setattr(variant_module, "__file__", str(tmp_path / PLACE))
    monkeypatch.setattr(variant_module, "has_vnni", lambda: True)
    (tmp_path / "models" / "float").mkdir(parents=True)
    assert default_model_dir() == tmp_path / "models" / "float"
    with pytest.raises(ModelError, match="No int8 model ships"):
        default_model_dir("int8")


@pytest.mark.model
@pytest.mark.parametrize(
    ("vnni", "options", "expected"),
    [
        (True, [], ("int8", "int8")),
        (False, [], ("float", "f32")),
        (False, ["--variant", "int8"], ("int8", "int8")),
        (True, ["--model-dir", "models/float"], (None, "f32")),
    ],
)
def test_the_report_says_which_model_ran(monkeypatch, tmp_path, vnni, options, expected):
    monkeypatch.setattr(variant_module, "has_vnni", lambda: vnni)
    monkeypatch.chdir(ROOT)
    case = tmp_path / "in" / "a.npz"
    case.parent.mkdir()
    boxes = np.array([[2, 2, 8, 8]])
    np.savez(case, imgs=np.zeros((16, 16), dtype=np.uint8), boxes=boxes)
    report = tmp_path / "run.json"
    command = ["-i", str(case.parent), "-o", str(tmp_path / "out"), "--cache-dir", str(tmp_path)]
    assert main([*command, *options, "--report", str(report), "--quiet"]) == 0
    model = json.loads(report.read_text())["model"]
    assert (model["variant"], model["weights"]) == expected


@pytest.fixture
def both(tmp_path):
    """A folder of two models."""
    for name in ("int8", "float"):
        (tmp_path / "both" / name).mkdir(parents=True)
    return tmp_path / "both"


@pytest.mark.parametrize(
    ("vnni", "variant", "expected"),
    [(True, "auto", "int8"), (False, "auto", "float"), (False, "int8", "int8")],
)
def test_of_a_folder_with_both_models_one_is_chosen(both, monkeypatch, vnni, variant, expected):
    monkeypatch.setattr(variant_module, "has_vnni", lambda: vnni)
    assert find_model(both, variant) == both / expected


def test_where_one_of_both_is_missing_auto_takes_float(both, monkeypatch):
    monkeypatch.setattr(variant_module, "has_vnni", lambda: True)
    (both / "int8").rmdir()
    assert find_model(both) == both / "float"
    with pytest.raises(ModelError, match="both must have a folder int8"):
        find_model(both, "int8")


def test_of_one_model_no_variant_can_be_chosen(tmp_path):
    assert find_model(tmp_path) == tmp_path
    with pytest.raises(ModelError, match="is of one model, and must have folders int8 and float"):
        find_model(tmp_path, "int8")


@pytest.mark.parametrize("variant", ["auto", "int8"])
def test_a_folder_that_cannot_be_looked_at_is_a_model_error(variant):
    """As one below a folder that may not be entered; its name is longer than any can be."""
    with pytest.raises(ModelError, match=r"Model folder x+ cannot be read: .*too long"):
        Segmenter("x" * 300, Settings(variant=variant))


def test_a_variant_of_one_model_is_refused_by_the_command(tmp_path, caplog):
    for name in ("in", "mine"):
        (tmp_path / name).mkdir()
    (tmp_path / "in" / "a.npz").write_bytes(b"")
    command = ["-i", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--variant", "int8"]
    assert main([*command, "--model-dir", str(tmp_path / "mine")]) == 2
    assert "is of one model" in caplog.text
