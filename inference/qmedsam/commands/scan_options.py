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
from ..formats.scan import AUTOMATIC_PLANE, PLANES, FormatError
from ..formats.suffixes import DICOM_KINDS, NIFTI_SUFFIXES, SEG, SUFFIXES
from ..options import at_least
from .extras import needs_extra
from .outputs import check_outputs

if TYPE_CHECKING:
    from ..formats.boxed_scan import BoxedScan

logger = logging.getLogger(__name__)

EXTRA = "io"


def add_scan_options(parser: argparse.ArgumentParser) -> None:
    """Add which file is read, and how."""
    parser.add_argument(
        "image",
        type=Path,
        help=f"file that ends in {', '.join(SUFFIXES)}, a DICOMDIR, or folder of DICOM files or of "
        "pictures, a slice each",
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
        "--boxes",
        type=Path,
        metavar="FILE",
        help="boxes as JSON or CSV, or a label map, DICOM SEG or RTSTRUCT, one around each "
        "object; after those of --box (default: those of a case)",
    )
    parser.add_argument(
        "--series",
        metavar="NUMBER|UID",
        help="which one, where a folder of DICOM files has several series",
    )
    parser.add_argument(
        "--volume",
        type=at_least(1),
        metavar="N",
        help="which one, from 1, where a DICOM series has several volumes or images (echoes, "
        "b-values, phases, stacks, frames of a clip), or NIfTI, NRRD or MetaImage several volumes; "
        "without it they are listed or counted",
    )
    parser.add_argument(
        "--plane",
        choices=(AUTOMATIC_PLANE, *PLANES),
        default=AUTOMATIC_PLANE,
        help="in which NIfTI, NRRD and MetaImage are cut into slices; auto is that of acquisition, "
        "as far as voxels tell (default: auto)",
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
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace files that no earlier run has left, or that were edited since; what is read "
        "is never replaced (default: labels, pictures, statistics and cases of earlier runs alone)",
    )


def add_kind_option(parser: argparse.ArgumentParser) -> None:
    """Add what labels in DICOM are."""
    parser.add_argument(
        "--as",
        dest="kind",
        choices=DICOM_KINDS,
        default=SEG,
        help="what an output that ends in .dcm is: a DICOM SEG, or an RTSTRUCT, which has contours "
        "(default: seg)",
    )


def add_stats_option(parser: argparse.ArgumentParser) -> None:
    """Add where statistics of the objects go."""
    parser.add_argument(
        "--stats",
        type=Path,
        metavar="FILE",
        help="also measure each object: size in mm, intensities of the file, place in the patient, "
        "predicted quality; .csv or .json",
    )


def check_stats_name(path: Path | None) -> None:
    """Check, before anything is read, that statistics can be written.

    Raises:
        FormatError: their name does not say how.
    """
    with needs_extra(EXTRA):  # not at the top, for the help is there without it
        from ..formats.statistics import check_statistics_name
    if path is not None:
        check_statistics_name(path)


def read_boxed_scan(
    arguments: argparse.Namespace, *, read: Sequence[Path | None], written: Sequence[Path | None]
) -> BoxedScan:
    """Read the file and its boxes that the options name.

    Args:
        arguments: of these options.
        read: what else the command reads, with what lies in it or goes with it.
        written: what it writes.

    Raises:
        InferenceError: something cannot be read, or would be written over.
        UsageError: labels are to be straightened in a format in which they are not.
    """
    with needs_extra(EXTRA):  # not at the top, for the help is there without it
        from ..formats.boxed_scan import open_boxed_scan
        from ..formats.read_paths import paths_read
    _check_straighten(arguments)
    inputs = [each for each in (arguments.image, arguments.boxes, *read) if each is not None]
    all_read = [path for each in inputs for path in paths_read(each)]
    check_outputs(written, all_read, overwrites=arguments.overwrite)
    window = None if arguments.window is None else parse_window(arguments.window)
    boxed = open_boxed_scan(
        arguments.image,
        arguments.box,
        boxes_file=arguments.boxes,
        window=window,
        series=arguments.series,
        plane=arguments.plane,
        volume=arguments.volume,
        straighten=arguments.straighten,
    )
    warn_of(arguments.image, boxed.scan.remarks)
    warn_of(arguments.boxes, boxed.remarks)
    return boxed


def warn_of(path: Path, notes: Sequence[str]) -> None:
    """Warn of what was found out of a file, a line each."""
    for note in notes:
        logger.warning("%s: %s", path, note)


def _check_straighten(arguments: argparse.Namespace) -> None:
    """Refuse to straighten what is written as it is.

    Raises:
        UsageError: the output is no NIfTI.
    """
    output = arguments.output
    if arguments.straighten and not output.name.lower().endswith(NIFTI_SUFFIXES):
        raise UsageError(f"--straighten goes with labels in NIfTI, and does nothing to {output}")


def _box(text: str) -> NamedBox:
    try:
        return parse_box(text)
    except FormatError as error:  # of which argparse makes its own message
        raise argparse.ArgumentTypeError(str(error)) from error
