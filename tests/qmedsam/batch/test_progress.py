from __future__ import annotations

import io

from qmedsam.batch.progress import ProgressBar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_sees_how_far_it_is():
    terminal = Terminal()
    bar = ProgressBar(2, terminal)
    bar.advance("a.npz")
    assert "[###############...............] 1/2" in terminal.getvalue()
    bar.advance("b.npz")
    bar.close()
    assert terminal.getvalue().endswith("2/2, 0 s left, b.npz\n")


def test_a_file_sees_nothing():
    stream = io.StringIO()
    bar = ProgressBar(1, stream)
    bar.advance("a.npz")
    bar.close()
    assert stream.getvalue() == ""


def test_no_stream_is_no_error():
    bar = ProgressBar(1, None)
    bar.advance("a.npz")
    bar.close()


class ClosedTerminal(Terminal):
    def write(self, text: str) -> int:
        raise BrokenPipeError


def test_a_terminal_that_goes_away_does_not_stop_the_work():
    bar = ProgressBar(2, ClosedTerminal())
    bar.advance("a.npz")
    bar.advance("b.npz")
    bar.close()
