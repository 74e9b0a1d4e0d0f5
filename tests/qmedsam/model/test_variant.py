"""Which of the models that ship is run."""

from __future__ import annotations

import json

import numpy as np
import pytest

from qmedsam import ModelError, Segmenter, Settings
from qmedsam.cli import main
from qmedsam.model import variant as variant_module
from qmedsam.model.variant import choose_variant, default_model_dir, has_vnni
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


def test_a_variant_of_a_model_of_ones_own_is_refused(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["-i", "in", "-o", "out", "--variant", "int8", "--model-dir", "mine"])
    assert "not allowed with argument" in capsys.readouterr().err
