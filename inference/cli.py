"""The command: arguments, logging and exit status."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
import time
from pathlib import Path

from .batch import Folders, run_batch
from .cases import list_cases, write_bytes
from .config import PRECISIONS, VOLUME_PROMPTS, Settings
from .errors import InferenceError
from .progress import ProgressBar
from .report import CaseRecord, render_report
from .segmenter import Segmenter
from .version import __version__

logger = logging.getLogger(__name__)

DONE, SOME_FAILED, NOTHING_RAN = 0, 1, 2
CACHE_VARIABLE = "QMEDSAM_CACHE_DIR"


class UsageError(InferenceError):
    """A folder or file that the command was given cannot be used."""


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of the command."""
    parser = argparse.ArgumentParser(
        prog="qmedsam",
        description="Segment every case (.npz with imgs and boxes) of a folder.",
        epilog="Exit status: 0 all cases done, 1 some case failed, 2 nothing could run.",
    )
    parser.add_argument(
        "-i", "--input-dir", type=Path, required=True, metavar="DIR", help="folder of the cases"
    )
    parser.add_argument(
        "-o", "--output-dir", type=Path, required=True, metavar="DIR", help="folder for label maps"
    )
    parser.add_argument(
        "--model-dir", type=Path, metavar="DIR", help="exported model (default: the one that ships)"
    )
    parser.add_argument(
        "--volume-prompt",
        choices=VOLUME_PROMPTS,
        default=Settings.volume_prompt,
        help="fixed: the object's box on each slice; propagate: from the middle slice outward, the "
        "box of the neighbour's mask (default: %(default)s)",
    )
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        default=Settings.precision,
        help="of the products; auto is what the processor runs fastest (default: %(default)s)",
    )
    parser.add_argument(
        "--threads", type=_count, default=0, metavar="N", help="0 is automatic (default: 0)"
    )
    parser.add_argument(
        "--block-size",
        type=_block_size,
        default="auto",
        metavar="N|auto",
        help="most boxes decoded at once; auto goes by the memory limit (default: auto)",
    )
    parser.add_argument(
        "--cache-dir",
        type=Path,
        default=default_cache_dir(),
        metavar="DIR",
        help=f"folder for compiled models; unused when unwritable (default: ${CACHE_VARIABLE} or "
        "qmedsam in the user's cache folder)",
    )
    parser.add_argument(
        "--overlay-dir", type=Path, metavar="DIR", help="also draw a picture of each case here"
    )
    parser.add_argument(
        "--report", type=Path, metavar="FILE", help="also write what happened as JSON here"
    )
    volume = parser.add_mutually_exclusive_group()
    volume.add_argument("--verbose", action="store_true", help="say what is done")
    volume.add_argument("--quiet", action="store_true", help="say nothing but errors")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command; see the exit status in its help."""
    started = time.perf_counter()
    arguments = build_parser().parse_args(argv)
    _set_up_logging(arguments)
    try:
        paths = _cases(arguments)
        folders = Folders(_writable(arguments.output_dir), _optional(arguments.overlay_dir))
        if arguments.report is not None:
            _writable(arguments.report.parent)
        segmenter = Segmenter(arguments.model_dir, _settings(arguments))
    except InferenceError as error:
        logger.error("%s", error)
        return NOTHING_RAN
    start_s = time.perf_counter() - started
    logger.info(
        "%d cases, precision %s, %d threads", len(paths), segmenter.network.precision,
        segmenter.network.threads,
    )  # fmt: skip
    bar = ProgressBar(0 if arguments.quiet else len(paths), sys.stderr)

    def on_case(record: CaseRecord) -> None:
        bar.advance(record.name)
        logger.info("%s: %.2f s", record.name, record.total_s)

    records = run_batch(segmenter, paths, folders, on_case)
    bar.close()
    if arguments.report is not None:
        document = render_report(segmenter, records, start_s=start_s)
        write_bytes(arguments.report, document.encode())
    failed = sum(record.error is not None for record in records)
    if failed:
        logger.error("%d of %d cases failed", failed, len(records))
    return SOME_FAILED if failed else DONE


def default_cache_dir() -> Path:
    """Return the cache folder of the environment or of the user."""
    if named := os.environ.get(CACHE_VARIABLE):
        return Path(named)
    user = os.environ.get("XDG_CACHE_HOME")
    return (Path(user) if user else Path("~/.cache").expanduser()) / "qmedsam"


def _set_up_logging(arguments: argparse.Namespace) -> None:
    level = logging.INFO if arguments.verbose else logging.WARNING
    level = logging.ERROR if arguments.quiet else level
    logging.basicConfig(level=level, format="%(levelname)s: %(message)s", stream=sys.stderr)


def _settings(arguments: argparse.Namespace) -> Settings:
    return Settings(
        precision=arguments.precision,
        threads=arguments.threads,
        block_size=None if arguments.block_size == "auto" else arguments.block_size,
        volume_prompt=arguments.volume_prompt,
        cache_dir=_usable_cache(arguments.cache_dir),
    )


def _cases(arguments: argparse.Namespace) -> list[Path]:
    folder = arguments.input_dir
    if not folder.is_dir():
        raise UsageError(f"Input folder {folder} does not exist")
    if arguments.output_dir.exists() and folder.samefile(arguments.output_dir):
        raise UsageError(f"Output folder {folder} is the input folder: cases would be overwritten")
    paths = list_cases(folder)
    if not paths:
        raise UsageError(f"Input folder {folder} has no .npz files")
    return paths


def _writable(folder: Path) -> Path:
    """Make a folder and check that files can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        raise UsageError(f"Folder {folder} cannot be written: {error}") from error


def _optional(folder: Path | None) -> Path | None:
    return None if folder is None else _writable(folder)


def _usable_cache(folder: Path) -> Path | None:
    try:
        return _writable(folder)
    except UsageError as error:
        logger.info("No cache of compiled models: %s", error)
        return None


def _count(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"must be 0 or more, got {value}")
    return value


def _block_size(text: str) -> int | str:
    if text == "auto":
        return text
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more, or auto, got {value}")
    return value
