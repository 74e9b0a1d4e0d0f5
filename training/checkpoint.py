"""Checkpoints as files: the published LiteMedSAM, MedSAM, and what training writes.

MedSAM's weights are in no registry: a user who has `medsam_vit_b.pth` names it. Training writes by
`torch.save`; what is kept is safetensors, with how it came to be, and without what only goes on.

    python -m training.checkpoint fetch
    python -m training.checkpoint keep --from runs/train/a/best.pt --path models/mine.safetensors
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from qmedsam.exit_status import DONE, NOTHING_RAN
from qmedsam.model.manifest import file_sha256
from qmedsam.system.files import write_bytes
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

KEPT_SUFFIX = ".safetensors"
ACCOUNT_KEY = "qmedsam"  # of the metadata of such a file


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
    """Read what `torch.save` or `keep` wrote, tensors and plain values only.

    Raises:
        CheckpointError: the file is missing or was not written so, or not to its end.
    """
    check_is_file(path)
    try:
        if path.suffix == KEPT_SUFFIX:
            return _read_kept(path)
        with path.open("rb") as stream:
            return torch.load(stream, map_location="cpu", weights_only=True)
    except Exception as error:  # a broken pickle raises whatever its bytes happen to mean
        raise CheckpointError(f"{path} is no checkpoint, or cut short: {error}") from error


def keep(source: Path, path: Path) -> None:
    """Write a checkpoint of training as safetensors: the network, and its account as JSON.

    The same checkpoint gives the same bytes.

    Raises:
        CheckpointError: the source is no best.pt or start.pt of a stage.
        OSError: the file cannot be written.
    """
    document = read_tensors(source)
    is_kept = isinstance(document, dict) and {"network", "history"} <= document.keys()
    if not is_kept or "optimizer" in document:
        raise CheckpointError(f"{source} must be best.pt or start.pt of a stage of training")
    account = {key: value for key, value in document.items() if key != "network"}
    tensors = {name: value.contiguous() for name, value in document["network"].items()}
    # One entry: several would come in any order.
    content = safetensors.torch.save(tensors, {ACCOUNT_KEY: json.dumps(account)})
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, content)


def _read_kept(path: Path) -> dict[str, Any]:
    with safetensors.safe_open(path, "pt") as opened:
        account = json.loads(opened.metadata()[ACCOUNT_KEY])
        return {**account, "network": {name: opened.get_tensor(name) for name in opened.keys()}}  # noqa: SIM118


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
    parser.add_argument("action", choices=["fetch", "verify", "keep"], help="what to do")
    parser.add_argument(
        "--path", type=Path, default=DEFAULT_PATH, help="where the file lies (default: %(default)s)"
    )
    parser.add_argument(
        "--from", type=Path, dest="source", help="best.pt of a stage, which `keep` writes to --path"
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Fetch or verify the LiteMedSAM checkpoint, or keep another; 0 when it is in place, else 2."""
    parser = build_parser()
    arguments = parser.parse_args(argv)
    is_complete = arguments.source is not None and arguments.path.suffix == KEPT_SUFFIX
    if arguments.action == "keep" and not is_complete:
        parser.error(f"keep needs --from CHECKPOINT and --path FILE{KEPT_SUFFIX}")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        if arguments.action == "keep":
            keep(arguments.source, arguments.path)
            logger.info("%s: SHA-256 %s", arguments.path, file_sha256(arguments.path))
            return DONE
        if arguments.action == "fetch":
            fetch_lite_medsam(arguments.path)
        counts = count_parameters(load_lite_medsam(arguments.path))
    except (CheckpointError, OSError) as error:
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
