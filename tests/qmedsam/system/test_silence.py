import os
import sys

import pytest

from qmedsam.system.silence import silent_libraries


def test_what_is_printed_past_python_stays_away_until_the_end(capfd):
    with silent_libraries():
        os.write(2, b"a library\n")
    os.write(2, b"this package\n")
    print("and Python", file=sys.stderr)
    assert capfd.readouterr().err == "this package\nand Python\n"


def test_an_error_ends_it_too(capfd):
    with pytest.raises(ValueError, match="broken"), silent_libraries():
        raise ValueError("broken")
    os.write(2, b"heard\n")
    assert capfd.readouterr().err == "heard\n"


def test_a_closed_standard_error_stays_closed(monkeypatch):
    monkeypatch.setattr("qmedsam.system.silence.STANDARD_ERROR", 2**20)  # which is not open
    with silent_libraries():
        pass
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(2**20)
