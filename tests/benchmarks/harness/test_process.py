"""Fresh processes measured from outside."""

from __future__ import annotations

import sys

import numpy as np

from benchmarks.harness.process import run_fresh


def test_time_memory_and_status_are_those_of_the_process():
    held = np.ones(50 << 20)  # 400 MB of this process are not the child's
    code = "import sys, time; a = bytearray(200 << 20); time.sleep(0.1); sys.exit('broken')"
    finished = run_fresh([sys.executable, "-c", code])
    del held
    assert finished.status == 1
    assert finished.output == "broken\n"
    assert finished.wall_s > 0.1
    assert 200 << 20 < finished.peak_bytes < 300 << 20


def test_the_limit_makes_large_allocations_fail():
    finished = run_fresh([sys.executable, "-c", "bytearray(300 << 20)"], limit_bytes=200 << 20)
    assert finished.status == 1
    assert "MemoryError" in finished.output
