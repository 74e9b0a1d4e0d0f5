"""`qmedsam convert`: between cases and the formats of researchers, and label maps with them."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..errors import UsageError
from ..exit_status import DONE, OF_FILES
from .extras import needs_extra
from .scan_options import EXTRA, add_scan_options, read_boxed_scan

HELP = (
    "convert an image with boxes to a case (.npz) and back, or a label map (.npz) to the format "
    "and geometry of its image"
)
EXAMPLES = """\
  qmedsam convert brain.nii.gz --boxes boxes.csv -o cases/brain.npz
  qmedsam convert brain.nii.gz --labels masks/brain.npz -o labels.nii.gz
  qmedsam convert cases/brain.npz --write-boxes boxes.json -o brain.nii.gz"""
EXIT_STATUS = OF_FILES


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add_scan_options(parser)
    parser.add_argument(
        "--labels",
        type=Path,
        metavar="NPZ",
        help="label map of the image's case, to be written in the geometry of the image",
    )
    parser.add_argument(
        "--write-boxes", type=Path, metavar="JSON", help="where the boxes of a case go"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE")


def execute(arguments: argparse.Namespace) -> int:
    """Convert the file."""
    with needs_extra(EXTRA):  # not at the top, for the help is there without it
        from ..formats.conversion import write_boxed_case, write_case_as_file, write_case_labels
        from ..formats.npz import CaseScan
    output, labels, write_boxes = arguments.output, arguments.labels, arguments.write_boxes
    try:
        boxed = read_boxed_scan(arguments, read=[labels], written=[output, write_boxes])
        if labels is not None:
            write_case_labels(boxed.scan, labels, output, boxed.notes)
        elif isinstance(boxed.scan, CaseScan):
            write_case_as_file(boxed.scan, output, boxes_file=write_boxes)
        else:
            write_boxed_case(boxed, output)
    except OSError as error:
        raise UsageError(str(error)) from error
    return DONE
