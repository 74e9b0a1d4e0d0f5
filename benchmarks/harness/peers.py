"""Models that the service is compared with: where they lie, and what they are made from."""

from __future__ import annotations

import json
from pathlib import Path

from qmedsam.core.contract import MANIFEST_FILE
from qmedsam.errors import ModelError
from qmedsam.model.manifest import file_sha256, read_manifest

# The float model as a user would export it: the graphs of the ONNX files.
PLAIN_DIR, PLAIN_TITLE = Path("runs/plain"), "as exported"
NNCF_DIR, NNCF_TITLE = Path("runs/nncf_int8"), "NNCF int8"
OWN_INT8_DIR, OWN_INT8_TITLE = Path("models/int8"), "QAT int8"
SOURCE_KEY = "source_manifest_sha256"


def is_made_from(quantized: Path, model_dir: Path) -> bool:
    """Say whether a folder holds what `nncf-int8` made of a model as it is now."""
    manifest = quantized / MANIFEST_FILE
    if not (manifest.is_file() and (model_dir / MANIFEST_FILE).is_file()):
        return False
    source = json.loads(manifest.read_text()).get(SOURCE_KEY)
    return bool(source == file_sha256(model_dir / MANIFEST_FILE))


def is_exported(model_dir: Path) -> bool:
    """Say whether a folder holds a model that this version of inference can run."""
    try:
        read_manifest(model_dir)
    except ModelError:
        return False
    return True


def has_onnx(model_dir: Path) -> bool:
    """Say whether a model's ONNX files, which are not shipped, lie beside it."""
    return any(model_dir.glob("*.onnx"))
