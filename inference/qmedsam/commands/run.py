"""`qmedsam run`: every case of a folder, on this machine.

Whatever is wrong with the folders is found before the first case, and so is what is wrong with the
model, but for its decoder, which is waited for when it is needed.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from pathlib import Path

from ..batch.cases import list_cases
from ..batch.cost import grids_of, planner_of
from ..batch.outputs import Outputs
from ..batch.report import CaseRecord, describe_model
from ..batch.results import maker_of
from ..batch.run import ReadAhead, run_batch
from ..batch.shards import Shard, cases_of_shard
from ..batch.summary import RunSummary
from ..errors import UsageError
from ..exit_status import OF_FOLDERS
from ..model.compiling import precision_of
from ..model.manifest import read_manifest
from ..model.variant import find_model
from ..options import add_model_options, read_settings
from ..segmenter import Segmenter
from ..system.files import make_writable, printable
from ..system.memory import check_memory
from ..system.signals import Stopped, ignore_stops, stop_on_signals
from .folder_options import add_case_options, read_on_error
from .places import Places, check_places

logger = logging.getLogger(__name__)

HELP = "segment every case (.npz with imgs and boxes) of a folder"
EXAMPLES = """\
  qmedsam run -i cases -o masks
  qmedsam -i cases -o masks --overlay-dir pictures --report report.json
  qmedsam run -i cases -o masks --shard 0/16 --resume"""
EXIT_STATUS = OF_FOLDERS


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "-i", "--input-dir", type=Path, required=True, metavar="DIR", help="folder of the cases"
    )
    parser.add_argument(
        "-o", "--output-dir", type=Path, required=True, metavar="DIR", help="folder for label maps"
    )
    parser.add_argument(
        "--overlay-dir", type=Path, metavar="DIR", help="also draw a picture of each case here"
    )
    add_model_options(parser)
    add_case_options(parser)
    parser.add_argument(
        "--shard",
        type=_shard,
        metavar="I/N",
        help="run the I-th of N parts of the folder, from 0, of about equal work; for job arrays",
    )
    verbosity = parser.add_mutually_exclusive_group()
    verbosity.add_argument("--verbose", action="store_true", help="say what is done")
    verbosity.add_argument("--quiet", action="store_true", help="say nothing but errors")


def execute(arguments: argparse.Namespace) -> int:
    """Segment all cases and report."""
    started = time.perf_counter()
    with stop_on_signals():
        check_memory()
        paths = _cases(arguments)
        outputs = _outputs(arguments)
        summary = RunSummary(len(paths), None if arguments.quiet else sys.stderr, started=started)
        cases = ReadAhead(paths, outputs)  # the first is read while the model is compiled
        try:
            return _run(arguments, cases, summary)
        except BaseException:
            cases.abandon()
            raise
        finally:
            cases.close()


def _run(arguments: argparse.Namespace, cases: ReadAhead, summary: RunSummary) -> int:
    settings = read_settings(arguments)
    planner = planner_of(settings, arguments.model_dir)
    grids = grids_of(cases.first_outline(), planner)
    segmenter = Segmenter(arguments.model_dir, settings, grids=grids)
    network = segmenter.network
    stop: Stopped | None = None

    def on_case(record: CaseRecord) -> None:
        summary.add(record)
        logger.info("%s: %.2f s", printable(record.name), record.total_s)

    try:
        summary.begin()
        logger.info(
            "%d cases, %s with %s weights, the other layers in %s, %d threads",
            len(cases),
            network.manifest.name,
            network.manifest.precision,
            network.precision,
            network.threads,
        )
        run_batch(segmenter, cases, on_case=on_case)
        ignore_stops()
        network.wait()
    except Stopped as caught:
        stop = caught
        cases.abandon()
    finally:
        summary.close()
    return summary.finish(arguments.report, lambda: describe_model(segmenter), stop=stop)


def _cases(arguments: argparse.Namespace) -> list[Path]:
    folder = arguments.input_dir
    try:
        if not folder.is_dir():
            if folder.exists():
                raise UsageError(
                    f"Input {folder} must be a folder of cases (.npz), got a file; for one file: "
                    "qmedsam segment --help"
                )
            raise UsageError(f"Input folder {folder} does not exist")
        paths = list_cases(folder)
        if not paths:
            raise UsageError(f"Input folder {folder} has no .npz files")
        if arguments.shard is None:
            return paths
        planner = planner_of(read_settings(arguments), arguments.model_dir)
        return cases_of_shard(paths, arguments.shard, planner)
    except OSError as error:
        raise UsageError(f"Input folder {folder} cannot be read: {error}") from error


def _outputs(arguments: argparse.Namespace) -> Outputs:
    report, overlay_dir = arguments.report, arguments.overlay_dir
    on_error, maker = read_on_error(arguments), _maker(arguments)
    places = Places(
        inputs=arguments.input_dir,
        label_maps=arguments.output_dir,
        pictures=overlay_dir,
        report=report,
        cache_dir=arguments.cache_dir,
        model_dir=arguments.model_dir,
        variant=arguments.variant,
    )
    check_places(places, overwrites=arguments.overwrite)
    if report is not None:
        _writable(report.parent)
    return Outputs(
        output_dir=_writable(arguments.output_dir),
        overlay_dir=None if overlay_dir is None else _writable(overlay_dir),
        measures_memory=report is not None,
        on_error=on_error,
        maker=maker,
        keeps_earlier=arguments.resume,
        overwrites=arguments.overwrite,
    )


def _maker(arguments: argparse.Namespace) -> str:
    """Return what tells the model and its settings from others.

    Raises:
        ModelError: there is no such model, or this processor cannot run it as asked.
    """
    settings = read_settings(arguments)
    manifest = read_manifest(find_model(arguments.model_dir, settings.variant))
    return maker_of(manifest, precision_of(settings), settings)


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
