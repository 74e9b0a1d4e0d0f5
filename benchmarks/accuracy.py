"""DSC and NSD per modality of the PyTorch baseline, the service and its peers.

    python -m benchmarks.accuracy

Images and volumes are scored whole. The baseline remembers the embeddings of a case between its
boxes, which changes its time and not its masks. Models that do not exist are left out.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness.command import keep_record, run_command
from benchmarks.harness.methods import baseline_method, service_method
from benchmarks.harness.models import (
    NNCF_DIR,
    NNCF_TITLE,
    OWN_INT8_DIR,
    OWN_INT8_TITLE,
    PLAIN_DIR,
    is_made_from,
)
from benchmarks.harness.record import RESULTS_DIR, write_record
from benchmarks.harness.split import Method, add_data_options, case_paths, predict_cases
from qmedsam import Settings
from qmedsam.config import Precision
from training.checkpoint import DEFAULT_PATH
from training.scoring.metrics import MODES
from training.scoring.score_tables import modality_table, scores_document
from training.scoring.scores import Pair, score_pairs

logger = logging.getLogger(__name__)

DEFAULT_RECORD = RESULTS_DIR / "accuracy.json"
# Folder and title of quantized models; their float remainder runs in either precision.
QUANTIZED = {"nncf": (NNCF_DIR, NNCF_TITLE), "qat": (OWN_INT8_DIR, OWN_INT8_TITLE)}
PRECISIONS: tuple[Precision, ...] = ("f32", "bf16")


def compared_methods(checkpoint: Path, precisions: Sequence[Precision]) -> list[Method]:
    """Return the columns of the table."""
    methods = [baseline_method(checkpoint)]
    for precision in precisions:
        methods.append(shipped_method(precision))
        methods.extend(quantized_methods(precision))
    return methods


def shipped_method(precision: Precision) -> Method:
    """Return the service with the float model that ships."""
    return service_method(
        Settings(variant="float", precision=precision), title=f"service {precision}"
    )


def quantized_methods(precision: Precision) -> list[Method]:
    """Return the service with each quantized model that exists; a missing one is logged."""
    methods = []
    for name, (folder, title) in QUANTIZED.items():
        if not folder.is_dir():
            logger.warning("%s is left out: %s does not exist", title, folder)
        elif folder == NNCF_DIR and not is_made_from(folder, PLAIN_DIR):
            logger.warning("%s is left out: %s is of another float model", title, folder)
        else:
            methods.append(_quantized_method(name, precision))
    return methods


def our_method(precision: Precision) -> Method:
    """Return the service with our own quantized model, or the float one while there is none."""
    is_quantized = OWN_INT8_DIR.is_dir()
    return _quantized_method("qat", precision) if is_quantized else shipped_method(precision)


def _quantized_method(name: str, precision: Precision) -> Method:
    folder, title = QUANTIZED[name]
    settings = Settings(precision=precision)
    words = f"{title}, rest {precision}"
    return service_method(settings, title=words, model=name, model_dir=folder)


def score_methods(
    methods: Sequence[Method], paths: Sequence[Path], work_dir: Path
) -> dict[str, Any]:
    """Predict and score the cases by each method.

    Returns:
        The documents of `scores_document` by the methods' titles.
    """
    documents = {}
    for method in methods:
        folder = predict_cases(method, paths, work_dir)
        documents[method.title] = score_folder(folder, paths, title=method.title)
        print(f"{method.title}\n\n{modality_table(documents[method.title])}\n", flush=True)
    return documents


def score_folder(folder: Path, paths: Sequence[Path], *, title: str) -> dict[str, Any]:
    """Score the label maps `folder`/<Modality>/ of cases, as `scores_document`."""
    pairs = [Pair(path.parent.name, path, folder / path.parent.name / path.name) for path in paths]
    workers = len(os.sched_getaffinity(0))
    return scores_document(score_pairs(pairs, MODES, workers=workers, title=f"score {title}"))


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of `python -m benchmarks.accuracy`."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.accuracy",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_data_options(parser, DEFAULT_RECORD)
    parser.add_argument(
        "--checkpoint", type=Path, default=DEFAULT_PATH, help="weights (default: %(default)s)"
    )
    parser.add_argument(
        "--precision",
        nargs="+",
        choices=PRECISIONS,
        default=list(PRECISIONS),
        help="of the service's float products (default: both)",
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Print a table per method and write the record."""
    parser = build_parser()
    arguments = parser.parse_args(argv)
    keep_record(parser, arguments, ["precision", "data"])

    def body() -> int:
        methods = compared_methods(arguments.checkpoint, arguments.precision)
        documents = score_methods(methods, case_paths(arguments.data), arguments.work_dir)
        write_record(arguments.json, {"methods": documents})
        return 0

    return run_command(body)


if __name__ == "__main__":
    sys.exit(main())
