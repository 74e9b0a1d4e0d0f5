"""What both schedulers run: a folder of cases, and the command."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import EXAMPLES, ROOT

# Stands for what `pip install .` makes.
QMEDSAM = '#!/bin/sh\nexec python -m qmedsam "$@"\n'
NAMES = [f"{number}.npz" for number in range(5)]


@pytest.fixture(scope="session")
def cases(tmp_path_factory) -> Path:
    """Parts of the examples: images, and a volume that most of the work is in."""
    folder = tmp_path_factory.mktemp("deploy") / "cases"
    folder.mkdir()
    image = np.load(EXAMPLES / "2DBox_Fundus_retina.npz")["imgs"]
    for number, side in enumerate((100, 200, 300, 400)):
        boxes = [[10, 10, 50, 40], [20, 30, 90, 80]]
        np.savez(folder / NAMES[number], imgs=image[:side, :side], boxes=boxes)
    volume = np.load(EXAMPLES / "3DBox_MR_brain.npz")["imgs"]
    np.savez(folder / NAMES[4], imgs=volume[:4], boxes=[[20, 20, 0, 90, 90, 3]])
    return folder


@pytest.fixture(scope="session")
def environment(tmp_path_factory, model_cache) -> dict[str, str]:
    """Of a machine where the command is installed, without Slurm's variables."""
    programs = tmp_path_factory.mktemp("programs")
    (programs / "qmedsam").write_text(QMEDSAM)
    (programs / "qmedsam").chmod(0o755)
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("SLURM_", "QMEDSAM_"))
    }
    path = [str(programs), str(Path(sys.executable).parent), os.environ["PATH"]]
    return {
        **kept,
        "PATH": os.pathsep.join(path),
        "PYTHONPATH": str(ROOT / "inference"),
        "QMEDSAM_CACHE_DIR": str(model_cache),
    }


def read_reports(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the reports of a folder by their names."""
    return {path.name: json.loads(path.read_text()) for path in folder.glob("*.json")}


def done_cases(reports: dict[str, dict[str, Any]]) -> list[str]:
    """Return the names of the cases that reports say were done, sorted."""
    cases = [case for report in reports.values() for case in report["cases"]]
    return sorted(case["name"] for case in cases if case["error"] is None)
