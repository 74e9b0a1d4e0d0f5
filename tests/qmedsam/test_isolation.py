"""What a run of the service keeps away from: other people's libraries, and the network.

Who imports whom is held by import-linter; this is what only a running process can tell.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import qmedsam
from tests.conftest import EXAMPLES, ROOT


def test_what_is_tested_is_the_checkout_here_and_in_processes(tmp_path):
    code = "import qmedsam; print(qmedsam.__file__)"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    expected = ROOT / "inference" / "qmedsam" / "__init__.py"
    assert [Path(qmedsam.__file__), Path(result.stdout.strip())] == [expected, expected]


def test_the_command_loads_neither_training_nor_telemetry():
    code = (
        "import sys, qmedsam.cli;"
        "names = {name.split('.')[0] for name, module in sys.modules.items() if module};"
        "print(sorted(names & {'torch', 'onnx', 'training', 'openvino_telemetry', 'brevitas'}))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


@pytest.mark.model
def test_a_run_opens_no_socket(tmp_path):
    code = (
        "import socket, sys, threading\n"
        "def refuse(*arguments, **options): raise RuntimeError('a socket was opened')\n"
        "socket.socket = socket.create_connection = socket.getaddrinfo = refuse\n"
        "from qmedsam.cli import main\n"
        f"status = main(['-i', {str(EXAMPLES)!r}, '-o', {str(tmp_path)!r}])\n"
        "assert threading.active_count() == 1, 'a thread is left'\n"
        "sys.exit(status)"
    )
    environment = {**os.environ, "QMEDSAM_CACHE_DIR": ""}
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, check=True)
    assert len(list(tmp_path.iterdir())) == len(list(EXAMPLES.iterdir()))
