"""What tries files of strangers tells every bad end from a result and from a refusal."""

from __future__ import annotations

import subprocess
import sys

import cv2
import numpy as np

from tests.conftest import ROOT
from tests.qmedsam.formats.dicom.conftest import write_series

ENDS = """
import os, signal, sys, time
from tests.public_files import LIMIT_BYTES, run

def refuse():
    print("ERROR: a.png must be a picture", file=sys.stderr)
    return 2

print(run(lambda: 0).outcome)
print(run(refuse).outcome)
for work in (
    lambda: 2,
    lambda: print("a library") or 0,
    lambda: 1 // 0,
    lambda: os.kill(os.getpid(), signal.SIGSEGV),
    lambda: len(bytearray(LIMIT_BYTES)) and 0,
    lambda: time.sleep(99),
):
    print(*run(work, limit_s=2).problems)
"""


def python(*words):
    return subprocess.run(
        [sys.executable, *words], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_every_way_to_end_is_told():
    assert python("-c", ENDS).stdout.splitlines() == [
        "converted",
        "refused",
        "not one sentence on why it is refused",
        "a line of no message: a library",
        "exit status 99: ZeroDivisionError: integer division or modulo by zero",
        "ended by SIGSEGV",
        "exit status 99: MemoryError",
        "takes more than 2 s",
    ]


def test_files_and_folders_are_counted(tmp_path):
    write_series(tmp_path / "ct", 3)
    cv2.imwrite(str(tmp_path / "a.png"), np.arange(80, dtype=np.uint8).reshape(8, 10))
    (tmp_path / "b.png").write_bytes(b"none")
    (tmp_path / "notes.txt").write_text("left aside")
    result = python("-m", "tests.public_files", "--refusals", str(tmp_path))
    assert result.returncode == 0
    told, _, counts = result.stdout.partition("\n| | ")
    assert told.startswith(f"REFUSED {tmp_path / 'b.png'}: ERROR: ")
    assert len(told.splitlines()) == 1
    name = tmp_path.name
    assert counts.splitlines()[2:6] == [
        f"| {name}, files | 2 | 1 | 1 | 0 | 1 | 0 | 0 | 0 |",
        f"| {name}, DICOM files | 3 | 3 | 0 | 0 | 3 | 0 | 0 | 0 |",
        f"| {name}, DICOM folders | 1 | 1 | 0 | 0 | 1 | 0 | 0 | 0 |",
        "| all | 6 | 5 | 1 | 0 | 5 | 0 | 0 | 0 |",
    ]
