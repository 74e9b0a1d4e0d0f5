"""`python -m inference`, the command from a checkout."""

import sys

from .cli import main

sys.exit(main())
