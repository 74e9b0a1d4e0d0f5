"""The command `qmedsam serve`, as far as it does not serve."""

from __future__ import annotations

import socket

import pytest

from qmedsam.cli import main


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
