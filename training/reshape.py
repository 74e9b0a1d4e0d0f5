"""Bring the published network to the shape that is trained here, as what a training begins with.

    python -m training.reshape --data DATA/train --output runs/train/start.pt

The layers are fitted on images of the training data (training/loop/reshaping.py).
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from qmedsam.exit_status import DONE, NOTHING_RAN
from training.checkpoint import load_lite_medsam
from training.data.index import build_index
from training.data.volumes import DataError
from training.loop.beginning import calibration_images
from training.loop.recipe import DataSettings, Recipe
from training.loop.reshaping import reshape_encoder
from training.loop.state import Trained, save_document, trained_document
from training.networks.network import build_qmedsam
from training.published import DEFAULT_PATH, SHA256, CheckpointError

logger = logging.getLogger(__name__)

NAME = "qmedsam"
IMAGES = Recipe(
    name="reshaping",
    calibration_images=44,
    data=DataSettings(balance="datasets", regions=0.67, objects_per_image=1),
)


def reshape(data: Path, checkpoint: Path) -> Trained:
    """Return the network in its new shape.

    Raises:
        CheckpointError: the checkpoint is not the published one.
        DataError: the folder holds nothing to fit on.
    """
    network = load_lite_medsam(checkpoint)
    index = build_index(data, progress=sys.stderr)
    images = calibration_images(data, index, IMAGES, network.image_size)
    reshaped = build_qmedsam()
    for part in ("prompt_encoder", "mask_decoder"):
        getattr(reshaped, part).load_state_dict(getattr(network, part).state_dict())
    reshape_encoder(network.image_encoder, [x for x, _ in images], reshaped.image_encoder)
    return Trained(NAME, reshaped.eval(), (), None, [], SHA256)


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of `python -m training.reshape`."""
    parser = argparse.ArgumentParser(
        prog="python -m training.reshape",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of modalities to fit on")
    parser.add_argument(
        "--checkpoint",
        type=Path,
        default=DEFAULT_PATH,
        help="the published LiteMedSAM (default: %(default)s)",
    )
    parser.add_argument("--output", type=Path, required=True, help="checkpoint to write")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Write the checkpoint; 0 when it is there, 2 otherwise."""
    arguments = build_parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    try:
        trained = reshape(arguments.data, arguments.checkpoint)
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        save_document(trained_document(trained), arguments.output)
    except (CheckpointError, DataError, OSError) as error:
        logger.error("%s", error)
        return NOTHING_RAN
    logger.info("Wrote %s", arguments.output)
    return DONE


if __name__ == "__main__":
    sys.exit(main())
