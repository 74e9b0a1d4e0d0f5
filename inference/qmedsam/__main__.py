"""`python -m qmedsam`, and the command `qmedsam`: at any time a signal ends it in words."""

import os
import signal
import sys
from types import FrameType


def _end(number: int, frame: FrameType | None) -> None:
    """End the process while it imports, or a command runs that leaves signals to this."""
    os.write(2, f"ERROR: Stopped by {signal.Signals(number).name}\n".encode())
    os._exit(128 + number)


def run() -> None:
    """Run the command line and end the process with its exit status."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _end)
    # NumPy's library for matrices, of which little is asked here, starts a thread for each core as
    # it is imported, and where it cannot it raises SIGINT, as if somebody had sent one.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # Here, as the imports take a quarter of a second, in which a signal may come.
    import logging

    from .cli import main

    status = main()
    # All files are closed. Taking the compiled model apart would take another 0.08 s.
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # closed by the caller
            stream.flush()
    os._exit(status)


if __name__ == "__main__":
    run()
