"""The commands for single files: `qmedsam segment` and `qmedsam convert`."""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path

import numpy as np

from ..batch.cases import CASE_SUFFIX, read_label_map, write_case
from ..batch.overlay import draw_image_overlay, draw_volume_montage, encode_png
from ..core.geometry import Boxes
from ..core.prompts import IMAGE_COLUMNS, VOLUME_COLUMNS, boxes_on_slices, check_prompts
from ..errors import InferenceError
from ..options import add_model_options, read_settings
from ..segmenter import Segmenter
from ..system.files import write_bytes
from .boxes import NamedBox, parse_box, read_boxes, stack_boxes
from .dispatch import SUFFIXES, check_labels_name, open_scan, write_labels
from .intensity import WINDOW_NAMES, parse_window
from .npz import CaseScan
from .scan import FormatError, LabelNotes, Scan

logger = logging.getLogger(__name__)

DONE, FAILED = 0, 2


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of both commands."""
    parser = argparse.ArgumentParser(
        prog="qmedsam", description="Segment or convert a file of its own format."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    segment = commands.add_parser("segment", help="segment the boxes in an image or volume")
    _add_scan(segment)
    segment.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="FILE",
        help="label map, in the format and geometry of the image, or .npz",
    )
    segment.add_argument(
        "--preview", type=Path, metavar="PNG", help="also draw the outlines, of a volume as tiles"
    )
    add_model_options(segment)
    segment.add_argument(
        "--slice",
        type=int,
        metavar="Z",
        help="boxes of four coordinates are of this slice of a volume; needs --slices",
    )
    segment.add_argument(
        "--slices",
        type=_slices,
        metavar="FIRST,LAST",
        help="slices to which what was boxed on --slice is followed",
    )
    convert = commands.add_parser(
        "convert",
        help="an image with boxes to a case (.npz) and back, or a label map (.npz) to the format "
        "and geometry of its image",
    )
    _add_scan(convert)
    convert.add_argument(
        "--labels",
        type=Path,
        metavar="NPZ",
        help="label map of the image's case, to be written in the geometry of the image",
    )
    convert.add_argument(
        "--write-boxes", type=Path, metavar="JSON", help="where the boxes of a case go"
    )
    convert.add_argument("-o", "--output", type=Path, required=True, metavar="FILE")
    return parser


def main(argv: list[str]) -> int:
    """Run a command; 0 when the file is written, 2 otherwise."""
    arguments = build_parser().parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    try:
        window = None if arguments.window is None else parse_window(arguments.window)
        scan = open_scan(arguments.image, window, arguments.series)
        for text in scan.remarks:
            logger.warning("%s: %s", arguments.image, text)
        boxes = [*arguments.box, *(read_boxes(arguments.boxes) if arguments.boxes else [])]
        notes = scan.notes_of([box.name for box in boxes])
        _check_outputs(arguments)
        if arguments.command == "segment":
            _segment(arguments, scan, boxes, notes)
        elif arguments.labels is not None:
            _convert_labels(arguments, scan, notes)
        elif isinstance(scan, CaseScan):
            _convert_case(arguments, scan)
        else:
            _convert_to_case(arguments, scan, boxes, notes)
    except (InferenceError, OSError) as error:
        logger.error("%s", error)
        return FAILED
    return DONE


def _add_scan(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "image",
        type=Path,
        help=f"file that ends in {', '.join(SUFFIXES)}, or folder of a DICOM series",
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
        "--window",
        metavar="NAME|LEVEL,WIDTH",
        help=f"how values become 8 bits: {', '.join(WINDOW_NAMES)}, or level and width "
        "(default: percentiles, soft-tissue for CT in DICOM, pictures of 8 bits as they are)",
    )


def _own_boxes(scan: Scan, boxes: list[NamedBox]) -> Boxes:
    """Return boxes of an image (N, 4) or a volume (N, 6) in the file's own coordinates.

    Raises:
        FormatError: there are none, or they have another number of coordinates.
    """
    if not boxes:
        raise FormatError("There must be a box; give --box or --boxes")
    return stack_boxes(boxes, VOLUME_COLUMNS if scan.is_volume else IMAGE_COLUMNS)


def _own_boxes_followed(
    arguments: argparse.Namespace, scan: Scan, boxes: list[NamedBox]
) -> tuple[Boxes, list[int]]:
    """Return the boxes (N, 6) of what was boxed on one slice, and the slice of each in `pixels`."""
    if arguments.slice is None or arguments.slices is None or not scan.is_volume:
        raise FormatError("--slice Z and --slices FIRST,LAST go together, with a volume")
    rows = stack_boxes(boxes, IMAGE_COLUMNS)
    whole = boxes_on_slices(rows, arguments.slice, arguments.slices).astype(np.float32)
    on_slice = boxes_on_slices(rows, arguments.slice, (arguments.slice,) * 2).astype(np.float32)
    starts = scan.boxes_to_pixels(on_slice)[:, [2, 5]]
    if (starts[:, 0] != starts[:, 1]).any():
        raise FormatError(
            "The file's third axis does not run through its axial slices: give boxes of six "
            "coordinates"
        )
    depth = len(scan.pixels)
    if arguments.slices[1] >= depth:
        raise FormatError(f"--slices must be from 0 to {depth - 1}, got {arguments.slices[1]}")
    return whole, [int(start) for start in starts[:, 0]]


def _box(text: str) -> NamedBox:
    try:
        return parse_box(text)
    except FormatError as error:  # of which argparse makes its own message
        raise argparse.ArgumentTypeError(str(error)) from error


def _slices(text: str) -> tuple[int, int]:
    first, separator, last = text.partition(",")
    if not (separator and first.isdecimal() and last.isdecimal()):
        raise argparse.ArgumentTypeError(f"must be FIRST,LAST, got {text!r}")
    return int(first), int(last)


def _convert_labels(arguments: argparse.Namespace, scan: Scan, notes: LabelNotes) -> None:
    """Write the label map of a case in the geometry of the image that it was made of."""
    label_map = read_label_map(arguments.labels)
    if label_map.shape != scan.label_shape:
        raise FormatError(
            f"{arguments.labels} must have shape {scan.label_shape}, got {label_map.shape}"
        )
    write_labels(scan, label_map, arguments.output, notes)


def _convert_to_case(
    arguments: argparse.Namespace, scan: Scan, boxes: list[NamedBox], notes: LabelNotes
) -> None:
    """Write an image with its boxes as a case."""
    if arguments.output.suffix.lower() != CASE_SUFFIX:
        raise FormatError(f"{arguments.output} must end in {CASE_SUFFIX}, as a case does")
    pixel_boxes = scan.boxes_to_pixels(_own_boxes(scan, boxes))
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    write_case(arguments.output, scan.pixels, pixel_boxes, notes.as_json())


def _convert_case(arguments: argparse.Namespace, scan: CaseScan) -> None:
    """Write the pixels of a case as PNG or NIfTI, and its boxes as JSON."""
    content = scan.encode_pixels(str(arguments.output))
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(arguments.output, content)
    if arguments.write_boxes is not None:
        arguments.write_boxes.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(arguments.write_boxes, json.dumps({"boxes": scan.boxes.tolist()}).encode())


def _check_outputs(arguments: argparse.Namespace) -> None:
    """Check that nothing is written over what is read.

    Raises:
        FormatError: it would be.
    """
    read = {path.resolve() for path in (arguments.image, arguments.boxes) if path is not None}
    if arguments.command == "convert" and arguments.labels is not None:
        read.add(arguments.labels.resolve())
    optional = (getattr(arguments, name, None) for name in ("preview", "write_boxes"))
    for path in (arguments.output, *optional):
        if path is not None and path.resolve() in read:
            raise FormatError(f"{path} would be written over what is read")


def _segment(
    arguments: argparse.Namespace, scan: Scan, boxes: list[NamedBox], notes: LabelNotes
) -> None:
    check_labels_name(scan, str(arguments.output))
    starts = None
    if arguments.slice is None and arguments.slices is None:
        own = _own_boxes(scan, boxes)
    else:
        own, starts = _own_boxes_followed(arguments, scan, boxes)
    prompts = check_prompts(scan.pixels, scan.boxes_to_pixels(own), written=own)
    for text in prompts.notes:
        logger.warning("%s: %s", arguments.image, text)
    segmenter = Segmenter(arguments.model_dir, read_settings(arguments))
    label_map = segmenter.pipeline.label_map(scan.pixels, prompts, starts=starts)
    write_labels(scan, label_map, arguments.output, notes)
    if arguments.preview is not None:
        arguments.preview.parent.mkdir(parents=True, exist_ok=True)
        draw = draw_volume_montage if prompts.is_volume else draw_image_overlay
        picture = draw(scan.pixels, prompts.boxes, label_map, objects=prompts.objects)
        write_bytes(arguments.preview, encode_png(picture))
    segmenter.network.wait()
