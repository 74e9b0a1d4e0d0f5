"""Label maps of an earlier checkout and of this one, pixel by pixel and by their scores.

    python -m benchmarks.masks --before ../before

Both run by `predict.sh` on the same cases, the float model in f32 and the int8 model as a user
gets it. Label maps are kept in the work folder and not made again while the models are the same.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.accuracy import score_folder
from benchmarks.cases import SERVICES
from benchmarks.harness.command import keep_record, run_command
from benchmarks.harness.measured import check_status
from benchmarks.harness.process import ROOT, run_predict_script
from benchmarks.harness.record import RESULTS_DIR, write_record
from benchmarks.harness.split import WEIGHTS_MARK, add_data_options, case_paths
from qmedsam.batch.case_file import SEGS_KEY
from qmedsam.batch.cases import CASE_SUFFIX
from qmedsam.batch.progress import ProgressBar
from qmedsam.core.contract import MANIFEST_FILE
from qmedsam.model.manifest import file_sha256
from qmedsam.system.files import write_bytes

DEFAULT_RECORD = RESULTS_DIR / "masks.json"
COMPARED = ("f32", "int8")  # of the services


def claim(folder: Path, checkout: Path, *, service: str) -> None:
    """Make a folder for the label maps of a checkout, or go on in it.

    Raises:
        FileExistsError: what is there is of another checkout or model.
    """
    weights = checkout / "models" / SERVICES[service][0] / MANIFEST_FILE
    wanted = f"{checkout.resolve()} {file_sha256(weights)}"
    mark = folder / WEIGHTS_MARK
    if folder.is_dir() and not (mark.is_file() and mark.read_text() == wanted):
        raise FileExistsError(f"{folder} holds label maps of another model; delete it")
    folder.mkdir(parents=True, exist_ok=True)
    write_bytes(mark, wanted.encode())


def predict(checkout: Path, inputs: Path, *, outputs: Path, service: str) -> None:
    """Write the label maps of a folder of cases, unless they are there.

    Raises:
        RunError: some are not written.
    """
    names = {path.name for path in inputs.glob(f"*{CASE_SUFFIX}")}
    if all((outputs / name).is_file() for name in names):
        return
    variant, precision = SERVICES[service]
    options = ["--quiet", "--variant", variant, "--precision", precision]
    check_status(run_predict_script(inputs, outputs, folder=checkout, options=options))


def count_differences(before: Path, now: Path) -> tuple[int, int]:
    """Return how many pixels two label maps differ in, and how many they have.

    Raises:
        ValueError: their shapes differ.
    """
    with np.load(before) as old, np.load(now) as new:
        first, second = old[SEGS_KEY], new[SEGS_KEY]
    if first.shape != second.shape:
        raise ValueError(f"{now} must have shape {first.shape} as {before}, got {second.shape}")
    return int((first != second).sum()), first.size


def compare_service(
    folders: dict[str, Path], paths: Sequence[Path]
) -> tuple[dict[str, dict[str, float]], dict[str, Any]]:
    """Compare what two checkouts made of the same cases.

    Args:
        folders: of label maps by modality, as `before` and `now`.
        paths: of the cases with their truth.

    Returns:
        By modality the cases, pixels, pixels that differ and the largest share of a case that
        does; and the documents of `scores_document` by the folders' names.
    """
    by_modality: dict[str, dict[str, float]] = defaultdict(
        lambda: {"cases": 0, "pixels": 0, "differing": 0, "worst_share": 0.0}
    )
    for path in paths:
        place = Path(path.parent.name) / path.name
        differing, pixels = count_differences(folders["before"] / place, folders["now"] / place)
        entry = by_modality[path.parent.name]
        entry["cases"] += 1
        entry["pixels"] += pixels
        entry["differing"] += differing
        entry["worst_share"] = max(entry["worst_share"], differing / pixels)
    scores = {name: score_folder(folder, paths, title=name) for name, folder in folders.items()}
    return dict(by_modality), scores


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of `python -m benchmarks.masks`."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.masks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--before", type=Path, metavar="DIR", required=True, help="a checkout to compare with"
    )
    add_data_options(parser, DEFAULT_RECORD)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run both checkouts, print the differences and write the record."""
    parser = build_parser()
    arguments = parser.parse_args(argv)
    keep_record(parser, arguments, ["data"])

    def body() -> int:
        paths = case_paths(arguments.data)
        modalities = sorted({path.parent for path in paths})
        checkouts = {"before": arguments.before, "now": ROOT}
        bar = ProgressBar(len(COMPARED) * len(checkouts) * len(modalities), sys.stderr)
        services = {}
        for service in COMPARED:
            folders = {name: arguments.work_dir / f"{name}-{service}" for name in checkouts}
            for name, checkout in checkouts.items():
                claim(folders[name], checkout, service=service)
                for inputs in modalities:
                    outputs = folders[name] / inputs.name
                    predict(checkout, inputs, outputs=outputs, service=service)
                    bar.advance(f"{name}, {service}: {inputs.name}")
            differences, scores = compare_service(folders, paths)
            services[service] = {"differences": differences, "scores": scores}
            for modality, found in differences.items():
                print(
                    f"{service} {modality}: {found['differing']} of {found['pixels']} pixels "
                    f"differ, at most {found['worst_share']:.1e} of a case"
                )
        bar.close()
        write_record(arguments.json, {"services": services})
        return 0

    return run_command(body)


if __name__ == "__main__":
    sys.exit(main())
