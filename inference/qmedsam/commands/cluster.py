"""`qmedsam cluster`: every case of a folder, on the machines of a Ray cluster."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from dataclasses import replace

from ..cluster import LOCAL
from ..errors import UsageError
from ..exit_status import OF_FOLDERS
from ..options import add_model_options, at_least, read_settings
from ..system.files import make_writable
from ..system.signals import stop_on_signals
from .extras import needs_extra
from .folder_options import add_case_options, read_on_error
from .places import Places, check_places

HELP = "segment every case of a folder on the machines of a Ray cluster"
EXAMPLES = """\
  qmedsam cluster -i cases -o masks
  qmedsam cluster -i /shared/cases -o /shared/masks --address auto --resume
  qmedsam cluster -i s3://bucket/cases -o s3://bucket/masks --address head:6379"""
EXTRA = "cluster"
EXIT_STATUS = OF_FOLDERS


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "-i",
        "--input-dir",
        required=True,
        metavar="DIR|URL",
        help="folder of the cases that all machines see, or a URL of fsspec (s3://..., gs://...)",
    )
    parser.add_argument(
        "-o", "--output-dir", required=True, metavar="DIR|URL", help="the same for label maps"
    )
    parser.add_argument(
        "--address",
        default=LOCAL,
        help="HOST:PORT of the cluster; auto is the one that this machine belongs to (default: "
        "%(default)s, one of this machine alone, for this run)",
    )
    parser.add_argument(
        "--workers",
        type=at_least(1),
        metavar="N",
        help="how many (default: as many as cores and memory have room for)",
    )
    add_model_options(parser)
    add_case_options(parser)
    parser.add_argument("--quiet", action="store_true", help="say nothing but errors")


def execute(arguments: argparse.Namespace) -> int:
    """Segment all cases and report."""
    with needs_extra(EXTRA):  # not at the top, for the help is there without it
        from ..cluster import driver
        from ..cluster.storage import absolute_storage
        from ..cluster.worker import Job
    started = time.perf_counter()  # behind the import of Ray, which takes seconds
    logging.getLogger(driver.__package__).setLevel(
        logging.ERROR if arguments.quiet else logging.INFO
    )
    settings = read_settings(arguments)
    cache_dir, model_dir = settings.cache_dir, arguments.model_dir
    try:
        job = Job(
            inputs=absolute_storage(arguments.input_dir),
            outputs=absolute_storage(arguments.output_dir),
            settings=replace(settings, cache_dir=cache_dir and cache_dir.absolute()),
            model_dir=model_dir and model_dir.absolute(),
            on_error=read_on_error(arguments),
            keeps_earlier=arguments.resume,
            overwrites=arguments.overwrite,
        )
        with stop_on_signals():
            places = Places(
                inputs=job.inputs.folder,
                label_maps=job.outputs.folder,
                report=arguments.report,
                cache_dir=cache_dir,
                model_dir=model_dir,
                variant=settings.variant,
            )
            check_places(places, overwrites=arguments.overwrite)
            names = driver.list_names(job)
            if arguments.report is not None:
                make_writable(arguments.report.parent)
            return driver.run_on_cluster(
                job,
                names,
                address=arguments.address,
                workers=arguments.workers,
                stream=None if arguments.quiet else sys.stderr,
                report=arguments.report,
                started=started,
            )
    except OSError as error:
        raise UsageError(str(error)) from error
