"""Which methods the table of accuracy compares."""

from __future__ import annotations

from benchmarks import accuracy


def test_a_quantized_model_is_compared_only_where_it_exists(monkeypatch, tmp_path, caplog):
    quantized = {"nncf": (tmp_path, "NNCF int8"), "qat": (tmp_path / "none", "QAT int8")}
    monkeypatch.setattr(accuracy, "QUANTIZED", quantized)
    titles = [method.title for method in accuracy.compared_methods(tmp_path, ["f32", "bf16"])]
    assert titles == [
        "PyTorch baseline f32",
        *("service f32", "NNCF int8, other layers in f32"),
        *("service bf16", "NNCF int8, other layers in bf16"),
    ]
    assert "QAT int8 is left out" in caplog.text


def test_an_int8_of_another_float_model_is_left_out(monkeypatch, tmp_path, caplog):
    monkeypatch.setattr(accuracy, "NNCF_DIR", tmp_path)
    monkeypatch.setattr(accuracy, "QUANTIZED", {"nncf": (tmp_path, "NNCF int8")})
    assert accuracy.quantized_methods("f32") == []
    assert "is of another float model" in caplog.text
