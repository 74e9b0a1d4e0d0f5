"""`qmedsam convert`: between cases and the formats of researchers, and label maps with them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UsageError
from ..exit_status import DONE, OF_FILES
from ..formats.scan import LabelNotes
from .extras import needs_extra
from .scan_options import (
    EXTRA,
    add_scan_options,
    add_stats_option,
    check_stats_name,
    read_boxed_scan,
    warn_of,
)

if TYPE_CHECKING:
    from ..formats.boxed_scan import BoxedScan

HELP = (
    "convert an image with boxes to a case (.npz) and back, or a label map (.npz) to the format "
    "and geometry of its image"
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
        metavar="NPZ",
        help="label map of the image's case, to be written in the geometry of the image",
    )
    parser.add_argument(
        "--write-boxes", type=Path, metavar="JSON", help="where the boxes of a case go"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE")
    add_stats_option(parser)


def execute(arguments: argparse.Namespace) -> int:
    """Convert the file."""
    with needs_extra(EXTRA):  # not at the top, for the help is there without it
        from ..formats.conversion import (
            read_case_notes,
            write_boxed_case,
            write_case_as_file,
            write_case_labels,
        )
        from ..formats.npz import CaseScan
        from ..formats.statistics import statistics_of, write_statistics
    output, labels, write_boxes = arguments.output, arguments.labels, arguments.write_boxes
    check_stats_name(arguments.stats)
    written = [output, write_boxes, arguments.stats]
    try:
        boxed = read_boxed_scan(arguments, read=[labels], written=written)
        is_case = labels is None and isinstance(boxed.scan, CaseScan)
        _check_options(arguments, is_case=is_case)
        if labels is not None:
            notes = _notes(arguments, boxed, read_case_notes(labels))
            label_map = write_case_labels(boxed.scan, labels, output, notes)
            if arguments.stats is not None:
                found = statistics_of(boxed.scan, label_map, notes)
                write_statistics(arguments.stats, boxed.scan, found)
        elif isinstance(boxed.scan, CaseScan):
            write_case_as_file(boxed.scan, output, boxes_file=write_boxes)
        else:
            warn_of(arguments.image, write_boxed_case(boxed, output))
    except OSError as error:
        raise UsageError(str(error)) from error
    return DONE


def _check_options(arguments: argparse.Namespace, *, is_case: bool) -> None:
    """Refuse options that would do nothing.

    Raises:
        UsageError: there are some.
    """
    if arguments.write_boxes is not None and not is_case:
        raise UsageError("--write-boxes goes with a case that is converted, and nothing else")
    if arguments.stats is not None and arguments.labels is None:
        raise UsageError("--stats goes with --labels, of which objects are measured")
    if is_case and (arguments.box or arguments.boxes is not None):
        raise UsageError("A case has its own boxes: --box and --boxes do not go with it")


def _notes(arguments: argparse.Namespace, boxed: BoxedScan, kept: LabelNotes | None) -> LabelNotes:
    """Return what goes with labels: what the options say, else what was kept, as far as it was."""
    names = boxed.notes.names
    if kept is not None and not any(names):
        names = kept.names
    if arguments.window is not None:
        return LabelNotes(boxed.notes.window, names)
    if kept is None:
        warn_of(
            arguments.labels,
            ["It does not say the window and the names of its case; give --window and --box"],
        )
    return LabelNotes(kept.window if kept else UNKNOWN_WINDOW, names)
