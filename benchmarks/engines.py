"""Tables 5 and 6: engines side by side on LiteMedSAM and MedSAM, one image with one box.

Each row runs in processes of its own, the rows in turn and in several rounds, with a fixed number
of threads. MedSAM has random weights unless its checkpoint is given: its speed is the same. A row
whose model does not exist is left out; int8 by NNCF is made where it is missing, which takes
minutes. "As exported" are the graphs of the ONNX files, which are what NNCF quantizes.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.harness.command import Command
from benchmarks.harness.options import add_choices, add_count, add_path
from benchmarks.harness.peers import (
    NNCF_DIR,
    NNCF_TITLE,
    OWN_INT8_DIR,
    OWN_INT8_TITLE,
    PLAIN_DIR,
    PLAIN_TITLE,
    has_onnx,
    is_exported,
    is_made_from,
)
from benchmarks.harness.record import RESULTS_DIR, write_record
from benchmarks.harness.timed_engine import PARTS, Task, torch_network
from benchmarks.nncf_int8 import DEFAULT_CALIBRATION, calibration_samples, quantize_model
from qmedsam.batch.progress import ProgressBar
from qmedsam.model.manifest import file_sha256, read_manifest
from qmedsam.model.variant import default_model_dir
from qmedsam.options import at_least
from training.graphs.check import ExportError
from training.graphs.inference_graphs import inference_graphs, plain_graphs
from training.graphs.model_folder import Source, export_network
from training.published import DEFAULT_PATH, CheckpointError

logger = logging.getLogger(__name__)

OURS = "as served"
NETWORKS = {"lite_medsam": "LiteMedSAM", "medsam": "MedSAM"}
WORK_DIR = Path("runs/engines")
SAMPLES = {"lite_medsam": 300, "medsam": 8}  # of calibration; MedSAM's are for speed only
TORCH_PRECISIONS = {
    "f32": "f32",
    "bf16 (autocast)": "bf16",
    "int8 (dynamic, linear layers)": "int8",
}


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Attributes:
        network: LiteMedSAM or MedSAM.
        engine: PyTorch, ONNX Runtime or OpenVINO.
        precision: of the layers, in words.
        task: that is timed for it.
    """

    network: str
    engine: str
    precision: str
    task: Task


def network_rows(network: str, folders: dict[str, Path], checkpoint: Path | None) -> list[Row]:
    """Return the rows of a network.

    Args:
        network: lite_medsam or medsam.
        folders: of the models that exist, by their titles.
        checkpoint: for PyTorch.
    """
    made = []
    for words, precision in TORCH_PRECISIONS.items():
        task = Task("pytorch", precision, network, checkpoint=str(checkpoint or ""))
        made.append(Row(NETWORKS[network], "PyTorch", words, task))
    for name, folder in folders.items():
        if has_onnx(folder) and name != OURS:  # whose ONNX files are those of the plain one
            words = "f32" if name == PLAIN_TITLE else name
            task = Task("onnxruntime", model_dir=str(folder))
            made.append(Row(NETWORKS[network], "ONNX Runtime", words, task))
    for name, folder in folders.items():
        for precision in ("f32", "bf16"):
            is_float = name in (PLAIN_TITLE, OURS)
            words = f"{precision}, {name}" if is_float else f"{name}, other layers in {precision}"
            task = Task("openvino", precision, model_dir=str(folder))
            made.append(Row(NETWORKS[network], "OpenVINO", words, task))
    return made


