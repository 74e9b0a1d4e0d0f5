"""The command `qmedsam serve`: how it begins and ends."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from urllib.request import urlopen

import pytest

from qmedsam.cli import main
from tests.conftest import HANGS_AFTER_S, ROOT, wait_for


def test_a_port_in_use_is_said(capsys, caplog):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert main(["serve", "--port", str(taken.getsockname()[1])]) == 2
    assert "127.0.0.1 cannot be listened on" in caplog.text
    assert "in use" in caplog.text
    assert "Serving" not in capsys.readouterr().out


@pytest.mark.parametrize(("port", "message"), [("65536", "65535 at most"), ("x", "0 or more")])
def test_a_port_that_is_none_is_said(capsys, port, message):
    with pytest.raises(SystemExit) as ended:
        main(["serve", "--port", port])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.model
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_serving_in_order(model_cache, number):
    with subprocess.Popen(
        [sys.executable, "-m", "qmedsam", "serve", "--port", "0"],
        cwd=ROOT,
        env={**os.environ, "QMEDSAM_CACHE_DIR": str(model_cache)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        address = re.search(r"http://\S+", process.stdout.readline()).group()

        def answers() -> bool:
            with urlopen(f"{address}/api") as response:
                return response.status == 200

        wait_for(answers, "An answer", process)
        process.send_signal(number)
        _, errors = process.communicate(timeout=HANGS_AFTER_S)
    assert (process.returncode, errors) == (0, "")
