"""`python -m qmedsam`, the command from a checkout."""

import gc
import logging
import os
import sys

gc.disable()  # importing leaves hardly any garbage, and looking for it takes 0.013 s
from .cli import main  # noqa: E402

gc.enable()

status = main()
# All files are closed. Taking the compiled model apart would take another 0.08 s.
logging.shutdown()
for stream in (sys.stdout, sys.stderr):
    if stream is not None:  # closed by the caller
        stream.flush()
os._exit(status)
