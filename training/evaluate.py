"""Score label maps against the truth, per case and per modality.

    python -m training.evaluate --predictions out --truth ../shared/data/val
    python -m training.evaluate --model-dir models/float --truth ../shared/data/val

The truth is a folder of cases with `gts`, one folder per modality or flat. Predictions (`segs`)
lie at the same places, or flat. Written: cases.csv, labels.csv, summary.md, summary.json and
chart.png. See `training.scoring.metrics` for what the modes mean.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import tempfile
from pathlib import Path

from qmedsam import InferenceError, Segmenter, Settings
from qmedsam.batch.cases import read_case, write_label_map
from qmedsam.batch.progress import ProgressBar
from qmedsam.config import PRECISIONS, VOLUME_PROMPTS
from qmedsam.errors import InvalidCaseError
from qmedsam.exit_status import DONE, NOTHING_RAN, SOME_FAILED
from qmedsam.options import at_least
from training.scoring.metrics import MODES
from training.scoring.score_tables import (
    case_csv,
    label_csv,
    modality_chart,
    modality_table,
    scores_document,
)
from training.scoring.scores import EvaluationError, Pair, ScoredCase, find_pairs, score_pairs

logger = logging.getLogger(__name__)

CHART_DPI = 110


def predict_pairs(pairs: list[Pair], segmenter: Segmenter) -> None:
    """Write the missing predictions; a case that fails is named and left out."""
    missing = [pair for pair in pairs if not pair.prediction.is_file()]
    bar = ProgressBar(len(missing), sys.stderr)
    for pair in missing:
        try:
            case = read_case(pair.truth)
            label_map = segmenter.segment(case.pixels, case.boxes)
            pair.prediction.parent.mkdir(parents=True, exist_ok=True)
            write_label_map(pair.prediction, label_map)
        except InvalidCaseError as error:
            logger.error("%s: %s", pair.truth, error)
        bar.advance(f"predict {pair.name}")
    bar.close()


def write_scores(cases: list[ScoredCase], folder: Path) -> str:
    """Write all files of an evaluation into a folder and return its Markdown table."""
    document = scores_document(cases)
    table = modality_table(document)
    (folder / "cases.csv").write_text(case_csv(cases))
    (folder / "labels.csv").write_text(label_csv(cases))
    (folder / "summary.md").write_text(table + "\n")
    (folder / "summary.json").write_text(json.dumps(document, indent=1) + "\n")
    modality_chart(document).savefig(folder / "chart.png", dpi=CHART_DPI)
    return table


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of `python -m training.evaluate`."""
    parser = argparse.ArgumentParser(
        prog="python -m training.evaluate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Exit status: 0 all cases scored, 1 a prediction was missing or bad and scored 0, "
        "2 nothing could be scored.",
    )
    parser.add_argument("--truth", type=Path, required=True, metavar="DIR", help="cases with gts")
    parser.add_argument(
        "--predictions",
        type=Path,
        metavar="DIR",
        help="label maps; with --model-dir, those that are missing are predicted and kept here "
        "(default then: kept nowhere)",
    )
    parser.add_argument(
        "--model-dir", type=Path, metavar="DIR", help="predict in the same run with this model"
    )
    parser.add_argument("--precision", choices=PRECISIONS, default="auto", help="of --model-dir")
    parser.add_argument(
        "--volume-prompt",
        choices=VOLUME_PROMPTS,
        default=Settings.volume_prompt,
        help="of --model-dir (default: %(default)s)",
    )
    parser.add_argument(
        "--mode", nargs="+", choices=MODES, default=list(MODES), help="(default: both)"
    )
    parser.add_argument(
        "--output-dir",
        type=Path,
        default=Path("runs/evaluation"),
        metavar="DIR",
        help="(default: %(default)s)",
    )
    parser.add_argument(
        "--workers",
        type=at_least(1),
        default=len(os.sched_getaffinity(0)),
        metavar="N",
        help="processes (default: one a core)",
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Score a folder; see the exit status in its help."""
    parser = build_parser()
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    if arguments.predictions is None and arguments.model_dir is None:
        parser.error("--predictions or --model-dir is needed")
    with tempfile.TemporaryDirectory() as scratch:
        try:
            arguments.output_dir.mkdir(parents=True, exist_ok=True)
            cases = _scored(arguments, arguments.predictions or Path(scratch))
        except (EvaluationError, InferenceError, OSError) as error:
            logger.error("%s", error)
            return NOTHING_RAN
    print(write_scores(cases, arguments.output_dir))
    failed = [case for case in cases if case.error is not None]
    for case in failed:
        logger.error("%s scores 0: %s", case.name, case.error)
    return SOME_FAILED if failed else DONE


def _scored(arguments: argparse.Namespace, predictions: Path) -> list[ScoredCase]:
    if arguments.model_dir is not None and arguments.truth.is_dir():
        predictions.mkdir(parents=True, exist_ok=True)
    pairs = find_pairs(arguments.truth, predictions)
    if arguments.model_dir is not None:
        settings = Settings(precision=arguments.precision, volume_prompt=arguments.volume_prompt)
        predict_pairs(pairs, Segmenter(arguments.model_dir, settings))
    return score_pairs(pairs, arguments.mode, workers=arguments.workers, title="score")


if __name__ == "__main__":
    sys.exit(main())
