"""Score label maps against the truth, per case and per modality.

    python -m training.evaluate --predictions out --truth DATA/val
    python -m training.evaluate --model-dir models/float --truth DATA/val

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
from qmedsam.batch.cases import CASE_SUFFIX, read_case, write_label_map
from qmedsam.batch.progress import ProgressBar
from qmedsam.config import PRECISIONS, REGIONS, VOLUME_PROMPTS
from qmedsam.errors import InvalidCaseError
from qmedsam.exit_status import DONE, NOTHING_RAN, SOME_FAILED
from qmedsam.options import at_least
from qmedsam.system.files import write_bytes
from training.scoring.metrics import MODES
from training.scoring.score_tables import (
    case_csv,
    label_csv,
    modality_chart,
    modality_table,
    scores_document,
)
from training.scoring.scores import (
    EvaluationError,
    Pair,
    ScoredCase,
    find_pairs,
    read_truth,
    score_pairs,
)

logger = logging.getLogger(__name__)

CHART_DPI = 110
MAKER_FILE = "predicted_by.json"  # among label maps: the model and how it ran


def check_predictions(folder: Path, segmenter: Segmenter) -> None:
    """Check that label maps in a folder are of this model, and note it where there are none.

    Raises:
        EvaluationError: they are of another one, or nobody knows of which.
    """
    maker = {
        "model": segmenter.network.manifest.sha256,
        "precision": segmenter.network.precision,
        "volume_prompt": segmenter.settings.volume_prompt,
        "regions": segmenter.settings.regions,
    }
    note = folder / MAKER_FILE
    if note.is_file():
        if json.loads(note.read_text(encoding="utf-8")) != maker:
            raise EvaluationError(
                f"{folder} holds label maps of another model, precision, volume prompt or regions; "
                "name another folder"
            )
    elif any(folder.rglob(f"*{CASE_SUFFIX}")):
        raise EvaluationError(
            f"{folder} holds label maps of which {MAKER_FILE} does not say what made them; score "
            "them without --model-dir, or name another folder"
        )
    else:
        write_bytes(note, json.dumps(maker, indent=1).encode())


def with_truth(pairs: list[Pair]) -> list[Pair]:
    """Return the pairs whose truth can be read; others are named.

    Raises:
        EvaluationError: there is none.
    """
    readable = []
    for pair in pairs:
        try:
            read_truth(pair.truth)
            readable.append(pair)
        except EvaluationError as error:
            logger.error("Left out: %s", error)
    if not readable:
        raise EvaluationError(f"None of {len(pairs)} cases has a truth that can be read")
    return readable


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
        epilog="Exit status: 0 all cases scored; 1 a prediction was missing or bad and scored 0, "
        "or a truth could not be read and was left out; 2 nothing could be scored.",
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
        "--regions",
        choices=REGIONS,
        default=Settings.regions,
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
            pairs, cases = _scored(arguments, arguments.predictions or Path(scratch))
        except (EvaluationError, InferenceError, OSError) as error:
            logger.error("%s", error)
            return NOTHING_RAN
    print(write_scores(cases, arguments.output_dir))
    failed = [case for case in cases if case.error is not None]
    for case in failed:
        logger.error("%s scores 0: %s", case.name, case.error)
    return SOME_FAILED if failed or len(cases) < len(pairs) else DONE


def _scored(
    arguments: argparse.Namespace, predictions: Path
) -> tuple[list[Pair], list[ScoredCase]]:
    """Return all pairs, and the scores of those with a truth."""
    if arguments.model_dir is not None and arguments.truth.is_dir():
        predictions.mkdir(parents=True, exist_ok=True)
    pairs = find_pairs(arguments.truth, predictions)
    readable = with_truth(pairs)
    if arguments.model_dir is not None:
        settings = Settings(
            precision=arguments.precision,
            volume_prompt=arguments.volume_prompt,
            regions=arguments.regions,
        )
        with Segmenter(arguments.model_dir, settings) as segmenter:
            check_predictions(predictions, segmenter)
            predict_pairs(readable, segmenter)
    return pairs, score_pairs(readable, arguments.mode, workers=arguments.workers, title="score")


if __name__ == "__main__":
    sys.exit(main())
