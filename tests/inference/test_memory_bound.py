"""The peak of a case with the most boxes an 8-bit label map holds."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from benchmarks.curves import tile_boxes
from tests.conftest import ROOT

pytestmark = [pytest.mark.model, pytest.mark.slow]

LIMIT_BYTES = 700_000_000
HEIGHT, WIDTH = 2604, 1726  # of the largest image in the challenge's examples


def test_1000_boxes_on_a_large_image_stay_under_the_limit(tmp_path):
    generator = np.random.default_rng(0)
    coarse = generator.integers(0, 256, (HEIGHT // 8 + 1, WIDTH // 8 + 1, 3), dtype=np.uint8)
    image = coarse.repeat(8, axis=0).repeat(8, axis=1)[:HEIGHT, :WIDTH]
    boxes = tile_boxes(HEIGHT, WIDTH, 1000)
    (tmp_path / "in").mkdir()
    np.savez_compressed(tmp_path / "in" / "case.npz", imgs=image, boxes=boxes)
    report = tmp_path / "report.json"
    folders = ["-i", str(tmp_path / "in"), "-o", str(tmp_path / "out")]
    options = ["--precision", "f32", "--report", str(report), "--cache-dir", str(tmp_path / "c")]
    subprocess.run([sys.executable, "-m", "inference", *folders, *options], cwd=ROOT, check=True)
    document = json.loads(report.read_text())
    assert document["cases"][0]["boxes"] == 1000
    assert document["peak_memory_bytes"] < LIMIT_BYTES
