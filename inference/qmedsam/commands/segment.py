"""`qmedsam segment`: the boxes in one image or volume, written in its own format and geometry."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..batch.overlay import draw_overlay
from ..batch.png import encode_png
from ..errors import UsageError
from ..exit_status import DONE, OF_FILES
from ..model.manifest import read_manifest
from ..model.variant import find_model
from ..options import add_model_options, read_settings
from ..segmenter import Segmenter
from ..system.files import write_bytes
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

HELP = "segment the boxes in one image or volume: NIfTI, DICOM, a picture, or a case"
EXAMPLES = """\
  qmedsam segment fundus.png --box disc=520,380,760,610 -o labels.png --preview preview.png
  qmedsam segment brain.nii.gz --boxes boxes.csv -o labels.nii.gz --stats objects.csv
  qmedsam segment brain.nii.gz --boxes earlier_labels.nii.gz -o labels.nii.gz
  qmedsam segment ct_series --window lung --box 10,20,1,60,90,4 -o labels.dcm
  qmedsam segment brain.nii.gz --box 10,20,60,90 --slice 3 --slices 1,4 -o labels.nii.gz"""
EXIT_STATUS = OF_FILES


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add_scan_options(parser)
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="FILE",
        help="label map, in the format and geometry of the image, or .npz",
    )
    parser.add_argument(
        "--preview", type=Path, metavar="PNG", help="also draw the outlines, of a volume as tiles"
    )
    add_kind_option(parser)
    add_stats_option(parser)
    add_model_options(parser)
    parser.add_argument(
        "--slice",
        type=int,
        metavar="Z",
        help="boxes of four coordinates are of this slice of a volume; needs --slices",
    )
    parser.add_argument(
        "--slices",
        type=_slices,
        metavar="FIRST,LAST",
        help="slices to which what was boxed on --slice is followed",
    )


def execute(arguments: argparse.Namespace) -> int:
    """Segment the boxes of the file."""
    try:
        _segment(arguments)
    except OSError as error:
        raise UsageError(str(error)) from error
    return DONE


def _segment(arguments: argparse.Namespace) -> None:
    with needs_extra(EXTRA):  # not at the top, for the help is there without it
        from ..formats.statistics import statistics_of, write_statistics
        from ..formats.writing import check_labels_name, write_labels
    output, preview, stats = arguments.output, arguments.preview, arguments.stats
    check_stats_name(stats)
    of_model = read_manifest(find_model(arguments.model_dir, arguments.variant)).paths
    boxed = read_boxed_scan(arguments, read=of_model, written=[output, preview, stats])
    scan = boxed.scan
    check_labels_name(scan, str(output), arguments.kind)
    starts = None
    if arguments.slice is None and arguments.slices is None:
        own = boxed.own_boxes()
    else:
        own, starts = boxed.own_boxes_followed(arguments.slice, arguments.slices)
    prompts = boxed.prompts(own)
    warn_of(arguments.image, prompts.notes)
    if not prompts.objects:
        raise UsageError(f"{arguments.image} must have a box on it, got all of them beside it")
    segmenter = Segmenter(arguments.model_dir, read_settings(arguments))
    segmentation = segmenter.pipeline.segment(scan.pixels, prompts, starts=starts)
    warn_of(arguments.image, segmentation.notes)
    label_map = segmentation.label_map
    write_labels(scan, label_map, output, notes=boxed.notes, kind=arguments.kind)
    if stats is not None:
        quality = segmentation.quality.tolist()
        found = statistics_of(scan, label_map, notes=boxed.notes, quality=quality)
        write_statistics(stats, scan, found)
    if preview is not None:
        preview.parent.mkdir(parents=True, exist_ok=True)
        picture = draw_overlay(
            scan.pixels,
            prompts.boxes,
            label_map,
            objects=prompts.objects,
            name_of=scan.slice_name,
        )
        write_bytes(preview, encode_png(picture))
    segmenter.network.wait()


def _slices(text: str) -> tuple[int, int]:
    first, separator, last = text.partition(",")
    if not (separator and first.isdecimal() and last.isdecimal()):
        raise argparse.ArgumentTypeError(f"must be FIRST,LAST, got {text!r}")
    return int(first), int(last)
