"""The command: arguments, logging and exit status.

Standard error takes all messages; standard output stays free. Whatever is wrong with the folders
is found before the first case, and so is what is wrong with the model, but for its decoder, which
is waited for when it is needed.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from contextlib import closing
from importlib import import_module
from pathlib import Path

from .batch.cases import list_cases
from .batch.progress import ProgressBar
from .batch.report import CaseRecord, Start, describe_model, render_report
from .batch.run import Outputs, ReadAhead, run_batch
from .batch.shards import Shard, cases_of_shard
from .errors import InferenceError
from .options import add_fault_options, add_model_options, check_fault_options, read_settings
from .segmenter import Segmenter
from .system.files import make_writable, printable, write_bytes
from .system.memory import peak_memory_bytes
from .system.signals import Stopped, ignore_stops, stop_on_signals
from .version import __version__

logger = logging.getLogger(__name__)

DONE, SOME_FAILED, NOTHING_RAN = 0, 1, 2
# Package and extra of each command that needs more packages than the folder command.
COMMANDS = {
    "segment": ("formats", "io"),
    "convert": ("formats", "io"),
    "serve": ("web", "web"),
    "cluster": ("cluster", "cluster"),
}


class UsageError(InferenceError):
    """A folder or file that the command was given cannot be used."""


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of the command."""
    parser = argparse.ArgumentParser(
        prog="qmedsam",
        description="Segment every case (.npz with imgs and boxes) of a folder. A single file of "
        "another format: qmedsam segment --help, qmedsam convert --help; a page in the browser: "
        "qmedsam serve --help.",
        epilog="Exit status: 0 all cases done, 1 some case failed, 2 nothing could run; stopped by "
        "a signal, 128 and its number.",
    )
    _add_folders(parser)
    add_model_options(parser)
    add_fault_options(parser)
    parser.add_argument(
        "--shard",
        type=_shard,
        metavar="I/N",
        help="run the I-th of N parts of the folder, from 0, of about equal work; for job arrays",
    )
    volume = parser.add_mutually_exclusive_group()
    volume.add_argument("--verbose", action="store_true", help="say what is done")
    volume.add_argument("--quiet", action="store_true", help="say nothing but errors")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command; see the exit status in its help."""
    started = time.perf_counter()
    words = sys.argv[1:] if argv is None else argv
    if words and words[0] in COMMANDS:
        return _run_command(words)
    parser = build_parser()
    arguments = parser.parse_args(words)
    check_fault_options(parser, arguments)
    _set_up_logging(arguments)
    try:
        with stop_on_signals():
            paths = _cases(arguments)
            outputs = _outputs(arguments)
            # The first case is read while the model is compiled.
            with closing(ReadAhead(paths, outputs)) as cases:
                return _run(arguments, cases, started=started)
    except InferenceError as error:
        logger.error("%s", error)
        return NOTHING_RAN
    except Stopped as stop:
        logger.error("Stopped by %s before the first case", stop)
        return stop.status


def _run_command(words: list[str]) -> int:
    """Run a command that needs more packages than the folder command."""
    package, extra = COMMANDS[words[0]]
    try:
        command = import_module(f".{package}.command", __package__)
    except ImportError as error:
        print(
            f"qmedsam {words[0]} needs more packages: pip install 'qmedsam[{extra}]' ({error})",
            file=sys.stderr,
        )
        return NOTHING_RAN
    return int(command.main(words))


def _run(arguments: argparse.Namespace, cases: ReadAhead, *, started: float) -> int:
    """Segment all cases and report; return the exit status.

    Raises:
        ModelError: the model cannot be run.
    """
    segmenter = Segmenter(arguments.model_dir, read_settings(arguments))
    network = segmenter.network
    records: list[CaseRecord] = []
    stop: Stopped | None = None
    bar = ProgressBar(len(cases), None if arguments.quiet else sys.stderr)

    def on_case(record: CaseRecord) -> None:
        records.append(record)
        bar.advance(record.name)
        logger.info("%s: %.2f s", printable(record.name), record.total_s)

    try:
        start = Start(time.perf_counter() - started, peak_memory_bytes())
        logger.info(
            "%d cases, %s with %s weights, the rest %s, %d threads",
            len(cases),
            network.manifest.name,
            network.manifest.precision,
            network.precision,
            network.threads,
        )
        run_batch(segmenter, cases, on_case=on_case)
        ignore_stops()
    except Stopped as caught:
        stop = caught
    finally:
        bar.close()
        network.wait()
    failed = sum(record.error is not None for record in records)
    if failed:
        logger.error("%d of %d cases failed", failed, len(records))
    if stop is not None:
        logger.error("Stopped by %s after %d of %d cases", stop, len(records), len(cases))
    status = SOME_FAILED if failed else DONE
    if arguments.report is not None:
        try:
            model = describe_model(segmenter)
            report = render_report(model, records, start, str(stop) if stop else None)
            write_bytes(arguments.report, report.encode())
        except OSError as error:
            logger.error("Report %s cannot be written: %s", arguments.report, error)
            status = SOME_FAILED
    return status if stop is None else stop.status


def _add_folders(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-i", "--input-dir", type=Path, required=True, metavar="DIR", help="folder of the cases"
    )
    parser.add_argument(
        "-o", "--output-dir", type=Path, required=True, metavar="DIR", help="folder for label maps"
    )
    parser.add_argument(
        "--overlay-dir", type=Path, metavar="DIR", help="also draw a picture of each case here"
    )
    parser.add_argument(
        "--report", type=Path, metavar="FILE", help="also write what happened as JSON here"
    )


def _set_up_logging(arguments: argparse.Namespace) -> None:
    level = logging.INFO if arguments.verbose else logging.WARNING
    level = logging.ERROR if arguments.quiet else level
    logging.basicConfig(level=level, format="%(levelname)s: %(message)s", stream=sys.stderr)


def _cases(arguments: argparse.Namespace) -> list[Path]:
    folder = arguments.input_dir
    try:
        if not folder.is_dir():
            raise UsageError(f"Input folder {folder} does not exist")
        if arguments.output_dir.exists() and folder.samefile(arguments.output_dir):
            raise UsageError(
                f"Output folder {folder} is the input folder, whose cases it would lose"
            )
        paths = list_cases(folder)
        if not paths:
            raise UsageError(f"Input folder {folder} has no .npz files")
        return paths if arguments.shard is None else cases_of_shard(paths, arguments.shard)
    except OSError as error:
        raise UsageError(f"Input folder {folder} cannot be read: {error}") from error


def _outputs(arguments: argparse.Namespace) -> Outputs:
    report, overlay_dir = arguments.report, arguments.overlay_dir
    for folder in (overlay_dir, None if report is None else report.parent, arguments.cache_dir):
        if folder is not None and folder.resolve() in (
            arguments.input_dir.resolve(),
            arguments.output_dir.resolve(),
        ):
            raise UsageError(f"Folder {folder} is kept for cases or label maps alone")
    if report is not None:
        _writable(report.parent)
        if report.is_dir():
            raise UsageError(f"Report {report} must be a file, got a folder")
    return Outputs(
        output_dir=_writable(arguments.output_dir),
        overlay_dir=None if overlay_dir is None else _writable(overlay_dir),
        measures_memory=report is not None,
        on_error=arguments.on_error,
        keeps_earlier=arguments.resume,
    )


def _shard(text: str) -> Shard:
    try:
        return Shard.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _writable(folder: Path) -> Path:
    try:
        return make_writable(folder)
    except OSError as error:
        raise UsageError(f"Folder {folder} cannot be written: {error}") from error
