"""Options of the commands that take one file: the image or volume, and its boxes."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UsageError
from ..formats.boxes import NamedBox, parse_box
from ..formats.intensity import WINDOW_NAMES, parse_window
from ..formats.scan import FormatError
from ..formats.suffixes import SUFFIXES
from .extras import needs_extra

if TYPE_CHECKING:
    from ..formats.boxed_scan import BoxedScan

logger = logging.getLogger(__name__)

EXTRA = "io"


def add_scan_options(parser: argparse.ArgumentParser) -> None:
    """Add which file is read, and how."""
    parser.add_argument(
        "image",
        type=Path,
        help=f"file that ends in {', '.join(SUFFIXES)}, a DICOMDIR, or folder of DICOM files",
    )
    parser.add_argument(
        "--box",
        action="append",
        default=[],
        type=_box,
        metavar="[NAME=]X0,Y0[,Z0],X1,Y1[,Z1]",
        help="first and last pixel, or voxel of the file, of an object; may be repeated",
    )
    parser.add_argument(
        "--boxes", type=Path, metavar="FILE", help="boxes as JSON or CSV, after those of --box"
    )
    parser.add_argument(
        "--series",
        metavar="NUMBER|UID",
        help="which one, where a folder of DICOM files has several series",
    )
    parser.add_argument(
        "--volume",
        type=_number,
        metavar="N",
        help="which one, from 1, where a DICOM series has several volumes or images: echoes, "
        "b-values, phases, stacks, frames of a clip; without it they are listed",
    )
    parser.add_argument(
        "--straighten",
        action="store_true",
        help="shift labels of slices under a tilted gantry onto a straight grid in NIfTI",
    )
    parser.add_argument(
        "--window",
        metavar="NAME|LEVEL,WIDTH",
        help=f"how values become 8 bits: {', '.join(WINDOW_NAMES)}, or level and width "
        "(default: percentiles, soft-tissue for CT in DICOM, pictures of 8 bits as they are)",
    )


def read_boxed_scan(
    arguments: argparse.Namespace, *, read: Sequence[Path | None], written: Sequence[Path | None]
) -> BoxedScan:
    """Read the file and its boxes that the options name.

    Args:
        arguments: of these options.
        read: what else the command reads.
        written: what it writes.

    Raises:
        InferenceError: something cannot be read, or would be written over.
    """
    with needs_extra(EXTRA):  # not at the top, for the help is there without it
        from ..formats.boxed_scan import open_boxed_scan
    window = None if arguments.window is None else parse_window(arguments.window)
    boxed = open_boxed_scan(
        arguments.image,
        arguments.box,
        boxes_file=arguments.boxes,
        window=window,
        series=arguments.series,
        volume=arguments.volume,
        straighten=arguments.straighten,
    )
    for text in boxed.scan.remarks:
        logger.warning("%s: %s", arguments.image, text)
    _check_written([arguments.image, arguments.boxes, *read], written)
    return boxed


def _check_written(read: Sequence[Path | None], written: Sequence[Path | None]) -> None:
    """Check that nothing is written over what is read.

    Raises:
        UsageError: it would be.
    """
    kept = {path.resolve() for path in read if path is not None}
    for path in written:
        if path is not None and path.resolve() in kept:
            raise UsageError(f"{path} would be written over what is read")


def _number(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1, got {text!r}")
    return int(text)


def _box(text: str) -> NamedBox:
    try:
        return parse_box(text)
    except FormatError as error:  # of which argparse makes its own message
        raise argparse.ArgumentTypeError(str(error)) from error
