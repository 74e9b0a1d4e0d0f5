"""Draw contact sheets of training data: cases of each data set with their outlines.

    python -m training.data --data DATA/train --output-dir runs/sheets

One picture a modality, one row a data set. What a network is trained on is worth a look before.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from qmedsam.batch.overlay import draw_tile
from qmedsam.batch.png import encode_png
from qmedsam.batch.progress import ProgressBar
from qmedsam.exit_status import DONE, NOTHING_RAN
from qmedsam.system.files import make_writable, write_bytes
from training.data.dataset import make_scene, present_objects
from training.data.index import FileEntry, ModalityIndex, build_index
from training.data.volumes import DataError, SliceData, VolumeCache

logger = logging.getLogger(__name__)

TILE_PX, TITLE_PX = 220, 18
COLUMNS = 7
Picture = NDArray[np.uint8]


def draw_sheet(root: Path, part: ModalityIndex) -> Picture:
    """Return a picture with a row of tiles for each data set of a modality.

    Args:
        root: folder of the data.
        part: the modality's index.

    Raises:
        DataError: a file is broken.
    """
    cache = VolumeCache(0)
    rows = []
    for name, places in part.datasets.items():
        chosen = np.unique(np.linspace(0, len(places) - 1, COLUMNS).round().astype(int))
        entries = [part.entries[places[i]] for i in chosen]
        tiles = [_tile(_slice_of(root, entry, cache)) for entry in entries]
        tiles += [np.zeros_like(tiles[0])] * (COLUMNS - len(tiles))
        rows.append(_titled(f"{name}: {len(places)} files", np.hstack(tiles)))
    return np.vstack(rows)


def _slice_of(root: Path, entry: FileEntry, cache: VolumeCache) -> SliceData:
    return cache.read_slice(root / entry.path, entry.slices[len(entry.slices) // 2])


def _tile(data: SliceData) -> Picture:
    """Draw the objects of a slice, in a square."""
    objects = present_objects(data)
    scene = make_scene(data, objects)
    labels = np.zeros(scene.hw, dtype=np.uint16)
    for label, row in enumerate(objects, start=1):
        labels[scene.labels == row] = label
    every = range(len(objects))
    return draw_tile(scene.image, scene.file_boxes, labels, objects=every, side_px=TILE_PX)


def _titled(title: str, row: Picture) -> Picture:
    band = np.zeros((TITLE_PX, row.shape[1], 3), dtype=np.uint8)
    cv2.putText(band, title, (4, 13), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (255, 255, 255), 1)
    return np.vstack([band, row])


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of `python -m training.data`."""
    parser = argparse.ArgumentParser(
        prog="python -m training.data",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of modalities")
    parser.add_argument("--output-dir", type=Path, required=True, help="gets a picture a modality")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Draw all sheets; 0 when they are there, 2 otherwise."""
    arguments = build_parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    try:
        index = build_index(arguments.data, progress=sys.stderr)
        folder = make_writable(arguments.output_dir)
        bar = ProgressBar(len(index), sys.stderr)
        for modality, part in index.items():
            write_bytes(folder / f"{modality}.png", encode_png(draw_sheet(arguments.data, part)))
            bar.advance(modality)
        bar.close()
    except (DataError, OSError) as error:
        logger.error("%s", error)
        return NOTHING_RAN
    logger.info("Wrote %d pictures to %s", len(index), arguments.output_dir)
    return DONE


if __name__ == "__main__":
    sys.exit(main())
