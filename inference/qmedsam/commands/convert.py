"""`qmedsam convert`: between cases and the formats of researchers, and label maps with them."""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path
from typing import TYPE_CHECKING

from ..batch.cases import CASE_SUFFIX
from ..errors import UsageError
from ..exit_status import DONE, OF_FILES
from ..formats.label_notes import LabelNotes
from ..formats.suffixes import SEG
from .extras import needs_extra
from .scan_options import (
    EXTRA,
    add_kind_option,
    add_scan_options,
    add_stats_option,
    check_stats_name,
    read_boxed_scan,
    warn_of,
)

if TYPE_CHECKING:
    from ..formats.boxed_scan import BoxedScan

HELP = (
    "convert an image with boxes to a case (.npz) and back, or labels to another format in the "
    "geometry of their image"
)
EXAMPLES = """\
  qmedsam convert brain.nii.gz --boxes boxes.csv -o cases/brain.npz
  qmedsam convert brain.nii.gz --labels masks/brain.npz -o labels.nii.gz
  qmedsam convert cases/brain.npz --write-boxes boxes.json -o brain.nii.gz"""
EXIT_STATUS = OF_FILES
UNKNOWN_WINDOW = "window unknown"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add_scan_options(parser)
    parser.add_argument(
        "--labels",
        type=Path,
        metavar="FILE",
        help="labels of the image, to be written in its geometry: the label map of its case (.npz) "
        "or one on its grid in another format, a DICOM SEG, or an RTSTRUCT",
    )
    parser.add_argument(
        "--write-boxes", type=Path, metavar="JSON", help="where the boxes of a case go"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE")
    add_kind_option(parser)
    add_stats_option(parser)


def execute(arguments: argparse.Namespace) -> int:
    """Convert the file."""
    with needs_extra(EXTRA):  # not at the top, for the help is there without it
        from ..formats.conversion import write_boxed_case, write_case_as_file
        from ..formats.npz import CaseScan
    output, labels, write_boxes = arguments.output, arguments.labels, arguments.write_boxes
    check_stats_name(arguments.stats)
    written = [output, write_boxes, arguments.stats]
    try:
        boxed = read_boxed_scan(arguments, read=[labels], written=written)
        is_case = labels is None and isinstance(boxed.scan, CaseScan)
        _check_options(arguments, is_case=is_case)
        if labels is not None:
            _convert_labels(arguments, boxed)
        elif isinstance(boxed.scan, CaseScan):
            write_case_as_file(boxed.scan, output, boxes_file=write_boxes)
        else:
            warn_of(arguments.image, write_boxed_case(boxed, output))
    except OSError as error:
        raise UsageError(str(error)) from error
    return DONE


def _convert_labels(arguments: argparse.Namespace, boxed: BoxedScan) -> None:
    """Write labels in the geometry of their image."""
    from ..formats.conversion import read_labels
    from ..formats.statistics import statistics_of, write_statistics
    from ..formats.writing import check_labels_name, write_labels

    scan, output, stats = boxed.scan, arguments.output, arguments.stats
    check_labels_name(scan, str(output), arguments.kind)
    labels = read_labels(arguments.labels, scan)
    warn_of(arguments.labels, labels.remarks)
    pairs = itertools.zip_longest(boxed.notes.names, labels.names, fillvalue="")
    names = tuple(given or found for given, found in pairs)
    window = labels.window if arguments.window is None else boxed.notes.window
    if window is None and arguments.labels.name.lower().endswith(CASE_SUFFIX):
        missing = "It does not say the window and the names of its case; give --window and --box"
        warn_of(arguments.labels, [missing])
    notes = LabelNotes(window or UNKNOWN_WINDOW, names)
    write_labels(scan, labels.label_map, output, notes=notes, kind=arguments.kind)
    if stats is not None:
        write_statistics(stats, scan, statistics_of(scan, labels.label_map, notes=notes))


def _check_options(arguments: argparse.Namespace, *, is_case: bool) -> None:
    """Refuse options that would do nothing.

    Raises:
        UsageError: there are some.
    """
    if arguments.write_boxes is not None and not is_case:
        raise UsageError("--write-boxes goes with a case that is converted, and nothing else")
    if arguments.stats is not None and arguments.labels is None:
        raise UsageError("--stats goes with --labels, of which objects are measured")
    if arguments.kind != SEG and arguments.labels is None:
        raise UsageError("--as goes with --labels, which are written so")
    if is_case and (arguments.box or arguments.boxes is not None):
        raise UsageError("A case has its own boxes: --box and --boxes do not go with it")
