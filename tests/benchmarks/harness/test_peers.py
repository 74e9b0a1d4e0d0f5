"""What quantized models are of."""

from __future__ import annotations

import hashlib
import json

from benchmarks.harness.peers import has_onnx, is_made_from


def test_a_quantized_model_is_made_again_when_its_source_changes(tmp_path):
    source, quantized = tmp_path / "float", tmp_path / "int8"
    for folder in (source, quantized):
        folder.mkdir()
    (source / "manifest.json").write_text("one")
    assert not is_made_from(quantized, source)
    digest = hashlib.sha256(b"one").hexdigest()
    (quantized / "manifest.json").write_text(json.dumps({"source_manifest_sha256": digest}))
    assert is_made_from(quantized, source)
    (source / "manifest.json").write_text("another")
    assert not is_made_from(quantized, source)


def test_onnx_files_lie_beside_a_model(tmp_path):
    assert not has_onnx(tmp_path)
    (tmp_path / "encoder.onnx").touch()
    assert has_onnx(tmp_path)
