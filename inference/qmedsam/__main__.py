"""`python -m qmedsam`, the command without its script."""

import logging
import os
import sys

from .cli import main

status = main()
# All files are closed. Taking the compiled model apart would take another 0.08 s.
logging.shutdown()
for stream in (sys.stdout, sys.stderr):
    if stream is not None:  # closed by the caller
        stream.flush()
os._exit(status)
