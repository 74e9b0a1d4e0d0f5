"""Checkpoints as networks: the published LiteMedSAM, MedSAM, and any file of `torch.save`.

MedSAM's weights are in no registry: a user who has `medsam_vit_b.pth` names it.

    python -m training.checkpoint fetch
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path
from typing import Any

import torch

from qmedsam.exit_status import DONE, NOTHING_RAN
from training.networks.network import (
    PromptableNetwork,
    build_lite_medsam,
    build_medsam,
    count_parameters,
)
from training.published import (
    DEFAULT_PATH,
    SHA256,
    CheckpointError,
    check_is_file,
    fetch_lite_medsam,
    verify_lite_medsam,
)

logger = logging.getLogger(__name__)


def load_lite_medsam(path: Path = DEFAULT_PATH) -> PromptableNetwork:
    """Build LiteMedSAM in eval mode with the published weights, after verifying the file."""
    verify_lite_medsam(path)
    return _load(build_lite_medsam(), path)


def load_medsam(path: Path) -> PromptableNetwork:
    """Build MedSAM in eval mode with the weights of `medsam_vit_b.pth`.

    Raises:
        CheckpointError: the file is missing or holds other tensors.
    """
    check_is_file(path)
    return _load(build_medsam(), path)


def read_tensors(path: Path) -> Any:
    """Read what `torch.save` wrote, tensors and plain values only.

    Raises:
        CheckpointError: the file is missing or was not written so, or not to its end.
    """
    check_is_file(path)
    try:
        with path.open("rb") as stream:
            return torch.load(stream, map_location="cpu", weights_only=True)
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