def prepare_models(network: str, checkpoint: Path | None, calibration: Path) -> dict[str, Path]:
    """Return the folders of the models of a network; missing ones are made where that is possible.

    Raises:
        FileNotFoundError: there is no image to calibrate with.
    """
    if network == "lite_medsam":
        folders = {PLAIN_TITLE: PLAIN_DIR, NNCF_TITLE: NNCF_DIR, OURS: default_model_dir("float")}
        if OWN_INT8_DIR.is_dir():
            folders[OWN_INT8_TITLE] = OWN_INT8_DIR
        checkpoint = DEFAULT_PATH
    else:
        name = f"medsam_{file_sha256(checkpoint)[:8]}" if checkpoint else "medsam_random"
        folders = {
            PLAIN_TITLE: WORK_DIR / f"{name}_plain",
            NNCF_TITLE: WORK_DIR / f"{name}_nncf_int8",
            OURS: WORK_DIR / name,
        }
    graphs = {PLAIN_TITLE: plain_graphs, OURS: inference_graphs}
    for title, graphs_of in graphs.items():
        if not is_exported(folders[title]):
            logger.info("Exporting %s, %s", NETWORKS[network], title)
            source = Source(network, torch_network(network, checkpoint), checkpoint)
            export_network(source, folders[title], graphs_of)
    quantized, plain = folders[NNCF_TITLE], folders[PLAIN_TITLE]
    if not is_made_from(quantized, plain):
        logger.info("Quantizing %s with NNCF", NETWORKS[network])
        size = read_manifest(plain).image_size
        samples = calibration_samples(calibration, size, SAMPLES[network])
        quantize_model(plain, samples, quantized)
    return folders


def time_rows(rows: Sequence[Row], *, rounds: int, threads: int, runs: int) -> list[dict[str, Any]]:
    """Return the median and the spread, in seconds, of each row's parts over all rounds."""
    measured: list[dict[str, list[float]]] = [{part: [] for part in PARTS} for _ in rows]
    bar = ProgressBar(rounds * len(rows), sys.stderr)
    for _ in range(rounds):
        for index, row in enumerate(rows):
            task = json.dumps(asdict(replace(row.task, threads=threads, runs=runs)))
            command = [sys.executable, "-m", "benchmarks.harness.timed_engine", task]
            timed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            seconds = json.loads(timed.stdout)
            for part in PARTS:
                measured[index][part].extend(seconds[part])
            bar.advance(f"{row.network}, {row.engine} {row.precision}")
    bar.close()
    return [
        {
            "network": row.network,
            "engine": row.engine,
            "precision": row.precision,
            "runs": len(values["whole"]),
            **{part: _spread(values[part]) for part in PARTS},
        }
        for row, values in zip(rows, measured, strict=True)
    ]


def _spread(values: list[float]) -> dict[str, float]:
    return {
        "median_s": statistics.median(values),
        "min_s": min(values),
        "max_s": max(values),
    }


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the networks, and how often each row runs."""
    add_choices(parser, "--network", NETWORKS, "that are timed")
    parser.add_argument(
        "--medsam-checkpoint", type=Path, help="medsam_vit_b.pth (default: random weights)"
    )
    add_path(parser, "--calibration", DEFAULT_CALIBRATION, "images for NNCF")
    parser.add_argument(
        "--threads",
        type=at_least(1),
        default=len(os.sched_getaffinity(0)),
        help="of each engine (default: one a core)",
    )
    add_count(parser, "--rounds", 3)
    add_count(parser, "--runs", 10, "most runs of a row in a round")


def run(arguments: argparse.Namespace) -> int:
    """Time all rows, print them and write the record."""
    rows = []
    for network in arguments.network:
        checkpoint = arguments.medsam_checkpoint if network == "medsam" else None
        folders = prepare_models(network, checkpoint, arguments.calibration)
        if OWN_INT8_DIR in folders.values() and not has_onnx(OWN_INT8_DIR):
            logger.warning("No row of ONNX Runtime: %s has no ONNX files", OWN_INT8_DIR)
        rows.extend(network_rows(network, folders, checkpoint))
    timed = time_rows(rows, rounds=arguments.rounds, threads=arguments.threads, runs=arguments.runs)
    for row in timed:
        print(
            f"{row['network']:10} {row['engine']:12} {row['precision']:30} "
            + "  ".join(f"{part} {1000 * row[part]['median_s']:.0f} ms" for part in PARTS)
        )
    results = {
        "threads": arguments.threads,
        "rounds": arguments.rounds,
        "medsam_weights": "published" if arguments.medsam_checkpoint else "random",
        "rows": timed,
    }
    write_record(arguments.json, results)
    return 0


COMMAND = Command(
    "engines",
    __doc__,
    run,
    add_options,
    record=RESULTS_DIR / "engines.json",
    selecting=("network",),
    expected=(CheckpointError, ExportError),
)
